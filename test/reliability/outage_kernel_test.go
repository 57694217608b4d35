// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// outageConfig is a Collector's. A "%%d" is left for the port of its telemetry.
func outageConfig(all backends, dir string, token uint32, processors, queue, extensions string) string {
	exporters, to := "", []string(nil)
	for _, b := range all {
		to = append(to, string(b.by))
		exporters += fmt.Sprintf(`  %s:
    endpoint: http://127.0.0.1:%d
    tls: { insecure: true }
    compression: none
    timeout: 10s # of a request that nobody answers
    retry_on_failure: { initial_interval: 100ms, max_interval: 500ms, max_elapsed_time: 0 }
    # One at a time, so that the order is that of the events.
    sending_queue: { num_consumers: 1, %s }
`, b.by, b.port, queue)
	}
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
      numbered: { required: true, path: %[1]q, token: %[2]d, burst: %[3]d, max_series: 1000 }
processors:
%[4]s
exporters:
%[6]sextensions:
%[8]s
service:
%[9]s  telemetry:
    metrics:
      readers: [{ pull: { exporter: { prometheus: { host: 127.0.0.1, port: %%d } } } }]
  pipelines:
    logs: { receivers: [ebpf], %[5]sexporters: [%[7]s] }
    metrics: { receivers: [ebpf], %[5]sexporters: [%[7]s] }
`, dir, token, burst, processors, list, exporters, strings.Join(to, ", "), extensions, names)
}

// settle waits until all that was produced became something, and all that was delivered is there.
func (all backends) settle(c *collector) (accounts map[string]account) {
	c.t.Helper()
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		accounts = c.accounts("numbered")
		require.NotEmpty(t, accounts)
		for event, a := range accounts {
			a.atRest(t, event)
			for _, b := range all {
				assert.Equal(t, a["delivered"], b.arrived(event), "%s at %s's backend", event, b.by)
			}
		}
	}, patience, 10*poll)
	return accounts
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
	all := newBackends(t, byHTTP, byGRPC)
	all.up()
	event, key := newGenerator(t, nil, token, events, 0, pace), newGenerator(t, nil, token, keys, 1, pace)
	c := startCollector(t, outageConfig(all, dir, token, "", "queue_size: 100000, storage: file_storage",
		fmt.Sprintf("  file_storage: { directory: %q }", t.TempDir())))
	together(10, event, key)
	all.settle(c)
	all.down(how)
	begin := time.Now()
	together(bursts, event, key)
	if how != refused { // logs and metrics are sent one at a time each: the third is a second attempt
		require.Eventually(t, func() bool {
			return !slices.ContainsFunc(all, func(b *backend) bool { return b.turned.Load() < 3 })
		}, patience, poll)
	}
	away := time.Since(begin)
	before := all.taken()
	all.up()
	all.settle(c)
	together(10, event, key)
	accounts := all.settle(c)
	made := amount{3 * burst * event.made.Load(), burst * key.made.Load()}
	// Metrics have a connection of their own, which may be tried again later than that of the logs. What is on the disk when the Collector ends stays there.
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(all.taken(), func(a amount) bool { return a.keys < made.keys })
	}, patience, poll)
	peak := status(t, c.cmd.Process.Pid, "VmHWM")
	c.stop()
	for i, b := range all {
		assert.Less(t, before[i].events, made.events)
		assert.Zero(t, b.requireAll(accounts, burst*event.made.Load()), "lost")
		assert.Equal(t, made, b.taken(), b.by)
		t.Logf("%s: %d events came after it, %d requests meanwhile", b.by, made.events-before[i].events, b.turned.Load())
	}
	t.Logf("away for %.1f s: %d events and %d keys; none lost; the Collector had %.1f MiB at most", away.Seconds(), made.events, made.keys, float64(peak)/MiB)
}

// The backend is away for longer than a full queue on a disk has room, and a payload is offered: what the Collector holds is refused for good, what the
// kernel's ring has no room for is dropped, and both are counted. There is one backend: what one queue takes and another refuses, both are offered again.
func TestKernelOutageWithAFullQueue(t *testing.T) {
	needCollector(t)
	// A payload is offered for 30 s, but for the pause that would be the last one, of a second.
	const offered = 29 * time.Second
	dir, token := numberedProbe(t)
	all := newBackends(t, byHTTP)
	b := all[0]
	b.up()
	event, key := newGenerator(t, nil, token, events, 0, 0), newGenerator(t, nil, token, keys, 1, 0)
	c := startCollector(t, outageConfig(all, dir, token, "", "queue_size: 2, storage: file_storage",
		fmt.Sprintf("  file_storage: { directory: %q }", t.TempDir())))
	var accounts map[string]account
	each := func(outcome string) bool {
		accounts = c.accounts("numbered")
		return accounts[plain][outcome] > 0 && accounts[limited][outcome] > 0 && accounts[filtered][outcome] > 0
	}
	together(1, event, key)
	all.settle(c)
	b.down(refused)
	begin := time.Now()
	require.Eventually(t, func() bool {
		event.run(10)
		key.run(1)
		return each("dropped")
	}, patience, time.Millisecond)
	require.Eventually(t, func() bool {
		event.run(1)
		key.run(1)
		return each("refused")
	}, patience, 10*poll)
	away := time.Since(begin)
	assert.GreaterOrEqual(t, away, offered, "refused before its time")
	assert.True(t, c.logged("sending queue is full"))
	b.up()
	together(1, event, key)
	accounts = all.settle(c)
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		b.ledger.mu.Lock()
		defer b.ledger.mu.Unlock()
		for name, a := range accounts {
			assert.Equal(t, a["dropped"], b.told[name]["dropped"], "%s: told of", name)
		}
	}, patience, 10*poll)
	require.Eventually(t, func() bool { return b.taken().keys == burst*key.made.Load() }, patience, 10*poll)
	c.stop()
	lost := b.requireAll(accounts, burst*event.made.Load())
	assert.Equal(t, burst*key.made.Load(), b.taken().keys, "growths")
	refused := accounts[plain]["refused"] + accounts[limited]["refused"] + accounts[filtered]["refused"]
	t.Logf("away for %.1f s: %d events, %d arrived, %d had no room in the kernel, %d were refused for good; %d keys, all counted",
		away.Seconds(), 3*burst*event.made.Load(), b.total(), lost-refused, refused, burst*key.made.Load())
}

// The Collector is restarted while the backend is away: the queue on the disk has what the first one took, and the next one delivers it. The
// queue puts what was just being sent behind the rest, so that there is no order. One of them is killed: what its queue took is on the disk all the same.
// What it was just sending is sent again: where the backend had taken that, it has it once more for each time, and nothing else.
func TestKernelRestartInAnOutage(t *testing.T) {
	needCollector(t)
	t.Run("refused", func(t *testing.T) { testRestart(t, refused, false, true, false) })
	t.Run("unanswered", func(t *testing.T) { testRestart(t, unanswered, true) })
}

// testRestart has a Collector for each of kills, which says whether it is killed.
func testRestart(t *testing.T, how outage, kills ...bool) {
	dir, token := numberedProbe(t)
	all := newBackends(t, byHTTP, byGRPC)
	for _, b := range all {
		b.seen = make(map[source]map[int64]bool)
	}
	all.down(how)
	config := outageConfig(all, dir, token, "", "queue_size: 100000, storage: file_storage", fmt.Sprintf("  file_storage: { directory: %q }", t.TempDir()))
	n := size(3, 10, 100)
	// Each begins to number anew.
	generators := func(stream int) (event, key *generator) {
		return newGenerator(t, nil, token, events, stream, 0), newGenerator(t, nil, token, keys, stream, 0)
	}
	for stream, kill := range kills {
		c := startCollector(t, config)
		event, key := generators(stream)
		for range n {
			event.run(1)
			key.run(1)
			// A burst at a time: the ring has room for it.
			require.Eventually(t, func() bool {
				a := c.accounts("numbered")[plain]
				return a["produced"] == burst*event.made.Load() && a["delivered"] == a["produced"]
			}, patience, poll)
		}
		if !kill {
			c.stop()
			continue
		}
		c.requireCollected("numbered")
		if how == unanswered {
			require.Eventually(t, func() bool {
				return !slices.ContainsFunc(all.taken(), func(a amount) bool { return a.events == 0 || a.keys == 0 })
			}, patience, poll)
		}
		require.NoError(t, c.cmd.Process.Kill())
		<-c.done
	}
	all.down(refused) // what was sent is taken
	again := all.taken()
	all.up()
	c := startCollector(t, config)
	// What is made now is behind all that was in the queue.
	event, key := generators(len(kills))
	event.run(1)
	key.run(1)
	made := int64(len(kills)*n+1) * burst
	check := func(t assert.TestingT) {
		for i, b := range all {
			for _, name := range []string{plain, limited, filtered} {
				assert.Equal(t, made, b.different(name), "%s by %s", name, b.by)
			}
			assert.Equal(t, amount{3*made + again[i].events, made + again[i].keys}, b.taken(), "by %s, with what came again", b.by)
		}
	}
	require.EventuallyWithT(t, func(t *assert.CollectT) { check(t) }, patience, poll)
	c.stop()
	check(t)
	t.Logf("%d events and %d keys of %d Collectors, of which one was killed; delivered by another one; of those, there came again: %v",
		3*made, made, len(kills), again)
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
	all := newBackends(t, byHTTP)
	b := all[0]
	b.up()
	event, key := newGenerator(t, nil, token, events, 0, 0), newGenerator(t, nil, token, keys, 1, 0)
	c := startCollector(t, outageConfig(all, dir, token,
		fmt.Sprintf("  memory_limiter: { check_interval: 100ms, limit_mib: %d, spike_limit_mib: 40 }", limit), "queue_size: 1000000", ""))
	event.run(10)
	key.run(10)
	all.settle(c)
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
	all.settle(c)
	event.run(10)
	key.run(10)
	accounts := all.settle(c)
	peak := status(t, c.cmd.Process.Pid, "VmHWM")
	c.stop()
	lost := b.requireAll(accounts, burst*event.made.Load())
	assert.Positive(t, lost)
	assert.Equal(t, burst*key.made.Load(), b.taken().keys, "growths")
	assert.Less(t, peak, 3*limit*MiB)
	refused := accounts[plain]["refused"] + accounts[limited]["refused"] + accounts[filtered]["refused"]
	t.Logf("%d events, %d arrived, %d had no room in the kernel, %d were refused for good; %d keys, all counted; the Collector had %.1f MiB at most, with a limit of %d",
		3*burst*event.made.Load(), b.total(), lost-refused, refused, burst*key.made.Load(), float64(peak)/MiB, limit)
	for _, line := range c.log() {
		if strings.Contains(line, "panic") {
			assert.Fail(t, line)
		}
	}
}
