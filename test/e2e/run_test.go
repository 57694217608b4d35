// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// TestKernelEveryProcessIsTold counts processes where the Collector's output ends up.
func TestKernelEveryProcessIsTold(t *testing.T) {
	needCollector(t)
	cgroup := kernel.NewCgroup(t)
	s := newSetup(t, cgroup)
	c := start(t, s.file(t))

	const n = 1000
	pids := trues(t, cgroup, n)
	s.awaitEvents(t, pids)

	mine := map[string]string{"process_linux_cgroup": cgroup.Path}
	var page scrape
	require.Eventually(t, func() bool {
		var err error
		page, err = get(t, s.Prometheus)
		created, _ := page.value("system_process_created_total", mine)
		ended, _ := page.value("ebpf_process_lifetime_seconds_count", mine)
		return err == nil && created == n && ended == n
	}, patience, 50*time.Millisecond)
	for name, kind := range map[string]string{
		"container_cpu_time_seconds_total":   "counter",
		"ebpf_cpu_context_switches_total":    "counter",
		"ebpf_cpu_run_queue_latency_seconds": "histogram",
		"ebpf_process_lifetime_seconds":      "histogram",
		"system_process_created_total":       "counter",
	} {
		assert.Equal(t, kind, page.types[name], name)
	}
	requireAccount(t, s)

	// What happened just before the end is not lost.
	pids = append(pids, trues(t, cgroup, 100)...)
	c.stop()
	s.requireEvents(t, s.pids(t), pids)
	created, _ := s.point(t, "system.process.created")
	assert.EqualValues(t, len(pids), created.Value)
	lifetimes, _ := s.point(t, "ebpf.process.lifetime")
	assert.EqualValues(t, len(pids), lifetimes.Count)
	waits, _ := s.point(t, "ebpf.cpu.run_queue.latency")
	assert.GreaterOrEqual(t, waits.Count, uint64(len(pids)), "each process waited for a CPU, once or more")
	cpu, _ := s.point(t, "container.cpu.time")
	assert.InDelta(t, cpuTime(t, cgroup), cpu.Value, 1e-5)
	_, err := get(t, s.Prometheus)
	assert.Error(t, err, "the port is still open")
}

// requireAccount holds the events' outcomes in the Collector's own telemetry to be complete.
func requireAccount(t *testing.T, s setup) {
	t.Helper()
	balanced := func(page scrape, event string) bool {
		of := func(outcome string) float64 {
			v, ok := page.value("otelcol_receiver_ebpf_events", map[string]string{"event": event, "outcome": outcome})
			if !ok {
				v, ok = page.value("otelcol_receiver_ebpf_events_total", map[string]string{"event": event, "outcome": outcome})
			}
			require.True(t, ok, outcome)
			return v
		}
		return of("produced") == of("submitted")+of("dropped")+of("filtered")+of("limited") &&
			of("submitted") == of("delivered") && of("delivered") == 1000 && of("dropped") == 0 && of("refused") == 0
	}
	// Other processes of the host are counted as filtered, while the account is read.
	require.Eventually(t, func() bool {
		page, err := get(t, s.Telemetry)
		require.NoError(t, err)
		return balanced(page, "ebpf.process.exec") && balanced(page, "ebpf.process.exit")
	}, patience, 50*time.Millisecond)
}

// cpuTime is the kernel's own account of a cgroup, in seconds.
func cpuTime(t *testing.T, c *kernel.Cgroup) float64 {
	t.Helper()
	for line := range strings.Lines(c.Read("cpu.stat")) {
		if text, ok := strings.CutPrefix(line, "usage_usec "); ok {
			us, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			require.NoError(t, err)
			return us / 1e6
		}
	}
	require.FailNow(t, "no usage_usec")
	return 0
}
