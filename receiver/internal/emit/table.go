// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/internal/snapshot"
)

// Options are what all tables of a receiver share.
type Options struct {
	Identity Identity
	Names    layout.Names
	// Delta sends growths instead of totals since each series' start.
	Delta bool
	// TTL is how long a series is kept after its last change.
	TTL time.Duration
	// ScopeName and Version are the instrumentation scope.
	ScopeName, Version string
}

// Metrics builds the payloads of one receiver: call Begin, then Read of each table, then End.
type Metrics struct {
	options   Options
	resources *resources
	batch     batch
	tables    []*Table // that were read
	// last is when the last payload was begun, with the monotonic clock's reading.
	last time.Time
}

// NewMetrics returns a builder for the tables that began to count at start or later.
func NewMetrics(o Options, start time.Time) *Metrics {
	m := &Metrics{options: o, resources: newResources(o.TTL), last: start}
	m.batch = batch{
		identity:    o.Identity,
		temporality: pmetric.AggregationTemporalityCumulative,
		scopeName:   o.ScopeName,
		version:     o.Version,
		now:         pcommon.NewTimestampFromTime(start),
	}
	if o.Delta {
		m.batch.temporality = pmetric.AggregationTemporalityDelta
	}
	return m
}

// Begin starts the payload of a tick at now, which has a monotonic reading.
func (m *Metrics) Begin(now time.Time) {
	m.begin(now.Round(0), now.Sub(m.last))
	m.last = now
}

// begin starts the payload of a tick that is passed after the one before, whatever the wall clock shows.
func (m *Metrics) begin(now time.Time, passed time.Duration) {
	if back := m.batch.now.AsTime().Sub(now); back > 0 {
		// The wall clock was set back. Times from before are on the old clock: they move along, since nothing may start after it ends.
		m.shift(-back - passed)
	}
	m.batch.metrics = pmetric.NewMetrics()
	m.batch.tick++
	m.batch.start = m.batch.now
	m.batch.now = pcommon.NewTimestampFromTime(now)
}

// shift moves all times that are kept.
func (m *Metrics) shift(d time.Duration) {
	move := func(t pcommon.Timestamp) pcommon.Timestamp { return pcommon.NewTimestampFromTime(t.AsTime().Add(d)) }
	m.batch.now = move(m.batch.now)
	for _, r := range m.resources.byValue {
		r.used = r.used.Add(d)
	}
	for _, t := range m.tables {
		t.started = move(t.started)
		for _, s := range t.sets {
			if s != nil {
				s.shift(d)
			}
		}
	}
}

// End returns the payload, which is the caller's.
func (m *Metrics) End() pmetric.Metrics {
	m.resources.expire(m.batch.now.AsTime())
	return m.batch.metrics
}

// Table is a map and the metrics that it becomes.
type Table struct {
	source  snapshot.Table
	builder *Metrics
	probe   *probe.Probe
	ttl     time.Duration
	metrics []*metric
	sets    []*seriesSet      // nil where rows are streamed
	started pcommon.Timestamp // 0 before the first read
	// overflowed tells whether the last read had something for an overflow series.
	overflowed bool
	sink       attributes
	id         []byte
}

// NewTable prepares the metrics of one of a probe's maps. ttl is how long series are kept. The error tells which metric's
// fields do not fit the map's BTF.
func NewTable(b *Metrics, t *probe.Table, p *probe.Probe, ttl time.Duration) (*Table, error) {
	table := &Table{source: t.Table, builder: b, probe: p, ttl: ttl}
	for _, name := range t.Metrics {
		m, err := newMetric(name, t, p, b.options.Names)
		if err != nil {
			return nil, err
		}
		limit := p.Settings.Metrics[name].MaxSeries
		if limit == 0 {
			limit = p.Settings.MaxSeries
		}
		table.metrics = append(table.metrics, m)
		// A swapped map's rows are growths already. When none of them can be another's series, they go straight out.
		if b.options.Delta && m.unique && !m.level() && t.Kind() == snapshot.Swapped {
			table.sets = append(table.sets, nil)
			continue
		}
		table.sets = append(table.sets, newSeriesSet(m, limit))
	}
	return table, nil
}

// Overflowed tells whether the last Read found more than a limit allows, in the kernel's map or among the series, so that
// something went into an overflow series.
func (t *Table) Overflowed() bool { return t.overflowed }

// since is when the rows of a swapped map began to count that come now.
func (t *Table) since() pcommon.Timestamp { return max(t.started, t.builder.batch.start) }

// Read takes a snapshot of the map into the payload and returns the number of rows. After an error the payload has the
// rows that came before it.
func (t *Table) Read(ctx context.Context) (int, error) {
	now := t.builder.batch.now.AsTime()
	n := 0
	t.overflowed = false
	if t.started == 0 {
		t.started = pcommon.NewTimestampFromTime(t.probe.Started)
		t.builder.tables = append(t.builder.tables, t)
	}
	for i, m := range t.metrics {
		m.begin()
		if t.sets[i] != nil && t.whole(m) {
			t.sets[i].reset()
		}
	}
	err := t.source.Read(ctx, func(rows snapshot.Rows) error {
		if rows.Overflow {
			t.overflowed = true
		} else {
			n += rows.N
		}
		for i, m := range t.metrics {
			if t.sets[i] == nil {
				t.stream(m, rows)
			} else {
				t.collect(m, t.sets[i], rows, now)
			}
		}
		return nil
	})
	for i, m := range t.metrics {
		// A part of a total is less than the total was before: better none for this tick.
		if t.sets[i] != nil && (err == nil || !t.whole(m)) {
			t.flush(m, t.sets[i], now)
		}
	}
	if err != nil {
		return n, fmt.Errorf("reading map: %w", err)
	}
	return n, nil
}

