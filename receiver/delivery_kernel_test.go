// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

var errNotNow = errors.New("not now")

// run executes true n times, each with its number.
func run(t *testing.T, c *kernel.Cgroup, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		require.NoError(t, c.Command("true", strconv.Itoa(i)).Run())
	}
}

// numbers are those that run gave, in the order of their arrival.
func numbers(t *testing.T, all []plog.LogRecord) (list []int) {
	t.Helper()
	for _, record := range execs(all) {
		args, ok := record.Attributes().Get("process.command_args")
		require.True(t, ok)
		n, err := strconv.Atoi(args.Slice().At(1).Str())
		require.NoError(t, err)
		list = append(list, n)
	}
	return list
}

func upTo(n int) (list []int) {
	for i := range n {
		list = append(list, i)
	}
	return list
}

// Whatever a consumer refuses for now arrives later, once and in order.
func TestKernelLogsAreOfferedAgain(t *testing.T) {
	kernel.NeedRoot(t)
	for name, mutates := range map[string]bool{"reads": false, "mutates": true} {
		t.Run(name, func(t *testing.T) {
			c := kernel.NewCgroup(t)
			r := newRig(t, watched(c))
			p := &picky{mutates: mutates, decide: func(call int) error {
				if call%4 != 0 {
					return errNotNow
				}
				return nil
			}}
			r.logs = p
			r.start()
			run(t, c, 0, 10)
			require.Eventually(t, func() bool { return p.count() >= 2 }, eventually, time.Millisecond)
			run(t, c, 10, 30)
			account := r.settled()["ebpf.process.exec"]
			assert.EqualValues(t, 30, account["delivered"])
			assert.Zero(t, account["refused"])
			r.stop()
			assert.Equal(t, upTo(30), numbers(t, records(p.AllLogs()...)))
			assert.EqualValues(t, 30, r.sum("otelcol_receiver_accepted_log_records"))
			assert.Zero(t, r.sum("otelcol_receiver_refused_log_records"), "in the end, nothing was")
		})
	}
}

// sum adds up a metric of the Collector's own; 0 when it is not there.
func (r *rig) sum(name string) (sum int64) {
	m, err := r.telemetry.GetMetric(name)
	if err != nil {
		return 0
	}
	for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
		sum += p.Value
	}
	return sum
}

// What is refused for good is counted, and not offered again; the next payload is.
func TestKernelLogsRefusedForGood(t *testing.T) {
	kernel.NeedRoot(t)
	for name, refuse := range map[string]func() error{
		"permanent": func() error { return consumererror.NewPermanent(errors.New("never")) },
		"panic":     func() error { panic("a bug") },
	} {
		t.Run(name, func(t *testing.T) {
			c := kernel.NewCgroup(t)
			r := newRig(t, watched(c))
			p := &picky{decide: func(call int) error {
				if call <= 2 {
					return refuse()
				}
				return nil
			}}
			r.logs = p
			r.start()
			for i := range 3 {
				run(t, c, i, i+1)
				require.Eventually(t, func() bool { return p.count() == i+1 }, eventually, time.Millisecond)
			}
			account := r.settled()["ebpf.process.exec"]
			assert.EqualValues(t, 2, account["refused"])
			assert.EqualValues(t, 1, account["delivered"])
			assert.Equal(t, 3, p.count(), "each payload was offered once")
			assert.Equal(t, []int{2}, numbers(t, records(p.AllLogs()...)))
			r.stop()
			assert.Equal(t, 1, r.messages.FilterMessage("the next consumer refuses data").Len(), "told when it began")
			again := r.messages.FilterMessage("the next consumer takes data again").All()
			require.Len(t, again, 1)
			assert.EqualValues(t, 2, again[0].ContextMap()["refused"])
			if name == "panic" {
				told := r.messages.FilterMessage("the next consumer refuses data").All()[0].ContextMap()
				assert.Contains(t, told["error"], "the next consumer panicked: a bug")
				assert.Contains(t, told["stack"], "picky")
			}
		})
	}
}

// created is the configuration of a count of processes, of the cgroups of a test.
const created = `
collection_interval: 100ms
temporality: %s
probes:
  process:
    metrics:
      system.process.created: { attributes: [cgroup] }
      ebpf.process.lifetime: { enabled: false }
`

// growth adds up what a count of processes has of a cgroup, whose intervals follow one another.
func growth(t *testing.T, all []pmetric.Metrics, c *kernel.Cgroup) (sum float64) {
	t.Helper()
	var end time.Time
	for _, md := range all {
		for _, point := range kernel.With(kernel.Points(md, "system.process.created"), "process.linux.cgroup", c.Path) {
			sum += point.Value
			assert.False(t, point.Start.AsTime().Before(end), "intervals overlap")
			end = point.End.AsTime()
			assert.False(t, end.Before(point.Start.AsTime()))
		}
	}
	return sum
}

// The sum of all growths is the truth, and their intervals follow one another.
func TestKernelDeltasSurviveRefusal(t *testing.T) {
	kernel.NeedRoot(t)
	for name, mutates := range map[string]bool{"reads": false, "mutates": true} {
		t.Run(name, func(t *testing.T) {
			c := kernel.NewCgroup(t)
			r := newRig(t, fmt.Sprintf(created, "delta"))
			// 16 attempts in a row take longer than the tick, and than the patience.
			p := &picky{mutates: mutates, decide: func(call int) error {
				if call%16 != 0 {
					return errNotNow
				}
				return nil
			}}
			r.metrics, r.logs = p, nil
			r.start()
			born := 0
			deadline := time.Now().Add(eventually)
			for p.metrics.DataPointCount() == 0 || born < 40 {
				require.True(t, time.Now().Before(deadline), "nothing was delivered")
				run(t, c, born, born+1)
				born++
			}
			p.mu.Lock()
			p.decide = func(int) error { return nil }
			p.mu.Unlock()
			r.stop()
			assert.EqualValues(t, born, growth(t, p.metrics.AllMetrics(), c))
			again := r.messages.FilterMessage("the next consumer takes data again").All()
			require.NotEmpty(t, again)
			for _, e := range again {
				assert.EqualValues(t, 0, e.ContextMap()["refused"], "what was taken in the end")
			}
		})
	}
}

