// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
)

// Each metric and event of a built-in probe is spoken of in the tests beside it.
func TestBuiltinProbesAreTested(t *testing.T) {
	specs, err := Builtin(bpf.Probes)
	require.NoError(t, err)
	for name, spec := range specs {
		files, err := filepath.Glob(filepath.Join("..", "..", "bpf", name, "*_test.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files, "probe %s has no tests", name)
		var all strings.Builder
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			all.Write(text)
		}
		for _, metric := range append(sortedKeys(spec.Metrics), sortedKeys(spec.Events)...) {
			assert.Contains(t, all.String(), metric, "probe %s", name)
		}
	}
}
