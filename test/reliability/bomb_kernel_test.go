// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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

// bomb is a shell that starts two of its own kind, and does not wait for them, until there are as many as it is told. Each has two
// numbers in its arguments: that of its place in the tree, from 1, and that of the bomb.
const bomb = `n=$(( $1 * 2 ))
if [ $n -le $2 ]; then /bin/sh "$0" $n $2 $3 & fi
n=$(( n + 1 ))
if [ $n -le $2 ]; then /bin/sh "$0" $n $2 $3 & fi
`

// explode sets one off in a cgroup, and comes back when the last process has ended.
func explode(t *testing.T, c *kernel.Cgroup, script string, number, processes int) {
	t.Helper()
	require.NoError(t, c.Command("/bin/sh", script, "1", strconv.Itoa(processes), strconv.Itoa(number)).Run())
	require.Eventually(t, func() bool { return strings.Contains(c.Read("cgroup.events"), "populated 0") }, patience, poll)
}

// processLedger holds the records of the process probe to the processes.
type processLedger struct {
	mu       sync.Mutex
	created  map[processRecord]time.Time
	executed map[[2]int64]bool // by bomb and place
	arrived  map[string]int64
	told     map[string]int64
	capacity int64 // of a bomb
	wrong    []string
}

// processRecord is an event of a process. Its pid may be another one's later.
type processRecord struct {
	event string
	pid   int64
}

func (l *processLedger) take(ld plog.Logs) {
	l.mu.Lock()
	defer l.mu.Unlock()
	logRecords(ld, func(r plog.LogRecord) {
		a := r.Attributes().AsRaw()
		if r.EventName() == "ebpf.events.lost" {
			l.told[a["ebpf.event.name"].(string)] += a["ebpf.events.dropped"].(int64)
			return
		}
		l.arrived[r.EventName()]++
		if err := l.isNew(r.EventName(), a); err != nil && len(l.wrong) < 10 {
			l.wrong = append(l.wrong, err.Error())
		}
	})
}

// isNew holds a record to those before it: a process has one of each event.
func (l *processLedger) isNew(event string, a map[string]any) error {
	record := processRecord{event, a["process.pid"].(int64)}
	created, err := time.Parse(time.RFC3339Nano, a["process.creation.time"].(string))
	if err != nil {
		return err
	}
	// The boot clock's offset to the date is measured again and again: the same time may be another date, by a little.
	before, again := l.created[record]
	l.created[record] = created
	if again && created.Sub(before).Abs() < 10*time.Millisecond {
		return fmt.Errorf("%v of %v comes twice", record, created)
	}
	if event != "ebpf.process.exec" {
		return nil
	}
	args := a["process.command_args"].([]any)
	if len(args) != 5 {
		return fmt.Errorf("an exec of %q", args)
	}
	place, err := strconv.ParseInt(args[2].(string), 10, 64)
	if err != nil || place < 1 || place > l.capacity {
		return fmt.Errorf("an exec of nobody: %q", args)
	}
	number, err := strconv.ParseInt(args[4].(string), 10, 64)
	if err != nil || l.executed[[2]int64{number, place}] {
		return fmt.Errorf("an exec that comes twice: %q", args)
	}
	l.executed[[2]int64{number, place}] = true
	return nil
}

// total is how many records have arrived.
func (l *processLedger) total() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, count := range l.arrived {
		n += count
	}
	return n
}

