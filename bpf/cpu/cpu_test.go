// SPDX-License-Identifier: Apache-2.0

package cpu_test

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// byCgroup breaks every metric down by cgroup, so that a test finds its own tasks.
const byCgroup = `
probes:
  cpu:
    metrics:
      ebpf.cpu.run_queue.latency: { attributes: [process.linux.cgroup] }
      container.cpu.time: { attributes: [process.linux.cgroup] }
      process.cpu.time: { enabled: true, attributes: [process.linux.cgroup, process] }
      process.context_switches: { enabled: true, attributes: [process.linux.cgroup, process] }
      ebpf.cpu.off_cpu.time: { enabled: true, attributes: [process.linux.cgroup] }
`

// schedstat is the kernel's own account of a task: ns on a CPU, ns waiting for one, times that it came onto one.
type schedstat struct {
	runtime, delay, count  uint64
	voluntary, involuntary uint64
}

// tasks reads the accounts of all tasks of a cgroup, which must not run meanwhile.
func tasks(t *testing.T, c *kernel.Cgroup) (sum schedstat) {
	t.Helper()
	for _, id := range strings.Fields(c.Read("cgroup.threads")) {
		b, err := os.ReadFile(filepath.Join("/proc", id, "schedstat"))
		require.NoError(t, err)
		var s schedstat
		_, err = fmt.Sscan(string(b), &s.runtime, &s.delay, &s.count)
		require.NoError(t, err)
		status, err := os.ReadFile(filepath.Join("/proc", id, "status"))
		require.NoError(t, err)
		sum.runtime += s.runtime
		sum.delay += s.delay
		sum.count += s.count
		sum.voluntary += field(t, string(status), `(?m)^voluntary_ctxt_switches:\s+(\d+)$`)
		sum.involuntary += field(t, string(status), `(?m)^nonvoluntary_ctxt_switches:\s+(\d+)$`)
	}
	return sum
}

func field(t *testing.T, s, expression string) uint64 {
	t.Helper()
	m := regexp.MustCompile(expression).FindStringSubmatch(s)
	require.Len(t, m, 2, "%s in %q", expression, s)
	v, err := strconv.ParseUint(m[1], 10, 64)
	require.NoError(t, err)
	return v
}

func ns(seconds float64) uint64 { return uint64(math.Round(seconds * 1e9)) }

// The workload: processes that wake each other and processes that take the CPU from each other. Each writes a letter when it
// is done, and sleeps until stdin ends. A shell's background commands have no stdin but what they are given.
const workload = `
exec 5<&0 6<>"$1" 7<>"$2"
n=1
while [ $n -le 4 ]; do
	(i=0; while [ $i -lt $3 ]; do i=$((i+1)); done; printf d; read x <&5) &
	n=$((n+1))
done
(i=0; while [ $i -lt $4 ]; do read x <&6; echo x >&7; i=$((i+1)); done; printf d; read x <&5) &
i=0
while [ $i -lt $4 ]; do echo x >&6; read x <&7; i=$((i+1)); done
printf d
read x <&5
wait
`

// start runs the workload until all of its tasks sleep.
func start(t *testing.T, c *kernel.Cgroup) (finish func()) {
	t.Helper()
	there, back := filepath.Join(t.TempDir(), "there"), filepath.Join(t.TempDir(), "back")
	require.NoError(t, unix.Mkfifo(there, 0o600))
	require.NoError(t, unix.Mkfifo(back, 0o600))
	cmd := c.Command("/bin/sh", "-c", workload, "sh", there, back, strconv.Itoa(kernel.Load(100000, 10000)), strconv.Itoa(kernel.Load(3000, 300)))
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	in := bufio.NewReader(stdout)
	for range 6 {
		_, err := in.ReadByte()
		require.NoError(t, err)
	}
	asleep(t, c)
	return func() {
		stdin.Close()
		require.NoError(t, cmd.Wait())
	}
}

// asleep waits until no task of a cgroup runs or waits to.
func asleep(t *testing.T, c *kernel.Cgroup) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, id := range strings.Fields(c.Read("cgroup.threads")) {
			b, err := os.ReadFile(filepath.Join("/proc", id, "stat"))
			if err != nil || !strings.Contains(string(b[strings.LastIndexByte(string(b), ')'):]), ") S ") {
				return false
			}
			// Sleeping is decided before the CPU is left; wchan is known after that.
			w, err := os.ReadFile(filepath.Join("/proc", id, "syscall"))
			if err != nil || strings.HasPrefix(string(w), "running") {
				return false
			}
		}
		return true
	}, time.Minute, 10*time.Millisecond)
}

