// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"encoding/binary"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/internal/snapshot"
)

// view is one metric of a table.
type view struct {
	*metric
	outputs
	series *seriesSet
	// kept series live on from tick to tick, with their totals. The others are those of one tick.
	kept bool
	// unique rows need no series: each is one.
	unique bool
	// previous is set for growths of a plain map.
	previous *previous
}

// lookahead is how many rows are looked up at a time.
const lookahead = 64

// lookup is a row whose series is to be found.
type lookup struct {
	resource *resource
	identity span // of Table.identities
	hash     uint32
}

// add takes rows into a metric's series or, where each row is one, into the payload.
func (t *Table) add(v *view, rows snapshot.Rows) {
	switch {
	case rows.Overflow:
		v.read(rows.Value(0))
		t.overflowed = true
		t.count(v, t.overflowRecord(v))
	case v.unique && !t.failed: // what a failed Read has left may be of series that come again
		t.stream(v, rows)
	default:
		for from := 0; from < rows.N; from += lookahead {
			t.merge(v, rows, from, min(from+lookahead, rows.N))
		}
	}
}

func isZero(row []uint64) bool {
	for _, v := range row {
		if v != 0 {
			return false
		}
	}
	return true
}

// stream turns rows into data points.
func (t *Table) stream(v *view, rows snapshot.Rows) {
	p := &t.builder.payload
	for n := range rows.N {
		if v.read(rows.Value(n)); isZero(v.row) {
			continue
		}
		out := v.of(t.builder.resources.host, p, v.metric, max(rows.N, t.expected))
		v.write(out, v.row, t.since, p.now, func(dst pcommon.Map, more int) { v.describe(dst, rows.Key(n), more) })
	}
}

// merge adds rows to their series.
func (t *Table) merge(v *view, rows snapshot.Rows, from, to int) {
	t.lookUp(v, rows, from, to)
	for n := from; n < to; n++ {
		key := rows.Key(n)
		v.read(rows.Value(n))
		told := v.level()
		if v.previous != nil {
			// A row that is there keeps its series alive.
			told = v.kept && !isZero(v.row)
			v.previous.growth(key, v.row)
		}
		nothing := isZero(v.row)
		if nothing && !told {
			continue
		}
		l := t.lookups[n-from]
		identity := t.identities[l.identity.start:l.identity.end]
		record, ok := v.series.find(identity, l.hash)
		switch {
		case ok:
		case nothing && t.source.Kind() == snapshot.Plain:
			continue // a cell of an array, which nobody may ever have used; or a row that has not grown since its series ended
		case v.series.full():
			t.overflowed = true
			record = t.overflowRecord(v)
		default:
			record = t.newRecord(v, l, identity, key)
		}
		t.count(v, record)
	}
}

// lookUp computes the identities of rows, and has the processor fetch where their series will be: a row would wait for memory
// longer than all else with it takes.
func (t *Table) lookUp(v *view, rows snapshot.Rows, from, to int) {
	resources := t.builder.resources
	t.lookups, t.identities = t.lookups[:0], t.identities[:0]
	for n := from; n < to; n++ {
		key := rows.Key(n)
		l := lookup{resource: resources.host}
		l.identity.start = uint32(len(t.identities))
		if v.container != nil {
			l.resource = resources.of(v.container.Cgroup(key), t.builder.payload.age)
			t.identities = binary.NativeEndian.AppendUint64(t.identities, l.resource.number)
		}
		t.identities = v.identity(t.identities, key)
		l.identity.end = uint32(len(t.identities))
		l.hash = v.series.hash(t.identities[l.identity.start:])
		t.lookups = append(t.lookups, l)
	}
	v.series.fetch(t.lookups)
}

// count adds the row at hand to a record.
func (t *Table) count(v *view, record int) { v.series.count(record, v.row, t.builder.payload.age) }

// newRecord makes a series.
func (t *Table) newRecord(v *view, l lookup, identity, key []byte) int {
	s := series{resource: l.resource, start: t.since}
	if v.kept {
		s.attributes = v.series.attributes.record(func(dst layout.Sink) { v.decode(dst, key) })
		key = nil
	}
	return v.series.add(s, identity, l.hash, key)
}

// overflowRecord is the record of the overflow series.
func (t *Table) overflowRecord(v *view) int {
	if v.series.overflow < 0 {
		s := series{resource: t.builder.resources.host, start: t.since}
		if v.kept {
			s.attributes = v.series.attributes.record(func(dst layout.Sink) { v.decode(dst, nil) })
		}
		v.series.addOverflow(s)
	}
	return v.series.overflow
}

// flush writes the series into the payload, without those that had their time: a read that failed does not tell which.
func (t *Table) flush(v *view, failed bool) {
	p, set := &t.builder.payload, v.series
	if v.kept && !failed {
		set.expire(p.age - t.ttl)
	}
	room := 0
	if v.container == nil {
		room = len(set.list)
	}
	for i := range set.list {
		s := &set.list[i]
		if v.spec.Type == probe.Gauge && set.touched(s.record) != p.age {
			continue // of no row, no level is known; of a count, it is 0
		}
		set.totals(v.row, s.record)
		out := v.of(s.resource, p, v.metric, room)
		if !v.kept {
			v.write(out, v.row, t.since, p.now, func(dst pcommon.Map, more int) { v.describe(dst, set.key(s.record), more) })
			continue
		}
		v.write(out, v.row, s.start, p.now, func(dst pcommon.Map, more int) { set.attributes.play(dst, s.attributes, more) })
	}
	switch {
	case !v.kept:
		set.clear()
	case v.level():
		set.zero()
	}
}