// While a consumer does not return, the kernel's maps go on counting.
func TestKernelMetricsSurviveABlockedConsumer(t *testing.T) {
	kernel.NeedRoot(t)
	for _, temporality := range []string{"delta", "cumulative"} {
		t.Run(temporality, func(t *testing.T) {
			c := kernel.NewCgroup(t)
			r := newRig(t, fmt.Sprintf(created, temporality))
			b, sink := newBlocked(false), new(consumertest.MetricsSink)
			metrics, err := consumer.NewMetrics(func(ctx context.Context, md pmetric.Metrics) error {
				if err := b.consume(ctx); err != nil {
					return err
				}
				return sink.ConsumeMetrics(ctx, md)
			})
			require.NoError(t, err)
			release := sync.OnceFunc(func() { close(b.release) })
			defer release()
			r.metrics, r.logs = metrics, nil
			r.start()
			// The first payload has some of them, or those of others.
			run(t, c, 0, 5)
			select {
			case <-b.entered:
			case <-time.After(eventually):
				require.Fail(t, "nothing was delivered")
			}
			for born := 5; born < 40; born += 7 {
				run(t, c, born, born+7)
				time.Sleep(150 * time.Millisecond) // an interval, and a half
			}
			assert.Equal(t, 1, b.calls(), "it has not returned")
			release()
			r.stop()
			all := sink.AllMetrics()
			if temporality == "cumulative" {
				all = all[len(all)-1:]
			}
			assert.EqualValues(t, 40, growth(t, all, c))
		})
	}
}

func TestKernelDeltasRefusedForGood(t *testing.T) {
	kernel.NeedRoot(t)
	for name, refuse := range map[string]func() error{
		"permanent": func() error { return consumererror.NewPermanent(errors.New("never")) },
		"panic":     func() error { panic("a bug") },
	} {
		t.Run(name, func(t *testing.T) {
			c := kernel.NewCgroup(t)
			r := newRig(t, fmt.Sprintf(created, "delta"))
			p := &picky{decide: func(int) error { return refuse() }}
			r.metrics, r.logs = p, nil
			r.start()
			run(t, c, 0, 5)
			require.Eventually(t, func() bool { return p.count() >= 1 }, eventually, time.Millisecond)
			// Two more ticks: what was counted so far has been refused by then.
			seen := p.count()
			for i := 0; p.count() < seen+2; i++ {
				run(t, kernel.NewCgroup(t), i, i+1)
			}
			p.mu.Lock()
			p.decide = func(int) error { return nil }
			p.mu.Unlock()
			run(t, c, 5, 8)
			r.stop()
			assert.EqualValues(t, 3, growth(t, p.metrics.AllMetrics(), c), "refused growths are not sent again")
			require.Positive(t, p.refusedPoints)
			assert.EqualValues(t, p.refusedPoints, r.sum("otelcol_receiver_refused_metric_points"))
			assert.EqualValues(t, p.metrics.DataPointCount(), r.sum("otelcol_receiver_accepted_metric_points"))
		})
	}
}

// A cumulative payload that is refused is made good by the next one.
func TestKernelCumulativeSurvivesRefusal(t *testing.T) {
	kernel.NeedRoot(t)
	for name, refuse := range map[string]func() error{
		"for now": func() error { return errNotNow },
		"panic":   func() error { panic("a bug") },
	} {
		t.Run(name, func(t *testing.T) {
			c := kernel.NewCgroup(t)
			r := newRig(t, fmt.Sprintf(created, "cumulative"))
			p := &picky{decide: func(call int) error {
				if call < 10 {
					return refuse()
				}
				return nil
			}}
			r.metrics, r.logs = p, nil
			r.start()
			run(t, c, 0, 15)
			require.Eventually(t, func() bool { return p.count() >= 12 }, eventually, time.Millisecond)
			run(t, c, 15, 20)
			r.stop()
			all := p.metrics.AllMetrics()
			last := kernel.With(kernel.Points(all[len(all)-1], "system.process.created"), "process.linux.cgroup", c.Path)
			require.Len(t, last, 1)
			assert.EqualValues(t, 20, last[0].Value)
			assert.LessOrEqual(t, last[0].Start, last[0].End)
		})
	}
}

// Data that can not be delivered in the time that Shutdown has is given up, and Shutdown says so.
func TestKernelShutdownGivesUp(t *testing.T) {
	kernel.NeedRoot(t)
	c := kernel.NewCgroup(t)
	r := newRig(t, watched(c))
	p := &picky{decide: func(int) error { return errNotNow }}
	r.logs = p
	require.NoError(t, r.tryStart(t.Context()))
	run(t, c, 0, 3)
	require.Eventually(t, func() bool { return p.count() >= 1 }, eventually, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.EqualError(t, r.shutdown(ctx), "the last data was not delivered in time: context deadline exceeded")
	calls := p.count()
	run(t, c, 3, 4)
	assert.Equal(t, calls, p.count())
}
