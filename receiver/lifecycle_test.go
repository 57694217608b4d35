// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// everything has programs of all kinds that the built-in probes have, iterators, swapped maps, rings and packet sockets; of tcp and udp, what the kernel has.
const everything = `
probes:
  cpu: { metrics: { process.cpu.time: { enabled: true } } }
  process: { ring_size: 64KiB, metrics: { ebpf.process.exec.failures: { enabled: true } } }
  flow: { interfaces: [lo], max_series: 100 }
  tcp: { max_sockets: 1000 }
  udp:
`

// kernelRoot is the cgroup that everything is in.
var kernelRoot = &kernel.Cgroup{Path: "/"}

// watched are the execs of one cgroup, and nothing else.
func watched(c *kernel.Cgroup) string {
	return `
probes:
  process:
    metrics: { system.process.created: { enabled: false }, ebpf.process.lifetime: { enabled: false } }
    events:
      ebpf.process.exec: { filter: { cgroups: ["` + c.Path + `"] } }
      ebpf.process.exit: { enabled: false }
`
}

func TestShutdownWithoutStart(t *testing.T) {
	r := newRig(t, everything)
	r.create()
	for range 2 {
		for _, c := range r.components {
			require.NoError(t, c.Shutdown(t.Context()))
		}
	}
	for _, c := range r.components {
		require.NoError(t, c.Start(t.Context(), r.host), "Start after Shutdown does nothing")
		require.NoError(t, c.Shutdown(t.Context()))
	}
	assert.Empty(t, r.host.reported())
	assert.Empty(t, kernel.Held(t).Programs)
}

func TestKernelStartStopCycles(t *testing.T) {
	kernel.NeedRoot(t)
	cycles := 100
	if testing.Short() {
		cycles = 5
	}
	r := newRig(t, everything)
	before := kernel.Held(t)
	assert.Empty(t, before.Programs)
	assert.Empty(t, before.Maps)
	assert.Empty(t, before.Links)
	assert.Zero(t, before.Mappings)
	ignore := goleak.IgnoreCurrent()
	for i := range cycles {
		if r.configure(watched(kernelRoot)); i%40 == 0 {
			r.configure(everything)
		}
		require.NoError(t, r.tryStart(t.Context()))
		held := kernel.Held(t)
		require.NotEmpty(t, held.Programs)
		require.NotEmpty(t, held.Maps)
		require.NotEmpty(t, held.Links)
		require.Positive(t, held.Mappings)
		r.stop()
		require.Equal(t, before, kernel.Held(t))
		held.RequireGone(t)
	}
	goleak.VerifyNone(t, ignore)
	assert.Empty(t, r.errorsLogged())
}

func TestKernelSignals(t *testing.T) {
	kernel.NeedRoot(t)
	all := 0 // programs for both
	for _, test := range []struct {
		name          string
		metrics, logs bool
	}{{"both", true, true}, {name: "metrics", metrics: true}, {name: "logs", logs: true}} {
		t.Run(test.name, func(t *testing.T) {
			c := kernel.NewCgroup(t)
			r := newRig(t, `
probes:
  cpu:
  process: { events: { ebpf.process.exec: { filter: { cgroups: ["`+c.Path+`"] } } } }
`)
			metrics, logs := new(consumertest.MetricsSink), new(consumertest.LogsSink)
			r.metrics, r.logs = nil, nil
			if test.metrics {
				r.metrics = metrics
			}
			if test.logs {
				r.logs = logs
			}
			before := kernel.Held(t)
			r.start()
			held := kernel.Held(t)
			require.NoError(t, c.Command("true").Run())
			r.stop()
			assert.Equal(t, test.metrics, metrics.DataPointCount() > 0)
			assert.Equal(t, test.logs, logs.LogRecordCount() > 0)
			// What no pipeline wants is not in the kernel.
			if test.metrics && test.logs {
				all = len(held.Programs)
			} else {
				assert.Less(t, len(held.Programs), all)
			}
			held.RequireGone(t)
			after := kernel.Held(t)
			assert.Equal(t, before.Maps, after.Maps)
		})
	}
}

// Without anything to do, nothing is in the kernel: here, events without a pipeline for logs.
func TestKernelNothingWanted(t *testing.T) {
	kernel.NeedRoot(t)
	r := newRig(t, watched(kernelRoot))
	r.logs = nil
	before := kernel.Held(t)
	r.start()
	held := kernel.Held(t)
	assert.Empty(t, held.Programs)
	assert.Empty(t, held.Maps)
	r.stop()
	assert.Equal(t, before, kernel.Held(t))
}

