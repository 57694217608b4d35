// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// fakeProc writes a process of a made-up host.
func fakeProc(t testing.TB, root string, pid int, comm, exe string, parent int, start uint64) {
	t.Helper()
	dir := filepath.Join(root, "proc", strconv.Itoa(pid))
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(dir+"/stat", []byte(statLine(pid, "from stat", parent, start/tick)), 0o644))
	require.NoError(t, os.WriteFile(dir+"/comm", []byte(comm+"\n"), 0o644))
	if exe != "" {
		require.NoError(t, os.Symlink(exe, dir+"/exe"))
	}
}

func TestProcessesResolve(t *testing.T) {
	root := t.TempDir()
	const start = 5_000_000_123 // ns
	fakeProc(t, root, 41, "tmux: server", "/usr/bin/tmux", 7, start)
	fakeProc(t, root, 42, "gone (x)", "/opt/app (deleted)", 7, start)
	fakeProc(t, root, 43, "kworker/0:1-events", "", 2, start)
	fakeProc(t, root, 44, "", "", 2, start)
	require.NoError(t, os.Remove(root+"/proc/44/comm"))

	p := NewProcesses(ProcessOptions{Root: root})
	for _, want := range []Process{
		{PID: 41, Start: start, Name: "tmux: server", ExecutablePath: "/usr/bin/tmux", ParentPID: 7},
		{PID: 42, Start: start, Name: "gone (x)", ExecutablePath: "/opt/app", ParentPID: 7},
		{PID: 43, Start: start, Name: "kworker/0:1-events", ParentPID: 2},
		{PID: 44, Start: start, Name: "from stat", ParentPID: 2},
	} {
		got, ok := p.Resolve(want.PID, want.Start)
		require.True(t, ok, want.Name)
		assert.Equal(t, &want, got)
		again, _ := p.Resolve(want.PID, want.Start)
		assert.Same(t, got, again)
	}
	// Without a start time, whoever it is.
	got, ok := p.Resolve(41, 0)
	require.True(t, ok)
	assert.Equal(t, &Process{PID: 41, Name: "tmux: server", ExecutablePath: "/usr/bin/tmux", ParentPID: 7}, got)
}

func TestProcessesCompareStartTimes(t *testing.T) {
	root := t.TempDir()
	start := 500 * tick
	fakeProc(t, root, 41, "x", "", 1, start)
	for offset, want := range map[int64]bool{
		0: true, int64(tick) - 1: true, 2*int64(tick) - 1: true, 2 * int64(tick): false,
		-1: true, -int64(tick): true, -int64(tick) - 1: false, 1 << 50: false,
	} {
		_, ok := NewProcesses(ProcessOptions{Root: root}).Resolve(41, uint64(int64(start)+offset))
		assert.Equal(t, want, ok, "off by %d ns", offset)
	}
}

func TestProcessesKnowTheGone(t *testing.T) {
	root, clock := t.TempDir(), newFakeTime()
	start := 500 * tick
	fakeProc(t, root, 41, "old", "/bin/old", 1, start)
	p := NewProcesses(ProcessOptions{Root: root, Now: clock.Now, TTL: 10 * time.Second, GoneTTL: time.Minute})
	old, ok := p.Resolve(41, start)
	require.True(t, ok)

	// Renamed: seen when what was read is no longer taken for true.
	fakeProc(t, root, 41, "new", "/bin/old", 1, start)
	clock.Add(10*time.Second - 1)
	same, _ := p.Resolve(41, start)
	assert.Same(t, old, same)
	clock.Add(1)
	renamed, ok := p.Resolve(41, start)
	require.True(t, ok)
	assert.Equal(t, "new", renamed.Name)

	// Its pid is another's now.
	fakeProc(t, root, 41, "other", "/bin/other", 1, start+1000*tick)
	clock.Add(10 * time.Second)
	known, ok := p.Resolve(41, start)
	require.True(t, ok)
	assert.Same(t, renamed, known)
	other, ok := p.Resolve(41, start+1000*tick)
	require.True(t, ok)
	assert.Equal(t, "other", other.Name)
}

func TestProcessesUnknownIsTriedAgain(t *testing.T) {
	root, clock := t.TempDir(), newFakeTime()
	p := NewProcesses(ProcessOptions{Root: root, Now: clock.Now, NegativeTTL: time.Second})
	_, ok := p.Resolve(41, tick)
	assert.False(t, ok)
	fakeProc(t, root, 41, "late", "", 1, tick)
	_, ok = p.Resolve(41, tick)
	assert.False(t, ok)
	clock.Add(time.Second)
	got, ok := p.Resolve(41, tick)
	require.True(t, ok)
	assert.Equal(t, "late", got.Name)
}

