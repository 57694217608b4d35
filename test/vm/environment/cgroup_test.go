// SPDX-License-Identifier: Apache-2.0

//go:build linux

package environment_test

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// command is one whose output nobody needs.
func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	return cmd
}

// hierarchies are where cgroups can be made, by the kernel's own account.
func hierarchies(t *testing.T) (v1, v2 []string) {
	t.Helper()
	f, err := os.Open("/proc/self/mounts")
	require.NoError(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		switch fields := strings.Fields(lines.Text()); fields[2] {
		case "cgroup":
			v1 = append(v1, fields[1])
		case "cgroup2":
			v2 = append(v2, fields[1])
		}
	}
	require.NoError(t, lines.Err())
	return v1, v2
}

// container is a shell in a cgroup that is called as Docker calls them, in some hierarchies.
type container struct {
	id, path string
	shell    *exec.Cmd
	input    io.WriteCloser
	output   *bufio.Reader
}

func newContainer(t *testing.T, mounts []string) *container {
	t.Helper()
	c := &container{id: strings.Repeat("0123456789abcdef", 4)}
	c.path = "/docker/" + c.id
	c.shell = command("/bin/sh", "-c", `while read n; do i=0; while [ $i -lt $n ]; do /bin/true; i=$((i+1)); done; echo done; done`)
	var err error
	c.input, err = c.shell.StdinPipe()
	require.NoError(t, err)
	output, err := c.shell.StdoutPipe()
	require.NoError(t, err)
	c.output = bufio.NewReader(output)
	require.NoError(t, c.shell.Start())
	c.run(t, 0) // it is asleep, or about to be
	for _, mount := range mounts {
		dir := mount + c.path
		require.NoError(t, os.MkdirAll(dir, 0o755))
		if strings.Contains(mount, "cpuset") { // which has no processors until it is given some
			for _, d := range []string{filepath.Dir(dir), dir} {
				for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
					value, err := os.ReadFile(filepath.Join(mount, file))
					require.NoError(t, err)
					require.NoError(t, os.WriteFile(filepath.Join(d, file), value, 0))
				}
			}
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(c.shell.Process.Pid)), 0))
	}
	t.Cleanup(func() {
		c.end(t)
		for _, mount := range mounts {
			require.NoError(t, os.Remove(mount+c.path))
			require.NoError(t, os.Remove(filepath.Dir(mount+c.path)))
		}
	})
	return c
}

// run runs a program in the container some times.
func (c *container) run(t *testing.T, n int) {
	t.Helper()
	_, err := fmt.Fprintln(c.input, n)
	require.NoError(t, err)
	_, err = c.output.ReadString('\n')
	require.NoError(t, err)
}

func (c *container) end(t *testing.T) {
	t.Helper()
	if c.input == nil {
		return
	}
	require.NoError(t, c.input.Close())
	c.input = nil
	require.NoError(t, c.shell.Wait())
}

// requireContainer holds what a receiver says of a container against what was run in it, and against the kernel's account.
func requireContainer(t *testing.T, mounts []string, usage func(c *container) float64) {
	t.Helper()
	const n = 20
	c := newContainer(t, mounts)
	r := start(t, `
probes:
  cpu: { metrics: { container.cpu.time: { attributes: [container, process.linux.cgroup] } } }
  process: { metrics: { system.process.created: { attributes: [container, cgroup] } } }
`)
	require.Empty(t, r.complaints())
	before := usage(c)
	c.run(t, n)
	c.end(t)
	after := usage(c)
	r.stop()

	own := func(points []kernel.Point) (sum float64) {
		for _, p := range points {
			if p.Resource["container.id"] == c.id {
				require.Equal(t, c.path, p.Attributes["process.linux.cgroup"])
				sum += p.Value
			}
		}
		return sum
	}
	require.InDelta(t, float64(n), own(r.Last("system.process.created")), 0, "%v", r.Last("system.process.created"))
	got := own(r.Last("container.cpu.time"))
	// What the shell used while it was woken, before it ran in the container, is at most this.
	require.InDelta(t, after-before, got, math.Max(0.002, 0.02*(after-before)), "CPU time in seconds")
	records := 0
	for _, ld := range r.Logs.AllLogs() {
		for _, rl := range ld.ResourceLogs().All() {
			if id, ok := rl.Resource().Attributes().Get("container.id"); ok && id.Str() == c.id {
				for _, record := range rl.ScopeLogs().At(0).LogRecords().All() {
					if record.EventName() == "ebpf.process.exec" {
						records++
					}
				}
			}
		}
	}
	require.Equal(t, n, records, "exec records of the container")
}

// cpuacct is what the v1 controller says that a container used, in seconds.
func cpuacct(t *testing.T) func(c *container) float64 {
	return func(c *container) float64 {
		t.Helper()
		text, err := os.ReadFile("/sys/fs/cgroup/cpu,cpuacct" + c.path + "/cpuacct.usage")
		require.NoError(t, err)
		ns, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
		require.NoError(t, err)
		return ns / 1e9
	}
}

// Containers have their names where cgroups are of the first version only, and where both are mounted: with the containers
// in both, as Docker has them, or in the first only.
func TestKernelCgroups(t *testing.T) {
	here := need(t, "cgroup-v1", "cgroup-hybrid")
	v1, v2 := hierarchies(t)
	require.NotEmpty(t, v1)
	if here == "cgroup-v1" {
		require.Empty(t, v2)
		requireContainer(t, v1, cpuacct(t))
	} else {
		require.Len(t, v2, 1)
		t.Run("in both", func(t *testing.T) { requireContainer(t, append(v1, v2...), cpuacct(t)) })
		t.Run("in v1", func(t *testing.T) { requireContainer(t, v1, cpuacct(t)) })
	}
	t.Attr(outcome.Holds, outcome.Works)
}