// Wherever Start is when it is cancelled, it says just that, and nothing of it is left.
func TestKernelCancelledStart(t *testing.T) {
	kernel.NeedRoot(t)
	r := newRig(t, everything)
	// Start tells of a probe's programs when these are attached.
	programs, last := 0, 0
	var cancel context.CancelFunc
	core, _ := observer.New(zapcore.DebugLevel)
	r.set.Logger = zap.New(core, zap.Hooks(func(e zapcore.Entry) error {
		if e.Message == "program" {
			if programs++; programs == last {
				cancel()
			}
		}
		return nil
	}))
	before := kernel.Held(t)
	require.NoError(t, r.tryStart(t.Context()))
	r.stop()
	require.Equal(t, before, kernel.Held(t))
	all := programs
	for _, test := range []struct {
		name string
		last int                       // program that it tells of
		held func(kernel.Objects) bool // or what it holds
	}{
		{name: "before it begins"},
		{name: "there is a map", held: func(o kernel.Objects) bool { return len(o.Maps) > 0 }},
		{name: "there is a program", held: func(o kernel.Objects) bool { return len(o.Programs) > 0 }},
		{name: "there is a link", held: func(o kernel.Objects) bool { return len(o.Links) > 0 }},
		{name: "the first probe is attached", last: 1},
		{name: "half of all is attached", last: all / 2},
		{name: "the last probe is attached", last: all},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, c := context.WithCancel(t.Context())
			defer c()
			programs, last, cancel = 0, test.last, c
			var watching sync.WaitGroup
			switch {
			case test.held != nil:
				watching.Go(func() {
					for ctx.Err() == nil && !test.held(kernel.Held(t)) {
						continue
					}
					c()
				})
			case test.last == 0:
				c()
			}
			err := r.tryStart(ctx)
			c()
			watching.Wait()
			require.ErrorIs(t, err, context.Canceled)
			assert.NotContains(t, err.Error(), "\n")
			if test.last < all {
				assert.Less(t, programs, all, "nothing more is attached")
			}
			assert.Equal(t, before, kernel.Held(t))
			require.NoError(t, r.shutdown(t.Context()), "the Collector shuts down what failed to start")
			assert.Equal(t, before, kernel.Held(t))
		})
	}
}

// The context of Start is for Start alone.
func TestKernelStartContextEnds(t *testing.T) {
	kernel.NeedRoot(t)
	c := kernel.NewCgroup(t)
	r := newRig(t, watched(c))
	sink := new(consumertest.LogsSink)
	r.logs = sink
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, r.tryStart(ctx))
	cancel()
	require.NoError(t, c.Command("true").Run())
	r.stop()
	assert.Equal(t, 1, sink.LogRecordCount())
}

func TestKernelTwoInstances(t *testing.T) {
	kernel.NeedRoot(t)
	one, two := kernel.NewCgroup(t), kernel.NewCgroup(t)
	a, b := newRig(t, watched(one)), newRig(t, watched(two))
	a.logs, b.logs = new(consumertest.LogsSink), new(consumertest.LogsSink)
	before := kernel.Held(t)
	a.start()
	first := kernel.Held(t)
	b.start()
	both := kernel.Held(t)
	assert.Len(t, both.Programs, 2*len(first.Programs))
	assert.Len(t, both.Maps, 2*len(first.Maps))

	require.NoError(t, one.Command("true").Run())
	require.NoError(t, two.Command("true").Run())
	a.stop()
	require.NoError(t, two.Command("true").Run(), "the other one goes on")
	assert.Len(t, kernel.Held(t).Programs, len(first.Programs))
	b.stop()
	assert.Equal(t, []string{one.Path}, cgroups(a.logs.(*consumertest.LogsSink)))
	assert.Equal(t, []string{two.Path, two.Path}, cgroups(b.logs.(*consumertest.LogsSink)))
	assert.Equal(t, before.Maps, kernel.Held(t).Maps)
}

// A Collector that reloads makes the new configuration's components while the old ones are there, and starts them after those ended.
func TestKernelReload(t *testing.T) {
	kernel.NeedRoot(t)
	c := kernel.NewCgroup(t)
	r := newRig(t, watched(c))
	sink := new(consumertest.LogsSink)
	r.logs = sink
	r.start()
	for range 3 {
		require.NoError(t, c.Command("true").Run())
		old := r.components
		r.configure(watched(c))
		done := make(chan struct{})
		go func() {
			defer close(done)
			for _, component := range old {
				assert.NoError(t, component.Shutdown(t.Context()))
			}
		}()
		require.NoError(t, r.tryStart(t.Context()))
		<-done
	}
	require.NoError(t, c.Command("true").Run())
	r.stop()
	assert.Len(t, cgroups(sink), 4)
}