// Fork-exec bombs, a small ring, and a consumer that takes nothing during the first one, and its time in the others: every fork, exec and exit is accounted
// for, the metric counts all processes, and nothing grows.
func TestKernelForkBomb(t *testing.T) {
	kernel.NeedRoot(t)
	const memoryLimit = 64 * MiB
	ring := max(os.Getpagesize(), size(4, 64, 64)<<10)
	// The ring has no room for the forks alone of a bomb: a record has more than 64 bytes.
	processes, bombs := size(ring/64, 2000, 4000), size(2, 2, 25)
	script := filepath.Join(t.TempDir(), "bomb")
	require.NoError(t, os.WriteFile(script, []byte(bomb), 0o644))
	c := kernel.NewCgroup(t)

	l := &processLedger{
		created: make(map[processRecord]time.Time), executed: make(map[[2]int64]bool),
		arrived: make(map[string]int64), told: make(map[string]int64), capacity: int64(processes),
	}
	release := make(chan struct{})
	logs := logsFunc(t, func(_ context.Context, ld plog.Logs) error {
		l.take(ld)
		<-release
		time.Sleep(20 * time.Millisecond) // slow, whatever the machine is
		return nil
	})
	var ticks atomic.Int64
	var created int64
	metrics := metricsFunc(t, func(_ context.Context, md pmetric.Metrics) error {
		ticks.Add(1)
		numberPoints(md, "system.process.created", func(p pmetric.NumberDataPoint) {
			if v, _ := p.Attributes().Get("process.linux.cgroup"); v.Str() == c.Path {
				created = p.IntValue()
			}
		})
		return nil
	})
	m := watchMemory(t)
	filter := fmt.Sprintf("{ enabled: true, filter: { cgroups: [%q] } }", c.Path)
	r := start(t, fmt.Sprintf(`
collection_interval: %[2]v
probes:
  process:
    ring_size: %[3]d
    metrics: { system.process.created: { attributes: [cgroup] } }
    events: { ebpf.process.exec: %[1]s, ebpf.process.exit: %[1]s, ebpf.process.fork: %[1]s }
`, filter, tick, ring), metrics, logs)

	begin, before, bare := time.Now(), ticks.Load(), bareTicks(t)
	// A single process: the consumer keeps the first of its records until it is released, and the ring is all that there is for the whole first bomb.
	explode(t, c, script, 0, 1)
	require.Eventually(t, func() bool { return l.total() > 0 }, patience, poll)
	explode(t, c, script, 1, processes)
	close(release)
	overrun := r.settled()
	for number := 2; number <= bombs; number++ {
		explode(t, c, script, number, processes)
		r.settled()
	}
	took, due := time.Since(begin), bare()
	ticked := ticks.Load() - before
	all := r.settled()
	grown := m.grown()
	skipped := make(map[string]int64)
	for _, program := range []string{"process_fork", "process_exec", "process_exit"} {
		skipped[program] = r.number("otelcol_receiver_ebpf_program_recursion_misses", func(get func(string) string) bool { return strings.HasPrefix(get("program"), program) })
	}
	r.stop()

	truth := int64(processes)*int64(bombs) + 1
	var lost, arrived int64
	for _, event := range []string{"ebpf.process.fork", "ebpf.process.exec", "ebpf.process.exit"} {
		assert.Positive(t, overrun[event]["dropped"], "%s: dropped", event)
		a := all[event]
		passed := a["produced"] - a["filtered"]
		// The kernel skips a program where another task was preempted in it, and counts that: Linux 7.2 may preempt at a tracepoint.
		missed := skipped["process_"+strings.TrimPrefix(event, "ebpf.process.")]
		assert.LessOrEqual(t, passed, truth, "%s: passed the filter", event)
		assert.GreaterOrEqual(t, passed, truth-missed, "%s: passed the filter, and %d missed", event, missed)
		if missed > 0 {
			t.Logf("%s: the kernel skipped %d runs, of which %d are ours", event, missed, truth-passed)
		}
		assert.Equal(t, passed, a["delivered"]+a["dropped"], "%s: %v", event, a)
		assert.Zero(t, a["limited"]+a["refused"], event)
		assert.Equal(t, l.arrived[event], a["delivered"], "%s: arrived", event)
		assert.Equal(t, a["dropped"], l.told[event], "%s: told of", event)
		lost += a["dropped"]
		arrived += a["delivered"]
	}
	assert.Empty(t, l.wrong, "an event came twice, or was nobody's")
	assert.LessOrEqual(t, created, truth)
	assert.GreaterOrEqual(t, created, truth-skipped["process_fork"], "the metric has no gaps")
	assert.Less(t, grown, memoryLimit)
	// A collection waits for all CPUs, for which so many processes queue up: in three ticks of four it may be late.
	assert.GreaterOrEqual(t, ticked, leastTicks(due, 1), "ticks, where a bare ticker had %d", due)
	t.Logf("%d processes in %.1f s: %d records, %d lost and told of; %d ticks of %d; memory grew by %.1f MiB",
		truth, took.Seconds(), arrived, lost, ticked, due, float64(grown)/MiB)
}
