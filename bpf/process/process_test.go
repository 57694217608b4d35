// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

func TestKernelProcessCountsAreExact(t *testing.T) {
	kernel.NeedRoot(t)
	for _, exit := range exitPrograms(t) {
		t.Run(exit, func(t *testing.T) {
			n := kernel.Load(1000, 50)
			group := newCgroup(t)
			p := loadProcess(t, processOptions{
				Programs:  []string{"process_exec", "process_fork", exit},
				Events:    []uint32{eventExec, eventExit, eventFork},
				Cgroup:    group,
				Variables: map[string]any{"by_cgroup": true, "created_enabled": true, "lifetime_enabled": true},
			})
			pids := make([]uint32, n)
			for i := range pids {
				state := finish(t, group.command("/bin/true"))
				require.Zero(t, state.ExitCode())
				pids[i] = uint32(state.Pid())
			}
			records := p.drain()
			var execs, exits, forks []uint32
			for _, e := range decodeExecs(t, records[eventExec]) {
				execs = append(execs, e.Process.PID)
				require.Equal(t, group.ID, e.Process.Cgroup)
			}
			for _, e := range decodeAll[exitEvent](t, records[eventExit]) {
				exits = append(exits, e.Process.PID)
				require.Less(t, e.Lifetime, uint64(time.Minute))
			}
			for _, e := range decodeAll[forkEvent](t, records[eventFork]) {
				forks = append(forks, e.Process.PID)
				require.EqualValues(t, os.Getpid(), e.CreatorPID)
				require.EqualValues(t, os.Getpid(), e.Process.ParentPID)
			}
			require.Equal(t, pids, execs)
			require.Equal(t, pids, exits)
			require.Equal(t, pids, forks)
			for id := range uint32(3) {
				s := p.requireBalanced(id)
				require.EqualValues(t, n, s.Submitted)
				require.Zero(t, s.Dropped+s.Limited)
			}
			var created uint64
			require.NoError(t, p.tables["processes_created"].Lookup(group.ID, &created))
			require.EqualValues(t, n, created)
			raw, err := p.tables["process_lifetimes"].LookupBytes(group.ID)
			require.NoError(t, err)
			sum, count := histogram(raw)
			require.EqualValues(t, n, count)
			require.Positive(t, sum)
		})
	}
}

func TestKernelProcessExitStatus(t *testing.T) {
	kernel.NeedRoot(t)
	group := newCgroup(t)
	p := loadProcess(t, processOptions{Programs: exitPrograms(t)[:1], Events: []uint32{eventExit}, Cgroup: group})
	exitOf := func(state *os.ProcessState) exitEvent {
		t.Helper()
		exits := decodeAll[exitEvent](t, p.drain()[eventExit])
		require.Len(t, exits, 1)
		require.EqualValues(t, state.Pid(), exits[0].Process.PID)
		return exits[0]
	}
	for code := 0; code < 256; code += kernel.Load(1, 51) {
		state := finish(t, group.command("/bin/sh", "-c", "exit "+strconv.Itoa(code)))
		require.Equal(t, code, state.ExitCode())
		e := exitOf(state)
		require.EqualValues(t, code, e.Code)
		require.Zero(t, e.Signal)
		require.False(t, e.CoreDumped)
	}
	ended := 0
	for signal := syscall.Signal(1); signal <= 64; signal++ {
		switch signal {
		case unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH: // do nothing by default
			continue
		case unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU: // stop
			continue
		}
		limits := []string{"0", "unlimited"}
		if testing.Short() {
			limits = limits[signal%2:][:1]
		}
		for _, core := range limits {
			// The shell signals itself: no moment at which a handler of its parent were still in place.
			cmd := group.command("/bin/bash", "-c", fmt.Sprintf("ulimit -c %s; kill -%d $$", core, signal))
			cmd.Dir = t.TempDir() // for the core
			state := finish(t, cmd)
			status := state.Sys().(syscall.WaitStatus)
			e := exitOf(state)
			require.Equal(t, status.ExitStatus() == -1, e.Signal != 0)
			if status.Signaled() {
				ended++
				require.EqualValues(t, status.Signal(), e.Signal)
				require.EqualValues(t, 128+int(status.Signal()), e.Code)
			}
			require.Equal(t, status.CoreDump(), e.CoreDumped, signal)
		}
	}
	require.GreaterOrEqual(t, ended, kernel.Load(100, 50))
}