func cgroups(sink *consumertest.LogsSink) (paths []string) {
	for _, record := range records(sink.AllLogs()...) {
		path, _ := record.Attributes().Get("process.linux.cgroup")
		paths = append(paths, path.Str())
	}
	return paths
}

func records(all ...plog.Logs) (list []plog.LogRecord) {
	for _, ld := range all {
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, record := range sl.LogRecords().All() {
					list = append(list, record)
				}
			}
		}
	}
	return list
}

// Shutdown returns in time, whatever consumers do.
func TestKernelShutdownWithABlockedConsumer(t *testing.T) {
	kernel.NeedRoot(t)
	for name, heeds := range map[string]bool{"heeds its context": true, "heeds nothing": false} {
		t.Run(name, func(t *testing.T) {
			c := kernel.NewCgroup(t)
			r := newRig(t, watched(c))
			metrics, logs := newBlocked(heeds), newBlocked(heeds)
			r.metrics, r.logs = metrics, logs
			r.configure("collection_interval: 100ms\nprobes: { cpu: {}, process: { events: { ebpf.process.exec: { filter: { cgroups: [" + c.Path + "] } } } } }")
			require.NoError(t, c.Command("true").Run()) // opens the cgroup's directory
			before, ignore := kernel.Held(t), goleak.IgnoreCurrent()
			require.NoError(t, r.tryStart(t.Context()))
			held := kernel.Held(t)
			require.NoError(t, c.Command("true").Run())
			<-metrics.entered
			<-logs.entered
			// There is more to deliver after this.
			require.NoError(t, c.Command("true").Run())

			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			err := r.shutdown(ctx) // returns, though nobody has released the consumers
			require.ErrorContains(t, err, "in time")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.NotContains(t, err.Error(), "\n")
			calls := metrics.calls() + logs.calls()
			held.RequireGone(t)
			assert.Equal(t, before.Maps, kernel.Held(t).Maps)
			assert.Zero(t, kernel.Held(t).Mappings)

			close(metrics.release)
			close(logs.release)
			require.Eventually(t, func() bool { return metrics.inside()+logs.inside() == 0 }, eventually, poll)
			goleak.VerifyNone(t, ignore)
			assert.Equal(t, calls, metrics.calls()+logs.calls(), "no consumer is called after Shutdown")
			assert.Equal(t, before, kernel.Held(t))
		})
	}
}

func TestKernelShutdownWithoutTime(t *testing.T) {
	kernel.NeedRoot(t)
	c := kernel.NewCgroup(t)
	r := newRig(t, watched(c))
	before := kernel.Held(t)
	require.NoError(t, r.tryStart(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, r.shutdown(ctx), context.Canceled)
	assert.Equal(t, before, kernel.Held(t))
}

// A consumer that takes its time gets the last data all the same, as long as Shutdown has time.
func TestKernelShutdownDeliversTheLastData(t *testing.T) {
	kernel.NeedRoot(t)
	c := kernel.NewCgroup(t)
	r := newRig(t, "probes: { cpu: {}, process: { events: { ebpf.process.exec: { filter: { cgroups: ["+c.Path+"] } } } } }")
	logs, metrics := new(consumertest.LogsSink), new(consumertest.MetricsSink)
	r.logs = slowLogs{logs}
	r.metrics = metrics
	r.start()
	for range 20 {
		require.NoError(t, c.Command("true").Run())
	}
	require.NoError(t, r.shutdown(context.Background()), "without a deadline of its own")
	assert.Len(t, execs(records(logs.AllLogs()...)), 20)
	assert.Positive(t, metrics.DataPointCount())
}

func execs(all []plog.LogRecord) (found []plog.LogRecord) {
	for _, record := range all {
		if record.EventName() == "ebpf.process.exec" {
			found = append(found, record)
		}
	}
	return found
}

// slowLogs takes data, but not at once.
type slowLogs struct{ *consumertest.LogsSink }

func (s slowLogs) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	time.Sleep(300 * time.Millisecond)
	return s.LogsSink.ConsumeLogs(ctx, logs)
}
