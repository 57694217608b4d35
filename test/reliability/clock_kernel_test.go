// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// needMachine skips a test that does something to a whole machine, unless that is a virtual one of the matrix, which is nobody's. The matrix runs its
// tests on its host, too, with the same variable: there, their parent is not the first process, and there is no plan to boot with.
func needMachine(t *testing.T, does string) {
	t.Helper()
	kernel.NeedRoot(t)
	_, in := os.LookupEnv(outcome.EnvironmentVariable)
	if _, err := os.Stat("/plan.json"); !in || os.Getppid() != 1 || err != nil {
		t.Skip(does + ": run `make test-kernels`, whose machines are nobody's")
	}
}

// mostCollections is how many there may be, one a second, until records have the dates of a clock that was set: as many as come in the ten seconds that
// docs/reliability.md promises, and half as many for a machine that is short of CPUs. Time is not what counts, since what comes late there, collections do, too.
const mostCollections = 15

// dated is a receiver of processes' records, and the dates that these have.
type dated struct {
	t           *testing.T
	collections atomic.Int64

	mu    sync.Mutex
	dates map[int64]time.Time // by process
}

func newDated(t *testing.T) *dated {
	t.Helper()
	d := &dated{t: t, dates: make(map[int64]time.Time)}
	metrics := metricsFunc(t, func(context.Context, pmetric.Metrics) error {
		d.collections.Add(1)
		return nil
	})
	start(t, "{ collection_interval: 1s, probes: { process: } }", metrics, logsFunc(t, func(_ context.Context, ld plog.Logs) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		logRecords(ld, func(r plog.LogRecord) {
			if pid, ok := r.Attributes().Get("process.pid"); ok && r.EventName() == "ebpf.process.exec" {
				d.dates[pid.Int()] = r.Timestamp().AsTime()
			}
		})
		return nil
	}))
	return d
}

// wrong runs a process, and tells by how much its record's date is beside the wall clock's times between which it ran.
func (d *dated) wrong() time.Duration {
	d.t.Helper()
	cmd := exec.Command("/bin/true")
	before := time.Now().Round(0) // without the other clock, which nobody sets
	require.NoError(d.t, cmd.Run())
	after := time.Now().Round(0)
	var date time.Time
	require.Eventually(d.t, func() (ok bool) {
		d.mu.Lock()
		defer d.mu.Unlock()
		date, ok = d.dates[int64(cmd.Process.Pid)]
		return ok
	}, patience, poll)
	return max(before.Sub(date), date.Sub(after), 0)
}

// The wall clock is set, forwards and backwards: soon after it, records have its dates. Only in a virtual machine of the matrix.
func TestKernelClockStep(t *testing.T) {
	needMachine(t, "sets the clock")
	var ahead time.Duration
	set := func(step time.Duration) {
		var now unix.Timespec
		require.NoError(t, unix.ClockGettime(unix.CLOCK_REALTIME, &now))
		now = unix.NsecToTimespec(now.Nano() + int64(step))
		require.NoError(t, unix.ClockSettime(unix.CLOCK_REALTIME, &now))
		ahead += step
	}
	t.Cleanup(func() { set(-ahead) })
	d := newDated(t)
	require.Less(t, d.wrong(), time.Second)
	for _, step := range []time.Duration{time.Hour, -2 * time.Hour} {
		set(step)
		begin, before := time.Now(), d.collections.Load()
		collections := int64(0)
		for d.wrong() >= time.Second {
			require.Less(t, collections, int64(mostCollections), "the clock was set by %s, %s ago", step, time.Since(begin))
			collections = d.collections.Load() - before
		}
		t.Logf("set by %s: right after %s and %d collections", step, time.Since(begin), collections)
		// And it stays so.
		require.Less(t, d.wrong(), time.Second)
	}
}
