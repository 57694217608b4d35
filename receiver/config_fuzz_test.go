// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
	"go.yaml.in/yaml/v3"
)

// Whatever is written below "ebpf:" is taken or told to be wrong, and what is taken can be taken again.
func FuzzConfig(f *testing.F) {
	files, err := filepath.Glob("testdata/config/*.yaml")
	require.NoError(f, err)
	require.NotEmpty(f, files)
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(string(b))
	}
	f.Add("probes: { flow: { interfaces: [eth*], filter: \"tcp and not port 22\", cidrs: [ 10.0.0.0/8: office ], ports: all } }")
	f.Add("probes: { process: { ring_size: 64KiB, events: { ebpf.process.exec: { filter: { cgroups: [/a], uids: [0], pids: [1] }, rate_limit: 5 } } } }")
	f.Fuzz(func(t *testing.T, text string) {
		var values map[string]any
		if yaml.Unmarshal([]byte(text), &values) != nil {
			t.Skip("no YAML")
		}
		read := func() error {
			cfg := createDefaultConfig().(*Config)
			if err := confmap.NewFromStringMap(values).Unmarshal(cfg); err != nil {
				return err
			}
			return cfg.Validate()
		}
		first, second := read(), read()
		require.Equal(t, first == nil, second == nil, "%v, and then %v", first, second)
		if first != nil {
			require.NotEmpty(t, first.Error())
			require.Equal(t, first.Error(), second.Error(), "a mistake is always told the same way")
		}
	})
}
