// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
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

// different is the number of an event's records without those that came again, where all numbers are kept.
func (l *ledger) different(event string) (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, numbers := range l.seen {
		if s.event == event {
			n += int64(len(numbers))
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

// smallRing is the size of a ring that a storm fills at once, in bytes.
const smallRing = 256 << 10

// ringRecords is how many of the numbered events a ring has room for, where each has a header of eight bytes.
func ringRecords(t *testing.T, size int64) int64 {
	t.Helper()
	object, err := numbered.ReadFile("numbered/numbered.bpf.o")
	require.NoError(t, err)
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	require.NoError(t, err)
	var record *btf.Struct
	require.NoError(t, spec.Types.TypeByName("record", &record))
	return size / (8 + int64(record.Size))
}

// stormConfig has all three types, of which one is limited, and one is that of a cgroup.
func stormConfig(dir string, token uint32, c *kernel.Cgroup, ring int) string {
	return fmt.Sprintf(`
collection_interval: %v
probes:
  cpu: { metrics: { container.cpu.time: { attributes: [process.linux.cgroup] } } }
  numbered:
    path: %q
    token: %d
    burst: %d
    ring_size: %d
    events:
      ebpf.test.limited: { rate_limit: 1000 }
      ebpf.test.filtered: { filter: { cgroups: [%q] } }
`, tick, dir, token, burst, ring, c.Path)
}

// usage is the CPU time that a cgroup has used, by the kernel's account.
func usage(t *testing.T, c *kernel.Cgroup) time.Duration {
	t.Helper()
	var used int64
	_, err := fmt.Sscanf(c.Read("cpu.stat"), "usage_usec %d", &used)
	require.NoError(t, err)
	return time.Duration(used) * time.Microsecond
}

// tick is the collection interval of tests that count ticks.
const tick = 250 * time.Millisecond

// bareTicks counts those of a ticker that nothing hangs on, until their number is asked for. A machine that stands still takes ticks from it as it does
// from collections; what holds up collections alone does not.
func bareTicks(t *testing.T) (number func() int64) {
	stop, counted := make(chan struct{}), make(chan int64)
	go func() {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for n := int64(0); ; {
			select {
			case <-ticker.C:
				n++
			case <-stop:
				counted <- n
				return
			}
		}
	}()
	number = sync.OnceValue(func() int64 { close(stop); return <-counted })
	t.Cleanup(func() { number() })
	return number
}

// leastTicks is how many collections have to come beside so many bare ticks: some quarters of them, but for one that may be on its way. On emulated
// processors, of which a collection waits for each, it is one in sixteen, and three of twelve or more.
func leastTicks(bare, quarters int64) int64 {
	if testing.Short() {
		return min(bare/4, max(3, bare/16))
	}
	return bare*quarters/4 - 1
}

// mostRecords are those of a payload.
const mostRecords = 8192

// stormMemory is what a storm may add to the memory of a receiver: some payloads of mostRecords each.
const stormMemory = 128 * MiB

// More comes than the reader can take: ten times as much, because the consumer waits until there was that much, and
// as much as two CPUs can make. Every single event is accounted for, and metrics go on.
func TestKernelStorm(t *testing.T) {
	for name, ratio := range map[string]int64{"ten times too much": 10, "as much as there can be": 0} {
		t.Run(name, func(t *testing.T) {
			dir, token := numberedProbe(t)
			mine, other := kernel.NewCgroup(t), kernel.NewCgroup(t)
			bursts := size(25_000, 10_000, 150_000) // the small ones are short

			l := newLedger()
			var generators []*generator
			var over atomic.Bool
			var largest int64 // payload
			made := func() (n int64) {
				for _, g := range generators {
					n += 3 * burst * g.made.Load()
				}
				return n
			}
			logs := logsFunc(t, func(_ context.Context, ld plog.Logs) error {
				l.take(ld)
				largest = max(largest, int64(ld.LogRecordCount()))
				for total := l.total(); !over.Load() && made() < ratio*total; {
					time.Sleep(time.Millisecond)
				}
				return nil
			})
			var ticks atomic.Int64
			var counted float64 // seconds
			metrics := metricsFunc(t, func(_ context.Context, md pmetric.Metrics) error {
				ticks.Add(1)
				numberPoints(md, "container.cpu.time", func(p pmetric.NumberDataPoint) {
					if v, _ := p.Attributes().Get("process.linux.cgroup"); v.Str() == mine.Path {
						counted = p.DoubleValue()
					}
				})
				return nil
			})
			generators = []*generator{newGenerator(t, mine, token, events, 0, 0), newGenerator(t, other, token, events, 1, 0)}
			m := watchMemory(t)
			earliest := usage(t, mine)
			r := start(t, stormConfig(dir, token, mine, smallRing), metrics, logs)
			latest := usage(t, mine)

			begin, before, bare := time.Now(), ticks.Load(), bareTicks(t)
			together(bursts, generators...)
			took, due := time.Since(begin), bare()
			ticked := ticks.Load() - before
			over.Store(true)
			all := r.settled()
			grown := m.grown()
			// A program is skipped where it would interrupt itself, which the kernel counts.
			misses := r.number("otelcol_receiver_ebpf_program_recursion_misses", func(get func(string) string) bool { return get("program") == "number_events" })
			used := usage(t, mine)
			r.stop()
			require.Zero(t, misses, "the generators disturbed each other")

			each := int64(bursts) * burst
			l.balance(t, all, []int64{each, each}, each)
			if ratio > 0 {
				assert.Positive(t, all[plain]["dropped"], "no storm")
				// A last payload, and a ring of records, come without a wait: there are so many that they make no difference.
				assert.LessOrEqual(t, ratio*(l.total()-largest-ringRecords(t, smallRing)), 6*each, "more than the consumer waited for")
				assert.Greater(t, 6*each, (ratio-1)*l.total(), "no storm")
			}
			assert.Less(t, grown, stormMemory)
			assert.GreaterOrEqual(t, ticked, leastTicks(due, 3), "ticks, where a bare ticker had %d", due)
			// The kernel brings the account of a running task up to date at its own ticks.
			const late = 10 * time.Millisecond
			assert.GreaterOrEqual(t, counted, (used - latest - late).Seconds(), "CPU time while it was attached for sure")
			assert.LessOrEqual(t, counted, (usage(t, mine) - earliest + late).Seconds(), "CPU time from before to after")
			t.Logf("%d events in %.1f s, %d delivered, %.1f times as many as that; %d ticks of %d; %.3f s of CPU time; memory grew by %.1f MiB",
				6*each, took.Seconds(), l.total(), float64(6*each)/float64(max(l.total(), 1)), ticked, due, counted, float64(grown)/MiB)
		})
	}
}

// Two receivers see the same storm, and share nothing: the slow one, which loses what its ring has no room for, costs the other no event, and each has an
// account of its own.
func TestKernelStormForTwo(t *testing.T) {
	dir, token := numberedProbe(t)
	mine, other := kernel.NewCgroup(t), kernel.NewCgroup(t)
	bursts := size(2000, 200, 5000)
	// Few enough at a time for a receiver that takes them at once.
	g := newGenerator(t, mine, token, events, 0, time.Duration(burst)*100*time.Microsecond)
	var ledgers []*ledger
	var rigs []*rig
	entered, release := make(chan struct{}), make(chan struct{})
	blocked := sync.OnceFunc(func() { close(entered) })
	const slowRing = 4 * smallRing
	require.Greater(t, ringRecords(t, slowRing), int64(mostRecords), "more than a payload")
	var largest [2]int // payloads
	for i, slow := range []bool{false, true} {
		l := newLedger()
		ledgers = append(ledgers, l)
		logs := logsFunc(t, func(_ context.Context, ld plog.Logs) error {
			if slow {
				blocked()
				<-release
			}
			largest[i] = max(largest[i], ld.LogRecordCount())
			l.take(ld)
			return nil
		})
		ring := 16 * MiB
		if slow {
			ring = slowRing
		}
		rigs = append(rigs, start(t, stormConfig(dir, token, other, ring), nothing, logs))
	}
	// From the first burst on, the slow one takes nothing out of its ring.
	g.run(1)
	<-entered
	g.run(bursts - 1)
	truth := int64(bursts) * burst
	quick := rigs[0].settled()
	assert.Zero(t, quick[plain]["dropped"], "the other one's drops")
	least := truth - burst - ringRecords(t, slowRing)
	require.Positive(t, least, "no storm")
	close(release)
	for i, r := range rigs {
		all := r.settled()
		r.stop()
		ledgers[i].balance(t, all, []int64{truth}, 0)
		t.Logf("%d of %d events dropped", all[plain]["dropped"]+all[limited]["dropped"], 3*truth)
		if i == 1 {
			assert.GreaterOrEqual(t, all[plain]["dropped"], least, "more than the ring has room for")
			assert.Equal(t, mostRecords, largest[i], "a payload of a full ring")
		}
		assert.LessOrEqual(t, largest[i], mostRecords, "a payload")
	}
	assert.Equal(t, truth, ledgers[0].arrived(plain))
}
