// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// logRecord is a log record with what it belongs to.
type logRecord struct {
	Time, Observed       time.Time
	Severity, Body       string
	Resource, Attributes map[string]any
}

// logsOf are the delivered records of an event.
func logsOf(r *kernel.Run, name string) []logRecord {
	var found []logRecord
	for _, ld := range r.Logs.AllLogs() {
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, l := range sl.LogRecords().All() {
					if l.EventName() != name {
						continue
					}
					found = append(found, logRecord{
						Time: l.Timestamp().AsTime(), Observed: l.ObservedTimestamp().AsTime(),
						Severity: l.SeverityText(), Body: l.Body().AsString(),
						Resource: rl.Resource().Attributes().AsRaw(), Attributes: l.Attributes().AsRaw(),
					})
				}
			}
		}
	}
	return found
}

func TestKernelProcessThroughTheReceiver(t *testing.T) {
	kernel.NeedRoot(t)
	group := newCgroup(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "a-program-with-a-long-name")
	copyProgram(t, "/bin/sleep", program)

	start := time.Now()
	r := kernel.Start(t, fmt.Sprintf(`
probes:
  process:
    max_args: 64B
    metrics:
      system.process.created: { attributes: [cgroup] }
      ebpf.process.lifetime: { attributes: [cgroup] }
      ebpf.process.exec.failures: { enabled: true, attributes: [cgroup, error.type] }
    events:
      ebpf.process.exec: { filter: { cgroups: [%[1]q] } }
      ebpf.process.exit: { filter: { cgroups: [%[1]q] } }
      ebpf.process.fork: { enabled: true, filter: { cgroups: [%[1]q] } }
      ebpf.process.signal: { enabled: true, filter: { cgroups: [%[1]q] } }
      ebpf.process.oom_kill: { enabled: true, filter: { cgroups: [%[1]q] } }
`, group.Path))

	for range 100 {
		require.Zero(t, finish(t, group.command("/bin/true")).ExitCode())
	}
	cmd := group.command(program, "1000", strings.Repeat("0", 100))
	cmd.Args[0] = "\xffsleep"
	cmd.Dir = dir
	require.NoError(t, cmd.Start())
	created := createdAt(t, cmd.Process.Pid)
	require.NoError(t, cmd.Process.Signal(unix.SIGTERM))
	_ = cmd.Wait()
	require.Equal(t, unix.SIGTERM, cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
	require.Zero(t, finish(t, group.child(t, "fail:execve,9,"+filepath.Join(dir, "absent"))).ExitCode())
	skipped := r.Skipped()
	r.Stop()

	pid := int64(cmd.Process.Pid)
	one := func(event string) logRecord {
		t.Helper()
		var found []logRecord
		for _, l := range logsOf(r, event) {
			require.Equal(t, group.Path, l.Attributes["process.linux.cgroup"])
			if l.Attributes["process.pid"] == pid {
				found = append(found, l)
			}
		}
		require.Len(t, found, 1, event)
		l := found[0]
		require.WithinRange(t, l.Time, start.Add(-time.Second), l.Observed.Add(time.Second))
		at, err := time.Parse(time.RFC3339Nano, l.Attributes["process.creation.time"].(string))
		require.NoError(t, err)
		require.WithinDuration(t, created, at, 20*time.Millisecond)
		require.EqualValues(t, os.Getpid(), l.Attributes["process.parent_pid"])
		require.Equal(t, pid, l.Attributes["process.vpid"])
		return l
	}
	const processes = 102
	for _, event := range []string{"ebpf.process.exec", "ebpf.process.exit", "ebpf.process.fork"} {
		allButSkipped(t, processes, len(logsOf(r, event)), skipped, event)
	}

	l := one("ebpf.process.exec")
	require.Equal(t, "exec "+program+fmt.Sprintf(" pid=%d", pid), l.Body)
	require.Equal(t, program, l.Attributes["process.executable.path"])
	require.Equal(t, filepath.Base(program), l.Attributes["process.executable.name"])
	require.Equal(t, filepath.Base(program)[:15], l.Attributes["ebpf.process.comm"])
	// Cut at 64 bytes, and what is not text made text.
	require.Equal(t, []any{"\uFFFDsleep", "1000", strings.Repeat("0", 64-len("?sleep+1000+"))}, l.Attributes["process.command_args"])
	require.Equal(t, true, l.Attributes["ebpf.process.command_args.truncated"])
	require.EqualValues(t, 3, l.Attributes["process.args_count"])
	require.EqualValues(t, len("?sleep+1000++")+100, l.Attributes["ebpf.process.command_args.size"])
	require.Equal(t, dir, l.Attributes["process.working_directory"])
	require.EqualValues(t, 0, l.Attributes["process.user.id"])
	require.Equal(t, "root", l.Attributes["process.user.name"])
	require.EqualValues(t, 0, l.Attributes["process.real_user.id"])
	require.EqualValues(t, 0, l.Attributes["ebpf.process.group.id"])
	require.NotContains(t, l.Attributes, "ebpf.process.executable.memfd")

	l = one("ebpf.process.exit")
	require.EqualValues(t, 128+unix.SIGTERM, l.Attributes["process.exit.code"])
	require.Equal(t, "SIGTERM", l.Attributes["ebpf.process.exit.signal"])
	require.NotContains(t, l.Attributes, "ebpf.process.exit.core_dumped")
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	require.EqualValues(t, usage.Maxrss<<10, l.Attributes["ebpf.process.memory.peak"])
	spent := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	require.InDelta(t, spent.Seconds(), l.Attributes["ebpf.process.cpu.time"], float64(kernel.Load(20, 100))/1000)
	require.Positive(t, l.Attributes["ebpf.process.lifetime"])

	l = one("ebpf.process.fork")
	require.EqualValues(t, os.Getpid(), l.Attributes["ebpf.process.creator.pid"])

	l = one("ebpf.process.signal")
	require.Equal(t, "SIGTERM", l.Attributes["ebpf.process.signal.name"])
	require.Equal(t, "delivered", l.Attributes["ebpf.process.signal.result"])
	require.EqualValues(t, os.Getpid(), l.Attributes["ebpf.process.signal.sender.pid"])
	require.Empty(t, logsOf(r, "ebpf.process.oom_kill"))

	own := func(metric string) []kernel.Point {
		return kernel.With(r.Last(metric), "process.linux.cgroup", group.Path)
	}
	require.Len(t, own("system.process.created"), 1)
	allButSkipped(t, processes, int(own("system.process.created")[0].Value), skipped, "created")
	require.Len(t, own("ebpf.process.lifetime"), 1)
	allButSkipped(t, processes, int(own("ebpf.process.lifetime")[0].Count), skipped, "lifetime")
	failures := own("ebpf.process.exec.failures")
	require.Len(t, failures, 1)
	require.Equal(t, "ENOENT", failures[0].Attributes["error.type"])
	require.EqualValues(t, 9, failures[0].Value)
}

// createdAt is what /proc says of a process's start, which is in hundredths of a second since the boot.
func createdAt(t *testing.T, pid int) time.Time {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(t, err)
	_, fields, _ := strings.Cut(string(stat), ") ")
	ticks, err := strconv.ParseInt(strings.Fields(fields)[19], 10, 64)
	require.NoError(t, err)
	// Whoever is kept waiting between the two clocks finds them further apart than they are.
	var booted time.Time
	for range 10 {
		var boot unix.Timespec
		require.NoError(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot))
		if at := time.Now().Add(-time.Duration(boot.Nano())); booted.IsZero() || at.Before(booted) {
			booted = at
		}
	}
	return booted.Add(time.Duration(ticks) * 10 * time.Millisecond)
}

