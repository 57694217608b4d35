// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

const (
	plain    = "ebpf.test.plain"
	limited  = "ebpf.test.limited"
	filtered = "ebpf.test.filtered"
)

// source is one stream's events of one type.
type source struct {
	event  string
	stream int64
}

// ledger holds what arrives to its numbers.
type ledger struct {
	mu    sync.Mutex
	next  map[source]int64 // the least number that may come
	count map[source]int64
	told  map[string]map[string]int64 // of losses, by event and outcome
	// seen has all numbers where they may come in any order.
	seen  map[source]map[int64]bool
	wrong []string
}

func newLedger() *ledger {
	return &ledger{next: make(map[source]int64), count: make(map[source]int64), told: make(map[string]map[string]int64)}
}

func (l *ledger) take(ld plog.Logs) {
	l.mu.Lock()
	defer l.mu.Unlock()
	logRecords(ld, func(r plog.LogRecord) {
		if r.EventName() == "ebpf.events.lost" {
			a := r.Attributes().AsRaw()
			event := a["ebpf.event.name"].(string)
			if l.told[event] == nil {
				l.told[event] = make(map[string]int64)
			}
			l.told[event]["dropped"] += a["ebpf.events.dropped"].(int64)
			l.told[event]["limited"] += a["ebpf.events.limited"].(int64)
			return
		}
		stream, _ := r.Attributes().Get("stream")
		sequence, _ := r.Attributes().Get("sequence")
		s := source{r.EventName(), stream.Int()}
		if l.again(s, sequence.Int()) && len(l.wrong) < 10 {
			l.wrong = append(l.wrong, fmt.Sprintf("%v has %d after %d", s, sequence.Int(), l.next[s]-1))
		}
		l.next[s] = sequence.Int() + 1
		l.count[s]++
	})
}

// again tells of a number that came before or, where there is an order, could have.
func (l *ledger) again(s source, number int64) bool {
	if l.seen == nil {
		return number < l.next[s]
	}
	if l.seen[s] == nil {
		l.seen[s] = make(map[int64]bool)
	}
	was := l.seen[s][number]
	l.seen[s][number] = true
	return was
}

// arrived is the number of an event's records.
func (l *ledger) arrived(event string) (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, count := range l.count {
		if s.event == event {
			n += count
		}
	}
	return n
}

func (l *ledger) total() int64 { return l.arrived(plain) + l.arrived(limited) + l.arrived(filtered) }

// balance holds the account of the kernel and the Collector, and what arrived, to what each stream made of every type.
func (l *ledger) balance(t *testing.T, all map[string]account, made []int64, passes int64) {
	t.Helper()
	var truth int64
	for _, n := range made {
		truth += n
	}
	assert.Empty(t, l.wrong, "an event came twice, or out of order")
	for s, next := range l.next {
		assert.LessOrEqual(t, next, made[s.stream], "%v: more than there was", s)
	}
	for _, event := range []string{plain, limited, filtered} {
		a := all[event]
		// Each number came once, so what did not come is what is missing.
		missing := truth - l.arrived(event)
		assert.Equal(t, truth, a["produced"], "%s: produced", event)
		assert.Equal(t, l.arrived(event), a["delivered"], "%s: delivered", event)
		assert.Equal(t, missing, a["dropped"]+a["limited"]+a["filtered"]+a["refused"], "%s: missing, %v", event, a)
		assert.Equal(t, a["dropped"], l.told[event]["dropped"], "%s: told of as dropped", event)
		assert.Equal(t, a["limited"], l.told[event]["limited"], "%s: told of as limited", event)
		assert.Equal(t, event == limited, a["limited"] > 0, "%s: limited", event)
		if event == filtered {
			assert.Equal(t, truth-passes, a["filtered"], "%s: filtered", event)
		} else {
			assert.Zero(t, a["filtered"], "%s: filtered", event)
		}
	}
}

// stormConfig has all three types, of which one is limited, and one is that of a cgroup. The ring is small, so that it is full at once.
func stormConfig(dir string, token uint32, c *kernel.Cgroup) string {
	return fmt.Sprintf(`
collection_interval: %v
probes:
  cpu:
  numbered:
    path: %q
    token: %d
    burst: %d
    ring_size: 256KiB
    events:
      ebpf.test.limited: { rate_limit: 1000 }
      ebpf.test.filtered: { filter: { cgroups: [%q] } }
`, tick, dir, token, burst, c.Path)
}