// The last threads of a process meet when it ends; it has ended once.
func TestKernelProcessThreadsEndTogether(t *testing.T) {
	kernel.NeedRoot(t)
	n := kernel.Load(50, 15)
	group := newCgroup(t)
	p := loadProcess(t, processOptions{
		Programs: []string{"process_exit_counted"}, Events: []uint32{eventExit}, Cgroup: group,
	})
	var pids, exits []uint32
	for range n {
		pids = append(pids, uint32(finish(t, group.child(t, "end_together")).Pid()))
	}
	for _, e := range decodeAll[exitEvent](t, p.drain()[eventExit]) {
		exits = append(exits, e.Process.PID)
	}
	require.Equal(t, pids, exits)
}

func TestKernelProcessUsage(t *testing.T) {
	kernel.NeedRoot(t)
	// After the record the kernel still has to free the process's memory. Before it, other threads may be in the middle of
	// what they do to end; and time that the host of a virtual machine took is not known to be taken until the next tick.
	const slack = 20 * time.Millisecond
	for _, exit := range exitPrograms(t) {
		for _, mode := range []string{"burn", "threads", "leader_first"} {
			t.Run(exit+"/"+mode, func(t *testing.T) {
				group := newCgroup(t)
				p := loadProcess(t, processOptions{Programs: []string{exit, "scheduler_clock_read"}, Events: []uint32{eventExit}, Cgroup: group})
				before := time.Now()
				state := finish(t, group.child(t, mode))
				wall, booted := time.Since(before), bootTime(t)
				exits := decodeAll[exitEvent](t, p.drain()[eventExit])
				require.Len(t, exits, 1)
				e := exits[0]
				require.EqualValues(t, state.Pid(), e.Process.PID)
				require.EqualValues(t, state.ExitCode(), e.Code)
				usage := state.SysUsage().(*syscall.Rusage)
				require.EqualValues(t, usage.Maxrss<<10, e.MemoryPeak)
				total := state.UserTime() + state.SystemTime()
				got := time.Duration(e.CPUTime)
				// On emulated processors all of the end takes longer, and a machine may stand still in it.
				slack := slack + booted - time.Duration(e.Header.Time)
				if testing.Short() {
					slack += total / 20
				}
				t.Logf("cpu %v of %v, user %v of %v, lifetime %v of %v", got, total,
					time.Duration(e.UserTime), state.UserTime(), time.Duration(e.Lifetime), wall)
				require.InDelta(t, total, got, float64(slack))
				require.Equal(t, e.CPUTime, e.UserTime+e.SystemTime)
				require.InDelta(t, state.UserTime(), time.Duration(e.UserTime), float64(slack))
				require.LessOrEqual(t, time.Duration(e.Lifetime), wall)
				require.Greater(t, time.Duration(e.Lifetime), total/8)
			})
		}
	}
}

// bootTime is the clock of records.
func bootTime(t *testing.T) time.Duration {
	t.Helper()
	var boot unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot))
	return time.Duration(boot.Nano())
}

// Processes that are shorter than a tick are what the scheduler has hardly any time of when they end.
func TestKernelProcessUsageOfShortOnes(t *testing.T) {
	kernel.NeedRoot(t)
	group := newCgroup(t)
	p := loadProcess(t, processOptions{
		Programs: []string{exitPrograms(t)[0], "scheduler_clock_read"}, Events: []uint32{eventExit}, Cgroup: group,
	})
	var total, got time.Duration
	n := kernel.Load(300, 40)
	ends := make([]time.Duration, n)
	for i := range n {
		state := finish(t, group.command("/bin/true"))
		ends[i] = bootTime(t)
		total += state.UserTime() + state.SystemTime()
	}
	exits := decodeAll[exitEvent](t, p.drain()[eventExit])
	require.Len(t, exits, n)
	const still = 50 * time.Millisecond
	var stood time.Duration
	for i, e := range exits {
		got += time.Duration(e.CPUTime)
		// When a machine stands still after the record, that may be the process's time as well.
		if after := ends[i] - time.Duration(e.Header.Time); after > still {
			stood += after
		}
	}
	t.Logf("cpu %v of %v, of which it stood still for %v", got, total, stood)
	require.Greater(t, got, (total-stood)*6/10) // the rest is spent after the record; without the running slice, it is a quarter
	require.Less(t, got, total*12/10)
}

