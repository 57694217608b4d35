// SPDX-License-Identifier: Apache-2.0

//go:build linux

package environment_test

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

func TestKernelWithoutBTF(t *testing.T) {
	need(t, "no-btf")
	requireNothing(t, "BTF", "/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF")
	t.Attr(outcome.Holds, outcome.Refuses)
}

// Only the classic tracepoints of system calls need tracefs: what has none goes on.
func TestKernelWithoutTracefs(t *testing.T) {
	need(t, "no-tracefs")
	n := networkOf(t)
	t.Run("not needed", func(t *testing.T) {
		r := start(t, "probes: { "+n.all()+" }")
		require.Empty(t, r.complaints())
		r.requireAll(n)
	})
	t.Run("needed", func(t *testing.T) {
		probes, needy := n.needy()
		r := start(t, "probes: { "+probes+" }")
		r.requireMissing(needy, "tracefs", "mount")
		r.requireAll(n)
		r.requireNone(needy)
	})
	t.Attr(outcome.Holds, outcome.WorksBut+execFailures+", "+acceptWait)
}

// execFailures and acceptWait are what need classic tracepoints.
const (
	execFailures = "ebpf.process.exec.failures"
	acceptWait   = "ebpf.tcp.accept_queue.wait"
)

// No program of ours writes anything, so integrity takes nothing away. Confidentiality lets none call what reads the kernel's memory, which
// the records of processes need; what follows pointers that the verifier knows goes on.
func TestKernelLockdown(t *testing.T) {
	here := need(t, "lockdown-integrity", "lockdown-confidentiality")
	mode, err := os.ReadFile("/sys/kernel/security/lockdown")
	require.NoError(t, err)
	_, wanted, _ := strings.Cut(here, "-")
	require.Contains(t, string(mode), "["+wanted+"]")
	if wanted == "integrity" {
		n := networkOf(t)
		r := start(t, "probes: { "+n.all()+" }")
		require.Empty(t, r.complaints())
		r.requireAll(n)
		t.Attr(outcome.Holds, outcome.Works)
		return
	}
	r := start(t, probesByDefault)
	complaints := r.complaints()
	require.Len(t, complaints, 2)
	for _, c := range complaints {
		require.Contains(t, c, "lockdown=integrity")
		require.Contains(t, c, "confidentiality")
	}
	missing := []string{"ebpf.process.exec", "ebpf.process.exit", "ebpf.process.lifetime"}
	for _, name := range missing {
		require.Contains(t, strings.Join(complaints, "\n"), name)
	}
	pids := trues(t, 20)
	r.stop()
	r.requireCounted(len(pids))
	require.Zero(t, r.Logs.LogRecordCount())
	require.Empty(t, r.Last("ebpf.process.lifetime"))
	t.Attr(outcome.Holds, outcome.WorksBut+strings.Join(missing, ", "))
}

// Debian's kernels have a level 3, at which perf events, and so classic tracepoints, are for some only: which, the kernel itself tells. All
// else goes on.
func TestKernelPerfEventParanoid(t *testing.T) {
	need(t, "perf-event-paranoid")
	level, err := os.ReadFile("/proc/sys/kernel/perf_event_paranoid")
	require.NoError(t, err)
	require.Equal(t, "3", strings.TrimSpace(string(level)))
	require.NotZero(t, os.Geteuid())
	n := networkOf(t)
	r := start(t, "probes: { cpu: , process: { metrics: { "+execFailures+": { enabled: true, attributes: [error.type] } } }, flow: { interfaces: [lo] }, "+n.probes()+" }")
	pids := trues(t, 20)
	packets, bytes := loopback(t)
	dropped := talk(t)
	morePackets, moreBytes := loopback(t)
	for range 5 {
		require.Error(t, exec.Command("/absent").Run())
	}
	complaints := r.complaints()
	r.stop()
	r.requireWhole(pids)
	r.requireTalk(n, 1, dropped)
	r.requireFlows(1, morePackets-packets, moreBytes-bytes)
	failures := 0.0
	for _, p := range r.Last(execFailures) {
		if p.Attributes["error.type"] == "ENOENT" {
			failures += p.Value
		}
	}
	if mayOpenPerfEvent(t) {
		require.Empty(t, complaints)
		require.GreaterOrEqual(t, failures, 5.0)
		t.Attr(outcome.Holds, outcome.Works)
		return
	}
	require.Zero(t, failures)
	require.Len(t, complaints, 1)
	for _, word := range []string{"process", execFailures, "perf_event_paranoid", "CAP_SYS_ADMIN"} {
		require.Contains(t, complaints[0], word)
	}
	t.Attr(outcome.Holds, outcome.WorksBut+execFailures)
}

// mayOpenPerfEvent asks the kernel for an event as a classic tracepoint is attached by.
func mayOpenPerfEvent(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile("/sys/kernel/tracing/events/syscalls/sys_exit_execve/id")
	require.NoError(t, err)
	id, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	require.NoError(t, err)
	attr := &unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: id, Size: unix.PERF_ATTR_SIZE_VER0, Sample: 1, Wakeup: 1}
	fd, err := unix.PerfEventOpen(attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err == nil {
		require.NoError(t, unix.Close(fd))
		return true
	}
	require.ErrorIs(t, err, os.ErrPermission)
	return false
}
