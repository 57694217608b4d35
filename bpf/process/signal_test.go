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

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// Results of generating a signal, from include/trace/events/signal.h.
const (
	signalDelivered      = 0
	signalIgnored        = 1
	signalAlreadyPending = 2
)

// si_code, from sigaction(2).
const (
	codeUser   = 0
	codeTkill  = -6
	codeKernel = 128
)

func TestKernelProcessSignals(t *testing.T) {
	kernel.NeedRoot(t)
	group := newCgroup(t)
	p := loadProcess(t, processOptions{Programs: []string{"process_signal"}, Events: []uint32{eventSignal}, Cgroup: group})
	signals := func() []signalEvent { return decodeAll[signalEvent](t, p.drain()[eventSignal]) }

	r := startRunning(t, group.command("/bin/cat"))
	pid := uint32(r.cmd.Process.Pid)
	// Start returns a little before the process has its new name.
	require.Eventually(t, func() bool {
		comm, _ := os.ReadFile(r.proc("comm")) // it is there until r.stop
		return string(comm) == "cat\n"
	}, time.Minute, time.Millisecond)
	require.Empty(t, signals())
	require.NoError(t, unix.Kill(int(pid), unix.SIGCONT))
	require.NoError(t, unix.Kill(int(pid), unix.SIGSTOP))
	var status unix.WaitStatus // until it has stopped: before, the next one would kill it at once
	_, err := unix.Wait4(int(pid), &status, unix.WUNTRACED, nil)
	require.NoError(t, err)
	require.True(t, status.Stopped())
	require.NoError(t, unix.Kill(int(pid), unix.SIGUSR1))
	require.NoError(t, unix.Kill(int(pid), unix.SIGUSR1)) // still pending: the process is stopped
	require.NoError(t, unix.Kill(int(pid), unix.SIGKILL))
	got := signals()
	want := []struct{ signal, result uint32 }{
		{uint32(unix.SIGCONT), signalIgnored},
		{uint32(unix.SIGSTOP), signalDelivered},
		{uint32(unix.SIGUSR1), signalDelivered},
		{uint32(unix.SIGUSR1), signalAlreadyPending},
		{uint32(unix.SIGKILL), signalDelivered},
	}
	require.Len(t, got, len(want))
	for i, e := range got {
		require.Equal(t, want[i].signal, e.Signal)
		require.Equal(t, want[i].result, e.Result, e.Signal)
		require.EqualValues(t, codeUser, e.Code)
		require.True(t, e.ToProcess)
		require.Equal(t, pid, e.Process.PID)
		require.Equal(t, "cat", e.Process.comm())
		require.EqualValues(t, os.Getpid(), e.SenderPID)
		require.EqualValues(t, os.Getuid(), e.SenderUID)
		require.NotEmpty(t, cString(e.SenderComm[:]))
	}
	r.stop()

	state := finish(t, group.child(t, fmt.Sprintf("signal_self:%d", unix.SIGKILL)))
	require.Equal(t, unix.SIGKILL, state.Sys().(syscall.WaitStatus).Signal())
	var self []signalEvent
	for _, e := range signals() {
		if e.Signal == uint32(unix.SIGKILL) {
			self = append(self, e)
		}
	}
	require.Len(t, self, 1)
	require.EqualValues(t, codeTkill, self[0].Code)
	require.False(t, self[0].ToProcess)
	require.Equal(t, self[0].Process.PID, self[0].SenderPID)

	// One that the kernel sends for nobody: a write into a pipe without a reader.
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	reader.Close()
	cmd := group.command("/bin/echo", "x")
	cmd.Stdout = writer
	state = finish(t, cmd)
	writer.Close()
	require.Equal(t, unix.SIGPIPE, state.Sys().(syscall.WaitStatus).Signal())
	got = signals()
	require.Len(t, got, 1)
	require.EqualValues(t, unix.SIGPIPE, got[0].Signal)

	// And one for a fault.
	state = finish(t, group.command("/bin/sh", "-c", "ulimit -c 0; kill -SEGV $$"))
	require.Equal(t, unix.SIGSEGV, state.Sys().(syscall.WaitStatus).Signal())
	got = signals()
	require.Len(t, got, 1)
	require.Equal(t, got[0].Process.PID, got[0].SenderPID)
}

// memoryCgroup makes a cgroup that bounds memory, in whichever hierarchy has the controller. The second result is
// the index of that controller for the probe, below 0 for the v2 hierarchy.
func memoryCgroup(t *testing.T, limit int) (path string, controller int32) {
	t.Helper()
	root, file, controller := "/sys/fs/cgroup/memory", "memory.limit_in_bytes", int32(-1)
	if _, err := os.Stat(filepath.Join(root, file)); err != nil {
		root, file = "/sys/fs/cgroup", "memory.max"
		_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+memory"), 0) // else the limit is refused
	} else {
		controller = controllerIndex(t, "memory")
	}
	path, err := os.MkdirTemp(root, "ebpfreceiver-test-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.Remove(path)) })
	require.NoError(t, os.WriteFile(filepath.Join(path, file), []byte(strconv.Itoa(limit)), 0))
	return path, controller
}

// controllerIndex is the enumerator NAME_cgrp_id of the running kernel.
func controllerIndex(t *testing.T, name string) int32 {
	t.Helper()
	types, err := btf.LoadKernelSpec()
	require.NoError(t, err)
	var ids *btf.Enum
	require.NoError(t, types.TypeByName("cgroup_subsys_id", &ids))
	for _, v := range ids.Values {
		if v.Name == name+"_cgrp_id" {
			return int32(v.Value)
		}
	}
	t.Fatalf("the kernel has no controller %s", name)
	return 0
}

func TestKernelProcessOOMKill(t *testing.T) {
	kernel.NeedRoot(t)
	const limit = 64 << 20
	path, controller := memoryCgroup(t, limit)
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(path, &stat))
	group := &cgroup{ID: stat.Ino}
	p := loadProcess(t, processOptions{
		Programs: append(oomPrograms(t), exitPrograms(t)[0]), Events: []uint32{eventOOMKill, eventExit}, Cgroup: group,
		Variables: map[string]any{"cgroup_controller": controller},
	})
	v2 := newCgroup(t)
	r := startRunning(t, v2.child(t, "eat"))
	pid := r.cmd.Process.Pid
	require.NoError(t, os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0))
	require.NoError(t, os.WriteFile(r.proc("oom_score_adj"), []byte("123"), 0))
	r.stop()
	require.Equal(t, unix.SIGKILL, r.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())

	records := p.drain()
	kills := decodeAll[oomKillEvent](t, records[eventOOMKill])
	require.Len(t, kills, 1)
	require.EqualValues(t, pid, kills[0].Process.PID)
	require.Equal(t, group.ID, kills[0].Process.Cgroup)
	require.EqualValues(t, 123, kills[0].ScoreAdjustment)
	if kills[0].Memory != 0 || len(oomPrograms(t)) == 1 { // what is told at the exit has no memory any more
		require.InDelta(t, limit, kills[0].Memory, limit/4)
	}
	exits := decodeAll[exitEvent](t, records[eventExit])
	require.Len(t, exits, 1)
	require.EqualValues(t, unix.SIGKILL, exits[0].Signal)
	if memoryEvents, err := os.ReadFile(filepath.Join(path, "memory.oom_control")); err == nil {
		require.Contains(t, strings.Split(string(memoryEvents), "\n"), "oom_kill 1")
	}
}