// A thread of a process that executes a program takes the process over: no process ends by it.
func TestKernelProcessExecFromThread(t *testing.T) {
	kernel.NeedRoot(t)
	group := newCgroup(t)
	p := loadProcess(t, processOptions{
		Programs: []string{"process_exec", exitPrograms(t)[0]}, Events: []uint32{eventExec, eventExit}, Cgroup: group,
	})
	state := finish(t, group.child(t, "exec_from_thread"))
	require.Zero(t, state.ExitCode())
	records := p.drain()
	execs := decodeExecs(t, records[eventExec])
	require.Len(t, execs, 2)
	exits := decodeAll[exitEvent](t, records[eventExit])
	require.Len(t, exits, 1)
	require.Equal(t, []string{"true", "from-a-thread"}, execs[1].Args)
	for _, info := range []processInfo{execs[0].Process, execs[1].Process, exits[0].Process} {
		require.EqualValues(t, state.Pid(), info.PID)
		require.Equal(t, execs[0].Process.Start, info.Start)
	}
}

func TestKernelProcessExecFailures(t *testing.T) {
	kernel.NeedRoot(t)
	group := newCgroup(t)
	p := loadProcess(t, processOptions{
		Programs:  []string{"execve_exit", "execveat_exit"},
		Variables: map[string]any{"by_cgroup": true},
	})
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	require.NoError(t, os.WriteFile(plain, []byte("no program"), 0o644))
	garbage := filepath.Join(dir, "garbage")
	require.NoError(t, os.WriteFile(garbage, []byte("\x01\x02\x03\x04 no program"), 0o755))
	for _, call := range []string{"execve", "execveat"} {
		for _, f := range []struct {
			count int
			path  string
		}{{11, filepath.Join(dir, "absent")}, {7, plain}, {5, garbage}, {3, plain + "/below"}} {
			state := finish(t, group.child(t, fmt.Sprintf("fail:%s,%d,%s", call, f.count, f.path)))
			require.Zero(t, state.ExitCode())
		}
	}
	type key struct {
		Cgroup uint64
		Error  int32
		_      uint32
	}
	got := make(map[syscall.Errno]uint64)
	var k key
	var count uint64
	rows := p.tables["exec_failures"].Iterate()
	for rows.Next(&k, &count) {
		if k.Cgroup == group.ID {
			got[syscall.Errno(k.Error)] = count
		}
	}
	require.NoError(t, rows.Err())
	require.Equal(t, map[syscall.Errno]uint64{unix.ENOENT: 22, unix.EACCES: 14, unix.ENOEXEC: 10, unix.ENOTDIR: 6}, got)
}

// Without a reader the ring fills, and what does not fit is counted.
func TestKernelProcessFullRing(t *testing.T) {
	kernel.NeedRoot(t)
	const n = 200
	group := newCgroup(t)
	p := loadProcess(t, processOptions{
		Programs: []string{"process_exec", exitPrograms(t)[0]}, Events: []uint32{eventExec, eventExit}, Cgroup: group,
		RingSize: uint32(os.Getpagesize()),
	})
	for range n {
		require.NoError(t, group.command("/bin/true").Run())
	}
	exec, exit := p.requireBalanced(eventExec), p.requireBalanced(eventExit)
	for _, s := range []eventStats{exec, exit} {
		require.EqualValues(t, n, s.Submitted+s.Dropped)
		require.Positive(t, s.Submitted)
		require.Positive(t, s.Dropped)
	}
	records := p.drain()
	require.Len(t, records[eventExec], int(exec.Submitted))
	require.Len(t, records[eventExit], int(exit.Submitted))
}

// histogram reads a struct of HISTOGRAM(): its sum, and its count, which is that of all slots.
func histogram(raw []byte) (sum, count uint64) {
	words := make([]uint64, len(raw)/8)
	for i := range words {
		words[i] = binary.NativeEndian.Uint64(raw[8*i:])
	}
	for _, slot := range words[1:] {
		count += slot
	}
	return words[0], count
}
