// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// outageConfig is a Collector's. A "%%d" is left for the port of its telemetry.
func outageConfig(b *backend, dir string, token uint32, processors, queue, extensions string) string {
	list := ""
	if processors != "" {
		list = "processors: [memory_limiter], "
	}
	names := ""
	if extensions != "" {
		names = "  extensions: [file_storage]\n"
	}
	return fmt.Sprintf(`
receivers:
  ebpf:
    collection_interval: 250ms
    cgroup_hierarchy: v2
    temporality: delta
    probes:
      numbered: { required: true, path: %q, token: %d, burst: %d, max_series: 1000 }
processors:
%s
exporters:
  otlp_http:
    endpoint: http://127.0.0.1:%d
    compression: none
    timeout: 10s # of a request that nobody answers
    retry_on_failure: { initial_interval: 100ms, max_interval: 500ms, max_elapsed_time: 0 }
    # One at a time, so that the order is that of the events.
    sending_queue: { num_consumers: 1, %s }
extensions:
%s
service:
%s  telemetry:
    metrics:
      readers: [{ pull: { exporter: { prometheus: { host: 127.0.0.1, port: %%d } } } }]
  pipelines:
    logs: { receivers: [ebpf], %sexporters: [otlp_http] }
    metrics: { receivers: [ebpf], %sexporters: [otlp_http] }
`, dir, token, burst, processors, b.port, queue, extensions, names, list, list)
}

// settle waits until all that was produced became something, and all that was delivered is there.
func (b *backend) settle(c *collector) map[string]account {
	b.t.Helper()
	var all map[string]account
	require.EventuallyWithT(b.t, func(t *assert.CollectT) {
		all = c.accounts("numbered")
		require.NotEmpty(t, all)
		for event, a := range all {
			assert.Equal(t, a["produced"], a["submitted"]+a["dropped"]+a["filtered"]+a["limited"], "%s in the kernel: %v", event, a)
			assert.Equal(t, a["submitted"], a["delivered"]+a["refused"], "%s in the Collector: %v", event, a)
			assert.Equal(t, a["delivered"], b.arrived(event), "%s at the backend", event)
		}
	}, patience, 10*poll)
	return all
}

// requireAll holds what arrived, and what is accounted for, to what there was.
func (b *backend) requireAll(all map[string]account, made int64) (lost int64) {
	b.t.Helper()
	assert.Empty(b.t, b.wrong, "an event came twice, or out of order")
	for _, event := range []string{plain, limited, filtered} {
		a := all[event]
		assert.Equal(b.t, made, a["produced"], event)
		assert.Equal(b.t, made-b.arrived(event), a["dropped"]+a["refused"], "%s: missing, %v", event, a)
		assert.Equal(b.t, a["dropped"], b.told[event]["dropped"], "%s: told of", event)
		lost += a["dropped"] + a["refused"]
	}
	return lost
}

// The backend goes away and comes back. With a queue on a disk, nothing is lost at a rate that the machine can take, in whichever way it does not take
// what it is sent.
func TestKernelOutage(t *testing.T) {
	needCollector(t)
	// Ten bursts a second are 6,000 events.
	for how, bursts := range map[outage]int{refused: size(10, 30, 600), unavailable: size(10, 30, 100), silent: size(10, 30, 100)} {
		t.Run(string(how), func(t *testing.T) { testOutage(t, how, bursts, 100*time.Millisecond) })
	}
}

func testOutage(t *testing.T, how outage, bursts int, pace time.Duration) {
	dir, token := numberedProbe(t)
	b := newBackend(t)
	b.up()
	event, key := newGenerator(t, nil, token, events, 0, pace), newGenerator(t, nil, token, keys, 1, pace)
	c := startCollector(t, outageConfig(b, dir, token, "", "queue_size: 100000, storage: file_storage",
		fmt.Sprintf("  file_storage: { directory: %q }", t.TempDir())))
	both := func(n int) {
		done := make(chan struct{})
		go func() { defer close(done); key.run(n) }()
		event.run(n)
		<-done
	}
	both(10)
	b.settle(c)
	b.down(how)
	begin := time.Now()
	both(bursts)
	if how != refused { // logs and metrics are sent one at a time each: the third is a second attempt
		require.Eventually(t, func() bool { return b.turned.Load() > 2 }, patience, poll)
	}
	away := time.Since(begin)
	before := b.total()
	assert.Less(t, before, 3*burst*event.made.Load())
	b.up()
	b.settle(c)
	both(10)
	all := b.settle(c)
	peak := status(t, c.cmd.Process.Pid, "VmHWM")
	c.stop()
	assert.Zero(t, b.requireAll(all, burst*event.made.Load()), "lost")
	assert.Equal(t, burst*key.made.Load(), b.counted(), "growths")
	t.Logf("away for %.1f s: %d events and %d keys, of which %d events came after it; none lost; %d requests meanwhile; the Collector had %.1f MiB at most",
		away.Seconds(), 3*burst*event.made.Load(), burst*key.made.Load(), b.total()-before, b.turned.Load(), float64(peak)/MiB)
}

