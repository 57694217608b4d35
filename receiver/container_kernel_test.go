// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// A container that is gone before the next collection has its name, in metrics and in events.
func TestKernelShortLivedContainer(t *testing.T) {
	c := kernel.NewCgroup(t)
	id := strings.Repeat("0123456789abcdef", 4)
	r := kernel.Start(t, `
probes:
  cpu:
  process:
    events:
      ebpf.process.exec: { filter: { cgroups: ["`+c.Path+`"] } }
`)
	dir := filepath.Join(c.Dir, "docker-"+id+".scope")
	require.NoError(t, os.Mkdir(dir, 0o755))
	inside := c.At(dir)
	require.NoError(t, inside.Command("true").Run())
	require.NoError(t, os.Remove(dir))
	r.Stop()

	found := false
	for _, p := range r.Last("container.cpu.time") {
		found = found || p.Resource["container.id"] == id && p.Value > 0
	}
	assert.True(t, found, "no container.cpu.time of the container in %v", r.Last("container.cpu.time"))

	records := 0
	for _, ld := range r.Logs.AllLogs() {
		for _, rl := range ld.ResourceLogs().All() {
			if v, ok := rl.Resource().Attributes().Get("container.id"); ok && v.Str() == id {
				for _, record := range rl.ScopeLogs().At(0).LogRecords().All() {
					if record.EventName() == "ebpf.process.exec" {
						records++
					}
				}
			}
		}
	}
	assert.Equal(t, 1, records, "exec records of the container")
}