func TestKernelEqualsSchedstat(t *testing.T) {
	c := kernel.NewCgroup(t)
	r := kernel.Start(t, byCgroup)
	finish := start(t, c)
	defer finish()
	want := tasks(t, c)
	r.Stop()

	latency := kernel.With(r.Last("ebpf.cpu.run_queue.latency"), "process.linux.cgroup", c.Path)
	require.Len(t, latency, 1)
	assert.Equal(t, want.count, latency[0].Count, "times that a task came onto a CPU")
	assert.Equal(t, want.delay, ns(latency[0].Sum), "ns that tasks waited for a CPU")

	cpu := kernel.With(r.Last("container.cpu.time"), "process.linux.cgroup", c.Path)
	require.Len(t, cpu, 1)
	assert.Equal(t, want.runtime, ns(cpu[0].Value), "ns that tasks ran")

	var byProcess uint64
	names := map[any]bool{}
	for _, p := range kernel.With(r.Last("process.cpu.time"), "process.linux.cgroup", c.Path) {
		byProcess += ns(p.Value)
		names[p.Attributes["process.executable.name"]] = true
	}
	assert.Equal(t, want.runtime, byProcess, "ns that processes ran")
	assert.Contains(t, names, "sh")

	switches := map[any]uint64{}
	for _, p := range kernel.With(r.Last("process.context_switches"), "process.linux.cgroup", c.Path) {
		switches[p.Attributes["process.context_switch.type"]] += uint64(p.Value)
	}
	assert.Equal(t, map[any]uint64{"voluntary": want.voluntary, "involuntary": want.involuntary}, switches)

	off := kernel.With(r.Last("ebpf.cpu.off_cpu.time"), "process.linux.cgroup", c.Path)
	require.Len(t, off, 1)
	assert.Positive(t, off[0].Count)
}

// A cgroup's own account has the tasks that are gone, too.
func TestKernelEqualsCgroupUsage(t *testing.T) {
	c := kernel.NewCgroup(t)
	r := kernel.Start(t, byCgroup)
	require.NoError(t, c.Command("sh", "-c", "for i in $(seq $0); do /bin/true; done; i=0; while [ $i -lt $1 ]; do i=$((i+1)); done",
		strconv.Itoa(kernel.Load(200, 20)), strconv.Itoa(kernel.Load(100000, 10000))).Run())
	want := field(t, c.Read("cpu.stat"), `(?m)^usage_usec (\d+)$`)
	r.Stop()
	cpu := kernel.With(r.Last("container.cpu.time"), "process.linux.cgroup", c.Path)
	require.Len(t, cpu, 1)
	assert.Equal(t, want, ns(cpu[0].Value)/1000, "us that the cgroup used")
}

// Time is counted while it passes, and not when the task ends.
func TestKernelCountsRunningTasks(t *testing.T) {
	c := kernel.NewCgroup(t)
	r := kernel.Start(t, byCgroup+"\ncollection_interval: 200ms")
	cmd := c.Command("sh", "-c", "while :; do :; done")
	require.NoError(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	seen := map[float64]bool{}
	require.Eventually(t, func() bool {
		for _, p := range kernel.With(r.Last("container.cpu.time"), "process.linux.cgroup", c.Path) {
			seen[p.Value] = true
		}
		return len(seen) >= 5
	}, time.Minute, 10*time.Millisecond, "CPU time of a task that never sleeps has to grow at each tick")
}

func TestKernelContextSwitches(t *testing.T) {
	before := ctxt(t)
	r := kernel.Start(t, "probes: { cpu: }")
	attached := ctxt(t)
	require.NoError(t, exec.Command("sleep", "0.3").Run())
	stopping := ctxt(t)
	r.Stop()
	after := ctxt(t)
	var sum uint64
	types := map[any]bool{}
	for _, p := range r.Last("ebpf.cpu.context_switches") {
		sum += uint64(p.Value)
		types[p.Attributes["process.context_switch.type"]] = true
	}
	assert.Equal(t, map[any]bool{"voluntary": true, "involuntary": true, "idle": true}, types)
	assert.GreaterOrEqual(t, sum, stopping-attached, "the kernel's count while we were attached for sure")
	assert.LessOrEqual(t, sum, after-before, "the kernel's count from before to after")
}

// ctxt is the host's number of context switches.
func ctxt(t *testing.T) uint64 {
	t.Helper()
	b, err := os.ReadFile("/proc/stat")
	require.NoError(t, err)
	return field(t, string(b), `(?m)^ctxt (\d+)$`)
}

// In a pid namespace of its own, and before Linux 5.11, states are kept in a hash. All sleeps at the end here, so that the
// account is complete.
func TestKernelHashEqualsSchedstat(t *testing.T) {
	c := kernel.NewCgroup(t)
	r := kernel.Start(t, strings.Replace(byCgroup, "cpu:", "cpu:\n    path: "+secondCandidate(t), 1))
	finish := start(t, c)
	defer finish()
	want := tasks(t, c)
	r.Stop()

	latency := kernel.With(r.Last("ebpf.cpu.run_queue.latency"), "process.linux.cgroup", c.Path)
	require.Len(t, latency, 1)
	assert.Equal(t, want.count, latency[0].Count, "times that a task came onto a CPU")
	assert.Equal(t, want.delay, ns(latency[0].Sum), "ns that tasks waited for a CPU")
	cpu := kernel.With(r.Last("container.cpu.time"), "process.linux.cgroup", c.Path)
	require.Len(t, cpu, 1)
	assert.Equal(t, want.runtime, ns(cpu[0].Value), "ns that tasks ran")
}

// secondCandidate is a folder with the probe, without its first candidate.
func secondCandidate(t *testing.T) string {
	t.Helper()
	dir := kernel.TempDir(t)
	spec, err := os.ReadFile("probe.yaml")
	require.NoError(t, err)
	without := regexp.MustCompile(`(?m)^    - programs: \[switch_storage.*\n.*\n`).ReplaceAll(spec, nil)
	require.NotEqual(t, len(spec), len(without))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "probe.yaml"), without, 0o644))
	object, err := os.ReadFile("cpu.bpf.o")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cpu.bpf.o"), object, 0o644))
	return dir
}
