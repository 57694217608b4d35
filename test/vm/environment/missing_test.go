// SPDX-License-Identifier: Apache-2.0

//go:build linux

package environment_test

import (
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
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
		probes, needy, without := n.needy()
		r := start(t, "probes: { "+probes+" }")
		r.requireMissing(needy, "tracefs", "mount")
		r.requireWithout(without, "tracefs", "mount")
		r.requireAll(n)
		r.requireRecords(n)
		r.requireNone(needy)
	})
	t.Attr(outcome.Holds, outcome.WorksBut+execFailures+", "+acceptWait)
}

// execFailures and acceptWait are what need classic tracepoints.
const (
	execFailures = "ebpf.process.exec.failures"
	acceptWait   = "ebpf.tcp.accept_queue.wait"
)

// connection is the record of one, whose accepting process they tell.
const connection = "ebpf.tcp.connection"

// No program of ours writes anything, so integrity takes nothing away. Confidentiality lets none call what reads the kernel's memory, which the records of
// processes and all of the probe tcp need, and lets nobody see tracefs; what follows pointers that the verifier knows goes on.
func TestKernelLockdown(t *testing.T) {
	here := need(t, "lockdown-integrity", "lockdown-confidentiality")
	mode, err := os.ReadFile("/sys/kernel/security/lockdown")
	require.NoError(t, err)
	_, wanted, _ := strings.Cut(here, "-")
	require.Contains(t, string(mode), "["+wanted+"]")
	n := networkOf(t)
	require.True(t, n.connections)
	probes, needy, _ := n.needy()
	if wanted == "integrity" {
		r := start(t, "probes: { "+probes+" }")
		require.Empty(t, r.complaints())
		r.requireWithout(nil)
		r.requireAll(n)
		r.requireRecords(n)
		require.Equal(t, map[string]int{"": 1}, r.at(port, acceptWait))
		t.Attr(outcome.Holds, outcome.Works)
		return
	}
	r := start(t, "probes: { "+probes+" }")
	ofProcesses := []string{"ebpf.process.exec", "ebpf.process.exit", "ebpf.process.lifetime"}
	missing := slices.Concat(ofProcesses, needy, []string{
		"ebpf.network.drops", "ebpf.tcp.connect.latency", "ebpf.tcp.connection.duration", "ebpf.tcp.connections", "ebpf.tcp.io", "ebpf.tcp.listen.drops",
		"ebpf.tcp.resets", "ebpf.tcp.retransmits", "ebpf.tcp.rtt", "system.network.connection.count", connection,
	})
	r.requireMissing(missing, "lockdown=integrity", "confidentiality")
	n.connections = false
	pids := r.requireNetwork(n)
	r.requireCounted(len(pids))
	r.requireNone(missing)
	require.Zero(t, r.Logs.LogRecordCount())
	t.Attr(outcome.Holds, outcome.WorksBut+strings.Join(append(ofProcesses, execFailures, "the probe tcp"), ", "))
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
	probes, needy, without := n.needy()
	r := start(t, "probes: { "+probes+" }")
	may := mayOpenPerfEvent(t)
	if may {
		require.Empty(t, r.complaints())
		r.requireWithout(nil)
	} else {
		r.requireMissing(needy, "perf_event_paranoid", "CAP_SYS_ADMIN")
		r.requireWithout(without, "perf_event_paranoid", "CAP_SYS_ADMIN")
	}
	for range 5 {
		require.Error(t, exec.Command("/absent").Run())
	}
	r.requireAll(n)
	r.requireRecords(n)
	if !may {
		r.requireNone(needy)
		t.Attr(outcome.Holds, outcome.WorksBut+strings.Join(needy, ", "))
		return
	}
	require.GreaterOrEqual(t, kernel.Values(r.Last(execFailures), "error.type")["ENOENT"], 5)
	if n.connections {
		require.Equal(t, map[string]int{"": 1}, r.at(port, acceptWait))
	}
	t.Attr(outcome.Holds, outcome.Works)
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