// The Collector is restarted while the backend is away: the queue on the disk has what the first one took, and the second one delivers it. The
// queue puts what was just being sent behind the rest, so that there is no order. One of them is killed: what its queue took is on the disk all the same. It
// may be sent again what it was just sending, which here nobody had taken.
func TestKernelRestartInAnOutage(t *testing.T) {
	needCollector(t)
	dir, token := numberedProbe(t)
	b := newBackend(t)
	b.seen = make(map[source]map[int64]bool)
	config := outageConfig(b, dir, token, "", "queue_size: 100000, storage: file_storage", fmt.Sprintf("  file_storage: { directory: %q }", t.TempDir()))
	const restarts, killed = 3, 1
	n := size(3, 10, 100)
	for stream := range restarts {
		c := startCollector(t, config)
		// Each begins to number anew.
		event, key := newGenerator(t, nil, token, events, stream, 0), newGenerator(t, nil, token, keys, stream, 0)
		for range n {
			event.run(1)
			key.run(1)
			// A burst at a time: the ring has room for it.
			require.Eventually(t, func() bool {
				a := c.accounts("numbered")[plain]
				return a["produced"] == burst*event.made.Load() && a["delivered"] == a["produced"]
			}, patience, poll)
		}
		if stream != killed {
			c.stop()
			continue
		}
		c.requireCollected("numbered")
		require.NoError(t, c.cmd.Process.Kill())
		<-c.done
	}
	require.Zero(t, b.total())
	b.up()
	c := startCollector(t, config)
	made := int64(restarts*n) * burst
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		for _, name := range []string{plain, limited, filtered} {
			assert.Equal(t, made, b.arrived(name), name)
		}
		assert.Equal(t, made, b.counted(), "growths")
	}, patience, poll)
	c.stop()
	assert.Empty(t, b.wrong, "an event came twice")
	t.Logf("%d events and %d keys of %d Collectors, of which one was killed; delivered by another one", 3*made, made, restarts)
}

var snapshotsLine = regexp.MustCompile(`(?m)^otelcol_receiver_ebpf_snapshot_duration(?:_seconds)?_count\{(.*)\} (\d+)$`)

// snapshots is how often the maps of a probe were read.
func (c *collector) snapshots(probe string) (n int) {
	c.t.Helper()
	for _, m := range snapshotsLine.FindAllStringSubmatch(c.scrape(), -1) {
		if strings.Contains(m[1], fmt.Sprintf("probe=%q", probe)) {
			var err error
			n, err = strconv.Atoi(m[2])
			require.NoError(c.t, err)
		}
	}
	return n
}

// requireCollected waits until all that programs have counted by now is delivered: one snapshot may have begun before, the second has it, and is
// delivered when the third is there.
func (c *collector) requireCollected(probe string) {
	c.t.Helper()
	before := c.snapshots(probe)
	require.Eventually(c.t, func() bool { return c.snapshots(probe) >= before+3 }, patience, poll)
}

// A backend that is away, a queue in memory, and a storm: the limiter refuses, the kernel's ring fills, and what it has no room for is counted. When the
// backend is back, the rest arrives.
func TestKernelMemoryLimiter(t *testing.T) {
	needCollector(t)
	const limit = 160
	dir, token := numberedProbe(t)
	b := newBackend(t)
	b.up()
	event, key := newGenerator(t, nil, token, events, 0, 0), newGenerator(t, nil, token, keys, 1, 0)
	c := startCollector(t, outageConfig(b, dir, token,
		fmt.Sprintf("  memory_limiter: { check_interval: 100ms, limit_mib: %d, spike_limit_mib: 40 }", limit), "queue_size: 1000000", ""))
	event.run(10)
	key.run(10)
	b.settle(c)
	b.down(refused)
	require.Eventually(t, func() bool {
		event.run(100)
		key.run(1)
		return c.logged("Refusing data") && c.accounts("numbered")[plain]["dropped"] > 0
	}, patience, time.Millisecond)
	refusing := time.Now()
	// Longer than a payload is offered, in the full size: then it is counted as refused.
	for time.Since(refusing) < time.Duration(size(1, 2, 45))*time.Second {
		event.run(1)
		key.run(1)
		time.Sleep(poll)
	}
	b.up()
	b.settle(c)
	event.run(10)
	key.run(10)
	all := b.settle(c)
	peak := status(t, c.cmd.Process.Pid, "VmHWM")
	c.stop()
	lost := b.requireAll(all, burst*event.made.Load())
	assert.Positive(t, lost)
	assert.Equal(t, burst*key.made.Load(), b.counted(), "growths")
	assert.Less(t, peak, 3*limit*MiB)
	refused := all[plain]["refused"] + all[limited]["refused"] + all[filtered]["refused"]
	t.Logf("%d events, %d arrived, %d had no room in the kernel, %d were refused for good; %d keys, all counted; the Collector had %.1f MiB at most, with a limit of %d",
		3*burst*event.made.Load(), b.total(), lost-refused, refused, burst*key.made.Load(), float64(peak)/MiB, limit)
	for _, line := range c.log() {
		if strings.Contains(line, "panic") {
			assert.Fail(t, line)
		}
	}
}