// A filter of commands looks at the process's name, whichever of its threads the event is of.
func TestKernelProcessFilterOfCommands(t *testing.T) {
	kernel.NeedRoot(t)
	group := newCgroup(t)
	comm, err := os.ReadFile("/proc/self/comm")
	require.NoError(t, err)
	r := kernel.Start(t, fmt.Sprintf(`
probes:
  process:
    events:
      ebpf.process.exec: { enabled: false }
      ebpf.process.exit: { filter: { cgroups: [%q], commands: [%q] } }
`, group.Path, strings.TrimSpace(string(comm))))
	const n = 10
	for range n {
		require.Equal(t, 5, finish(t, group.child(t, "leader_first")).ExitCode())
		require.Zero(t, finish(t, group.command("/bin/true")).ExitCode())
	}
	skipped := r.Skipped()
	r.Stop()
	allButSkipped(t, n, len(logsOf(r, "ebpf.process.exit")), skipped, "exits")
}

// allButSkipped holds that all are there but for runs that the kernel skipped, which it does where a task is preempted in a program (Linux 7.2).
func allButSkipped(t *testing.T, want, have, skipped int, what string) {
	t.Helper()
	require.LessOrEqual(t, have, want, what)
	require.GreaterOrEqual(t, have, want-skipped, what)
}

// That the kernel counts the runs of programs takes more than the programs do.
func TestKernelProcessProgramStatistics(t *testing.T) {
	kernel.NeedRoot(t)
	kernel.Needs(t, "`program_statistics`", "CAP_SYS_ADMIN")
	r := kernel.Start(t, "program_statistics: true\nprobes: { process: }")
	require.Equal(t, 1, r.Held().Descriptors["anon_inode:bpf-stats"])
	r.Stop()
	require.Zero(t, kernel.Held(t).Descriptors["anon_inode:bpf-stats"])
}
