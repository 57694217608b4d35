// SPDX-License-Identifier: Apache-2.0

package emit_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/internal/snapshot"
	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/emit"
	"github.com/ebpfreceiver/ebpfreceiver/test/btftypes"
)

// mixed is a key of which each field makes series in another way.
type mixed struct {
	Cgroup uint64 // container: 10 and 11 are one resource; cgroup path: 1 and 2 have one path
	Number uint64
	Kind   uint32 // 1 and 2 share a name
	PID    uint32
	Start  uint64
	Comm   [16]byte // what stands behind the end is noise
}

func mixedType() *btftypes.Struct {
	return btftypes.NewStruct("mixed",
		btftypes.Field{Name: "cgroup", Type: btftypes.U64}, btftypes.Field{Name: "number", Type: btftypes.U64},
		btftypes.Field{Name: "kind", Type: btftypes.U32}, btftypes.Field{Name: "pid", Type: btftypes.U32},
		btftypes.Field{Name: "start", Type: btftypes.U64}, btftypes.Field{Name: "comm", Type: btftypes.Array(btftypes.Char, 16)})
}

var mixedDimensions = map[string]probe.Dimension{
	"container": {Field: "cgroup", As: "container"},
	"cgroup":    {Field: "cgroup", As: "cgroup"},
	"number":    {Field: "number"},
	"kind":      {Field: "kind", As: "enum", Values: map[int64]string{1: "same", 2: "same", 3: "other"}},
	"pid":       {Field: "pid"},
	"start":     {Field: "start"},
	"comm":      {Field: "comm"},
}

// identity is the series of a row as a reader of the attributes sees it, worked out by hand.
func (k mixed) identity(selected map[string]probe.Dimension) string {
	var b strings.Builder
	resource := ""
	for _, d := range sorted(selected) {
		switch d {
		case "container":
			resource = world{}.Resource(k.Cgroup).ContainerID
		case "cgroup":
			path := world{}.CgroupPath(k.Cgroup)
			if path == "" {
				path = number(k.Cgroup)
			}
			fmt.Fprintf(&b, "cgroup=%s;", path)
		case "number":
			fmt.Fprintf(&b, "number=%d;", k.Number)
		case "kind":
			fmt.Fprintf(&b, "kind=%s;", map[uint32]string{1: "same", 2: "same", 3: "other"}[k.Kind])
		case "pid":
			fmt.Fprintf(&b, "pid=%d;", k.PID)
		case "start":
			fmt.Fprintf(&b, "start=%d;", k.Start)
		case "comm":
			comm, _, _ := strings.Cut(string(k.Comm[:]), "\x00")
			fmt.Fprintf(&b, "comm=%s;", comm)
		}
	}
	return resource + "|" + b.String()
}

// identityOf is the same, of what came out.
func identityOf(resource, attributes pcommon.Map) string {
	container := ""
	if id, ok := resource.Get("container.id"); ok {
		container = id.Str()
	}
	return container + "|" + plainly(attributes)
}

func plainly(attributes pcommon.Map) string {
	var list []string
	for k, v := range attributes.All() {
		list = append(list, fmt.Sprintf("%s=%s;", k, v.AsString()))
	}
	slices.Sort(list)
	return strings.Join(list, "")
}

const overflowIdentity = "|otel.metric.overflow=true;"