func TestProcessesLearn(t *testing.T) {
	root, clock := t.TempDir(), newFakeTime()
	p := NewProcesses(ProcessOptions{Root: root, Now: clock.Now, GoneTTL: time.Minute})
	_, ok := p.Resolve(41, 77)
	assert.False(t, ok)

	want := Process{PID: 41, Start: 77, Name: "sh", ExecutablePath: "/bin/dash", ParentPID: 1, CgroupID: 5}
	p.Learn(want)
	clock.Add(24 * time.Hour)
	got, ok := p.Resolve(41, 77)
	require.True(t, ok)
	assert.Equal(t, &want, got)

	want.Name = "ls"
	p.Learn(want)
	got, _ = p.Resolve(41, 77)
	assert.Equal(t, "ls", got.Name)
	_, ok = p.Resolve(41, 78)
	assert.False(t, ok, "another process with the same pid")

	p.MarkGone(41, 77)
	clock.Add(time.Minute - 1)
	got, ok = p.Resolve(41, 77)
	require.True(t, ok)
	assert.Equal(t, "ls", got.Name)
}

func TestProcessesAreBounded(t *testing.T) {
	p := NewProcesses(ProcessOptions{Root: t.TempDir(), Max: 8})
	for pid := range uint32(100) {
		p.Learn(Process{PID: pid + 1, Start: 1, Name: "x"})
		p.Resolve(pid+1000, 1)
		assert.LessOrEqual(t, p.Len(), 8)
	}
}

func TestProcessesConcurrently(t *testing.T) {
	root := t.TempDir()
	fakeProc(t, root, 41, "steady", "/bin/steady", 1, tick)
	p := NewProcesses(ProcessOptions{Root: root, Max: 20})
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range uint32(500) {
				p.Learn(Process{PID: 100 + i%30, Start: 1, Name: "learned"})
				p.MarkGone(100+i%30, 1)
				if got, ok := p.Resolve(100+i%30, 1); ok && got.Name != "learned" {
					t.Errorf("%+v", got)
				}
				if got, ok := p.Resolve(41, tick); !ok || got.Name != "steady" {
					t.Errorf("%+v", got)
				}
			}
		})
	}
	group.Wait()
}

// A child of ours, whose start is between two readings of the boot clock.
func TestKernelProcesses(t *testing.T) {
	needRoot(t)
	h, err := DetectHierarchy("")
	require.NoError(t, err)
	cgroups := openCgroups(t, h)
	name := makeCgroup(t, h, uniqueName())

	// Joins the cgroup, says so, and waits.
	cmd := exec.Command("/bin/sh", "-c", `echo 0 > "$0" && echo ready && read -r line`, h.Mount+name+"/cgroup.procs")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	before := bootNow(t)
	require.NoError(t, cmd.Start())
	after := bootNow(t)
	ended := false
	end := func() {
		if !ended {
			ended = true
			stdin.Close()
			_ = cmd.Wait()
		}
	}
	defer end()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)

	pid := uint32(cmd.Process.Pid)
	shell, err := filepath.EvalSymlinks("/bin/sh")
	require.NoError(t, err)
	p := NewProcesses(ProcessOptions{Cgroups: cgroups})
	// It started at some time in the bracket, which is as long as this machine is slow.
	var got *Process
	start := before
	for ok := false; !ok; start += tick {
		require.Less(t, start, after+tick, "no start time in the bracket is right")
		if got, ok = p.Resolve(pid, start); ok {
			break
		}
	}
	assert.Equal(t, &Process{
		PID: pid, Start: start, Name: "sh", ExecutablePath: shell,
		ParentPID: uint32(os.Getpid()), CgroupID: inodeOf(t, h.Mount+name),
	}, got)
	_, ok := p.Resolve(pid, before-3*tick)
	assert.False(t, ok)
	_, ok = p.Resolve(pid, after+3*tick)
	assert.False(t, ok)

	end()
	got, ok = p.Resolve(pid, start)
	assert.True(t, ok)
	assert.Equal(t, "sh", got.Name)
	_, ok = NewProcesses(ProcessOptions{}).Resolve(pid, start)
	assert.False(t, ok)
}

func bootNow(t testing.TB) uint64 {
	t.Helper()
	var ts unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts))
	return uint64(ts.Nano())
}

func BenchmarkProcessesResolve(b *testing.B) {
	p := NewProcesses(ProcessOptions{Root: b.TempDir()})
	for pid := range uint32(1000) {
		p.Learn(Process{PID: pid, Start: uint64(pid), Name: "x"})
	}
	b.Run("learned", func(b *testing.B) {
		b.ReportAllocs()
		for pid := uint32(0); b.Loop(); pid++ {
			p.Resolve(pid%1000, uint64(pid%1000))
		}
	})
	b.Run("unknown", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p.Resolve(5000, 1)
		}
	})
	b.Run("read", func(b *testing.B) {
		p := NewProcesses(ProcessOptions{})
		pid := uint32(os.Getpid())
		b.ReportAllocs()
		for b.Loop() {
			p.cache.remove(processKey{pid: pid})
			p.Resolve(pid, 0)
		}
	})
}