// whole tells whether each read brings a metric's totals, rather than what has been added to them.
func (t *Table) whole(m *metric) bool {
	return m.level() || t.source.Kind() == snapshot.Plain
}

func (t *Table) host(now time.Time) *resource {
	return t.builder.resources.get(Resource{}, now)
}

func (t *Table) resource(m *metric, key []byte, now time.Time) *resource {
	if m.container == nil {
		return t.host(now)
	}
	return t.builder.resources.get(t.builder.options.Identity.Resource(m.container.Uint(key)), now)
}

// collect adds rows to their series.
func (t *Table) collect(m *metric, s *seriesSet, rows snapshot.Rows, now time.Time) {
	start := t.since()
	if t.source.Kind() == snapshot.Plain {
		start = t.started
	}
	host := t.host(now)
	for n := range rows.N {
		value := rows.Value(n)
		var i int
		if rows.Overflow {
			i = s.overflowed(host, start)
		} else {
			key := rows.Key(n)
			r := t.resource(m, key, now)
			t.id = binary.NativeEndian.AppendUint64(m.identity(t.id[:0], key), r.id)
			i = s.find(m, r, t.id, key, &t.sink, start, host)
		}
		if s.accumulate(m, i, value) {
			s.list[i].touched = now
			t.overflowed = t.overflowed || i == s.overflow
		}
	}
}

// flush writes the series into the payload and drops those that had their time.
func (t *Table) flush(m *metric, s *seriesSet, now time.Time) {
	b := &t.builder.batch
	delta := b.temporality == pmetric.AggregationTemporalityDelta && !m.level()
	for i := range s.list {
		v := &s.list[i]
		if delta || m.level() {
			// What did not change has no delta, and a level that no row told of is not known.
			if !v.touched.Equal(now) {
				continue
			}
		} else if v.touched.IsZero() {
			continue
		}
		v.resource.used = now
		values := s.values(i)
		if !delta {
			t.write(m, b, v, values, v.start, len(s.list))
			continue
		}
		sent := s.sentValues(i)
		grown := false
		for j := range values {
			grown = grown || values[j] != sent[j]
			values[j], sent[j] = values[j]-sent[j], values[j]
		}
		if grown {
			t.write(m, b, v, values, t.since(), len(s.list))
		}
		copy(values, sent)
	}
	s.expire(now.Add(-t.ttl))
}

// write makes a series' data points. room is a guess of how many there will be for its resource.
func (t *Table) write(m *metric, b *batch, v *series, values []uint64, start pcommon.Timestamp, room int) {
	out := m.slot(b, v.resource, room*max(1, len(m.points)))
	if m.bounds != nil {
		p := out.histograms.AppendEmpty()
		v.attributes.CopyTo(p.Attributes())
		p.SetStartTimestamp(start)
		p.SetTimestamp(b.now)
		m.distribution(p, values[:m.hist.N], values[m.hist.N])
		return
	}
	for j := range m.points {
		p := out.numbers.AppendEmpty()
		attrs := p.Attributes()
		attrs.EnsureCapacity(v.attributes.Len() + len(m.points[j].attributes))
		v.attributes.CopyTo(attrs)
		for _, a := range m.points[j].attributes {
			attrs.PutStr(a[0], a[1])
		}
		if m.spec.Type != probe.Gauge {
			p.SetStartTimestamp(start)
		}
		p.SetTimestamp(b.now)
		m.number(p, int64(values[j]))
	}
}

// stream turns rows into data points as they are: growths of series that no other row shares.
func (t *Table) stream(m *metric, rows snapshot.Rows) {
	b := &t.builder.batch
	start := t.since()
	r := t.host(b.now.AsTime())
	out := m.slot(b, r, rows.N)
	for n := range rows.N {
		value := rows.Value(n)
		var key []byte
		if !rows.Overflow {
			key = rows.Key(n)
		}
		if m.bounds != nil {
			p := out.histograms.AppendEmpty()
			t.describe(m, p.Attributes(), key, nil)
			p.SetStartTimestamp(start)
			p.SetTimestamp(b.now)
			m.distributionOf(p, value)
			continue
		}
		for j := range m.points {
			p := out.numbers.AppendEmpty()
			t.describe(m, p.Attributes(), key, m.points[j].attributes)
			p.SetStartTimestamp(start)
			p.SetTimestamp(b.now)
			m.number(p, m.points[j].number.Read(value))
		}
	}
}

// describe writes a streamed row's attributes; a nil key is the overflow's.
func (t *Table) describe(m *metric, dst pcommon.Map, key []byte, extra [][2]string) {
	dst.EnsureCapacity(m.room)
	if key == nil {
		dst.PutBool(overflowAttribute, true)
	} else {
		t.sink.m = dst
		m.attributes(&t.sink, key)
	}
	for _, a := range extra {
		dst.PutStr(a[0], a[1])
	}
	m.room = max(m.room, dst.Len())
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
