// SPDX-License-Identifier: Apache-2.0

package cpu_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// Many cgroups begin to run at once: each has its own series, with all of its time.
func TestKernelManyCgroupsAtOnce(t *testing.T) {
	parent := kernel.NewCgroup(t)
	r := kernel.Start(t, byCgroup)
	var cgroups []*kernel.Cgroup
	var running []*exec.Cmd
	for i := range kernel.Load(500, 100) {
		c := parent.At(filepath.Join(parent.Dir, strconv.Itoa(i)))
		require.NoError(t, os.Mkdir(c.Dir, 0o755))
		defer os.Remove(c.Dir)
		cgroups = append(cgroups, c)
	}
	for _, c := range cgroups {
		cmd := c.Command("true")
		require.NoError(t, cmd.Start())
		running = append(running, cmd)
	}
	for _, cmd := range running {
		require.NoError(t, cmd.Wait())
	}
	want := map[string]uint64{}
	for _, c := range cgroups {
		want[c.Path] = field(t, c.Read("cpu.stat"), `(?m)^usage_usec (\d+)$`)
	}
	r.Stop()
	points := r.Last("container.cpu.time")
	have := map[string]uint64{}
	for _, c := range cgroups {
		for _, p := range kernel.With(points, "process.linux.cgroup", c.Path) {
			have[c.Path] += ns(p.Value) / 1000
		}
	}
	assert.Equal(t, want, have, "us that each cgroup used")
}