func sorted[V any](m map[string]V) []string {
	list := make([]string, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

func randomKey(r *rand.Rand) mixed {
	k := mixed{
		Cgroup: []uint64{1, 2, 3, 10, 11, 20}[r.IntN(6)],
		Number: []uint64{0, 1, 1 << 63}[r.IntN(3)], Kind: 1 + r.Uint32N(3), PID: r.Uint32N(3), Start: r.Uint64N(2),
		Comm: text([]string{"", "a", "ab", "0123456789abcdef"}[r.IntN(4)]),
	}
	if k.Comm[2] == 0 {
		k.Comm[3] = byte(r.IntN(2))
	}
	return k
}

// Whatever the ticks, limits and failures, what comes out adds up to what went in.
func TestSpecEverythingIsCountedOnce(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { countRandomly(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

// totals is the truth, and what was told: by identity, of the value's two parts (or a histogram's slots and sum).
type totals map[string][]uint64

func (t totals) add(id string, values []uint64) {
	if t[id] == nil {
		t[id] = make([]uint64, len(values))
	}
	for i, v := range values {
		t[id][i] += v
	}
}

func (t totals) sum() []uint64 {
	var all []uint64
	for _, v := range t {
		if all == nil {
			all = make([]uint64, len(v))
		}
		for i := range v {
			all[i] += v[i]
		}
	}
	return all
}

func countRandomly(t *testing.T, r *rand.Rand) {
	s := setup{
		kind: snapshot.Kind(r.IntN(2)), delta: r.IntN(2) == 0, key: mixedType(), dimensions: map[string]probe.Dimension{},
		value:     u64s("io", "read", "written"),
		maxSeries: []int{1, 3, 100_000}[r.IntN(3)], ttl: []time.Duration{tick / 2, 2 * tick, time.Hour}[r.IntN(3)],
		metric: probe.Metric{Type: probe.Counter, Points: []probe.Point{{Value: "read"}, {Value: "written", Attributes: map[string]string{"z": "w"}}}},
	}
	width := 2
	if r.IntN(3) == 0 {
		s.value, width = btftypes.Histogram(1, 3, 0), 5
		s.metric = probe.Metric{Type: probe.Histogram, Value: "."}
	}
	few := r.IntN(4) // the smaller, the more are selected
	for d, v := range mixedDimensions {
		if few == 0 || r.IntN(few+1) == 0 {
			s.dimensions[d] = v
		}
	}
	if r.IntN(3) == 0 { // all of the key, each part exactly: rows of such a map need not be merged
		s.dimensions = map[string]probe.Dimension{"cgroup": {Field: "cgroup"}, "kind": {Field: "kind"}, "comm": {Field: "comm", As: "hex"}}
		for _, d := range []string{"number", "pid", "start"} {
			s.dimensions[d] = mixedDimensions[d]
		}
	}
	byIdentity := s.maxSeries == 100_000 && s.dimensions["comm"].As == ""
	m, table, from := s.build(t)
	t.Logf("%v delta=%t limit=%d ttl=%s of %v", s.kind, s.delta, s.maxSeries, s.ttl, sorted(s.dimensions))

	truth, told := make(totals), make(totals)
	last := make(map[string][]uint64) // by identity and start: the last of a cumulative series
	began := make(map[string]pcommon.Timestamp)
	inKernel := make(map[mixed][]uint64)
	ticks := 1 + r.IntN(12)
	for n := 1; n <= ticks; n++ {
		var rows []row
		for range r.IntN(40) {
			k, v := randomKey(r), make([]uint64, width)
			for i := range v {
				v[i] = r.Uint64N(4)
			}
			if width > 2 && slices.Max(v[1:]) == 0 {
				v[0] = 0 // a sum of nothing
			}
			if inKernel[k] == nil {
				inKernel[k] = make([]uint64, width)
			}
			for i := range v {
				inKernel[k][i] += v[i]
			}
			truth.add(k.identity(s.dimensions), v)
		}
		for k, v := range inKernel {
			rows = append(rows, row{key: k, value: slices.Clone(v)})
		}
		r.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
		next := in()
		// A failed read has delivered some batches; the last tick's succeeds, so that nothing is left.
		if r.IntN(4) == 0 && (s.kind == snapshot.Swapped || s.ttl == time.Hour) {
			next = next.fails()
			rows = rows[:r.IntN(len(rows)+1)]
		}
		if s.kind == snapshot.Swapped {
			for _, v := range rows {
				delete(inKernel, v.key.(mixed))
			}
			if next.err == nil && r.IntN(5) == 0 {
				v := make([]uint64, width)
				v[0] = 1 + r.Uint64N(9)
				if width > 2 {
					v[1] = 1
				}
				truth.add(overflowIdentity, v)
				rows = append(rows, overflowed(v))
			}
		}
		for len(rows) > 0 {
			size := 1 + r.IntN(len(rows))
			next.batches = append(next.batches, rows[:size])
			rows = rows[size:]
		}
		from.reads = append(from.reads, next)
		counted(t, s, m, table, n, next, told, last, began)
	}
	// What a failed read left.
	var rest []row
	for k, v := range inKernel {
		rest = append(rest, row{key: k, value: v})
	}
	from.reads = append(from.reads, one(rest...))
	counted(t, s, m, table, 100, one(rest...), told, last, began)
	for id, v := range last {
		id, _, _ = strings.Cut(id, "@")
		told.add(id, v)
	}
	if !byIdentity {
		assert.Equal(t, truth.sum(), told.sum())
		return
	}
	nonzero := make(totals)
	for id, v := range truth {
		if slices.Max(v) > 0 {
			nonzero[id] = v
		}
	}
	for id, v := range told { // a streamed row may tell of nothing
		if slices.Max(v) == 0 {
			delete(told, id)
		}
	}
	assert.Equal(t, nonzero, told)
}

// counted reads once, and adds what is told: growths to told, totals to last.
func counted(
	t *testing.T, s setup, m *emit.Metrics, table *emit.Table, n int, next read,
	told totals, last map[string][]uint64, began map[string]pcommon.Timestamp,
) {
	t.Helper()
	now := at(n)
	m.Begin(now)
	_, err := table.Read(t.Context())
	require.ErrorIs(t, err, next.err)
	payload := m.End()
	width, histogram := 2, s.metric.Type == probe.Histogram
	seen := make(map[string]bool)
	add := func(id string, part int, start, end pcommon.Timestamp, values []uint64) {
		require.False(t, seen[id+number(uint64(part))], "tick %d: two data points of %s", n, id)
		seen[id+number(uint64(part))] = true
		require.Equal(t, pcommon.NewTimestampFromTime(now), end)
		require.Less(t, start, end, "%s", id)
		if s.delta {
			told.add(id, values)
			return
		}
		require.LessOrEqual(t, began[id], start, "a start does not go back")
		began[id] = start
		id = fmt.Sprintf("%s@%d", id, start)
		if last[id] == nil {
			last[id] = make([]uint64, len(values))
		}
		for i, v := range values {
			if histogram || i == part {
				require.LessOrEqual(t, last[id][i], v, "a counter does not go back")
				last[id][i] = v
			}
		}
	}
	for _, rm := range payload.ResourceMetrics().All() {
		require.Equal(t, 1, rm.ScopeMetrics().Len())
		for _, metric := range rm.ScopeMetrics().At(0).Metrics().All() {
			if histogram {
				temporality(t, s.delta, metric.Histogram().AggregationTemporality())
				for _, p := range metric.Histogram().DataPoints().All() {
					values := append([]uint64{uint64(p.Sum())}, p.BucketCounts().AsRaw()...)
					count := uint64(0)
					for _, c := range values[1:] {
						count += c
					}
					require.Equal(t, count, p.Count())
					add(identityOf(rm.Resource().Attributes(), p.Attributes()), 0, p.StartTimestamp(), p.Timestamp(), values)
				}
				continue
			}
			temporality(t, s.delta, metric.Sum().AggregationTemporality())
			for _, p := range metric.Sum().DataPoints().All() {
				part := 0
				if p.Attributes().Remove("z") {
					part = 1
				}
				values := make([]uint64, width)
				values[part] = uint64(p.IntValue())
				add(identityOf(rm.Resource().Attributes(), p.Attributes()), part, p.StartTimestamp(), p.Timestamp(), values)
			}
		}
	}
}

func temporality(t *testing.T, delta bool, got pmetric.AggregationTemporality) {
	t.Helper()
	if delta {
		require.Equal(t, pmetric.AggregationTemporalityDelta, got)
		return
	}
	require.Equal(t, pmetric.AggregationTemporalityCumulative, got)
}