// tick is the collection interval of tests that count ticks. One in four has to come, whatever the machine does besides.
const tick = 250 * time.Millisecond

// stormMemory is what a storm may add to the memory of a receiver: some payloads of at most 8192 records each.
const stormMemory = 128 * MiB

// More comes than the reader can take: ten times as much, because the consumer waits until there was that much, and
// as much as two CPUs can make. Every single event is accounted for, and metrics go on.
func TestKernelStorm(t *testing.T) {
	for name, ratio := range map[string]int64{"ten times too much": 10, "as much as there can be": 0} {
		t.Run(name, func(t *testing.T) {
			dir, token := numberedProbe(t)
			mine, other := kernel.NewCgroup(t), kernel.NewCgroup(t)
			bursts := size(1000, 10_000, 150_000)

			l := newLedger()
			var generators []*generator
			var over atomic.Bool
			made := func() (n int64) {
				for _, g := range generators {
					n += 3 * burst * g.made.Load()
				}
				return n
			}
			logs := logsFunc(t, func(_ context.Context, ld plog.Logs) error {
				l.take(ld)
				for total := l.total(); !over.Load() && made() < ratio*total; {
					time.Sleep(time.Millisecond)
				}
				return nil
			})
			var ticks atomic.Int64
			metrics := metricsFunc(t, func(context.Context, pmetric.Metrics) error { ticks.Add(1); return nil })
			generators = []*generator{newGenerator(t, mine, token, events, 0, 0), newGenerator(t, other, token, events, 1, 0)}
			m := watchMemory(t)
			r := start(t, stormConfig(dir, token, mine), metrics, logs)

			begin, before := time.Now(), ticks.Load()
			var running sync.WaitGroup
			for _, g := range generators {
				running.Go(func() { g.run(bursts) })
			}
			running.Wait()
			took, ticked := time.Since(begin), ticks.Load()-before
			over.Store(true)
			all := r.settled()
			grown := m.grown()
			// A program is skipped where it would interrupt itself, which the kernel counts.
			misses := r.number("otelcol_receiver_ebpf_program_recursion_misses", func(get func(string) string) bool { return get("program") == "number_events" })
			r.stop()
			require.Zero(t, misses, "the generators disturbed each other")

			each := int64(bursts) * burst
			l.balance(t, all, []int64{each, each}, each)
			if ratio > 0 {
				// The last payload and what was in the ring at the end came without a wait.
				assert.GreaterOrEqual(t, 6*each, ratio*(l.total()-12_000), "no storm")
			}
			assert.Less(t, grown, stormMemory)
			assert.GreaterOrEqual(t, ticked, int64(took/tick/4))
			t.Logf("%d events in %.1f s, %d delivered, %.1f times as many as that; %d ticks of %d; memory grew by %.1f MiB",
				6*each, took.Seconds(), l.total(), float64(6*each)/float64(max(l.total(), 1)), ticked, took/tick, float64(grown)/MiB)
		})
	}
}

// Two receivers see the same storm, and share nothing: the slow one costs the other no event, and each has an account of its own.
func TestKernelStormForTwo(t *testing.T) {
	dir, token := numberedProbe(t)
	mine, other := kernel.NewCgroup(t), kernel.NewCgroup(t)
	bursts := size(500, 200, 5000)
	// Few enough at a time for a receiver that takes them at once.
	g := newGenerator(t, mine, token, events, 0, time.Duration(burst)*100*time.Microsecond)
	var ledgers []*ledger
	var rigs []*rig
	release := make(chan struct{})
	for _, slow := range []bool{false, true} {
		l := newLedger()
		ledgers = append(ledgers, l)
		logs := logsFunc(t, func(_ context.Context, ld plog.Logs) error {
			if slow {
				<-release
			}
			l.take(ld)
			return nil
		})
		config := stormConfig(dir, token, other)
		if !slow {
			config = strings.Replace(config, "256KiB", "16MiB", 1)
		}
		rigs = append(rigs, start(t, config, nothing, logs))
	}
	g.run(bursts)
	truth := int64(bursts) * burst
	quick := rigs[0].settled()
	assert.Zero(t, quick[plain]["dropped"], "the other one's drops")
	close(release)
	for i, r := range rigs {
		all := r.settled()
		r.stop()
		ledgers[i].balance(t, all, []int64{truth}, 0)
		t.Logf("%d of %d events dropped", all[plain]["dropped"]+all[limited]["dropped"], 3*truth)
	}
	assert.Equal(t, truth, ledgers[0].arrived(plain))
}
