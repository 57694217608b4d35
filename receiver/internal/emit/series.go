// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
)

// series is one time series: its identity, and the index of its values in the set.
type series struct {
	// id is what layout columns give as the identity, and then the resource's id.
	id       string
	resource *resource
	// attributes as decoded from the key that was seen first.
	attributes pcommon.Map
	start      pcommon.Timestamp
	// touched is when a row last gave it something.
	touched time.Time
}

// seriesSet are the series of one metric. Values lie side by side in flat slices, width numbers a series (the metric's
// points, or the slots and the sum of its histogram), so that a tick touches few cache lines and the garbage collector
// sees few pointers.
type seriesSet struct {
	byKey map[string]int
	list  []series
	width int
	// total is what was counted so far, sent what of it went out as deltas.
	total, sent []uint64
	limit       int
	overflow    int // index of the overflow series, or -1
}

func newSeriesSet(m *metric, limit int) *seriesSet {
	s := &seriesSet{byKey: make(map[string]int), width: len(m.points), limit: limit, overflow: -1}
	if m.bounds != nil {
		s.width = m.hist.N + 1
	}
	return s
}

func (s *seriesSet) values(i int) []uint64 { return s.total[i*s.width : (i+1)*s.width] }

func (s *seriesSet) sentValues(i int) []uint64 { return s.sent[i*s.width : (i+1)*s.width] }

func (s *seriesSet) add(v series) int {
	s.list = append(s.list, v)
	for range s.width {
		s.total = append(s.total, 0)
		s.sent = append(s.sent, 0)
	}
	return len(s.list) - 1
}

// find returns the index of a row's series, which it makes of key when there is none yet. Over the limit it is the
// overflow series.
func (s *seriesSet) find(m *metric, r *resource, id, key []byte, sink *attributes, start pcommon.Timestamp, host *resource) int {
	if i, ok := s.byKey[string(id)]; ok {
		return i
	}
	if len(s.byKey) >= s.limit {
		return s.overflowed(host, start)
	}
	v := series{id: string(id), resource: r, attributes: pcommon.NewMap(), start: start}
	v.attributes.EnsureCapacity(len(m.columns))
	sink.m = v.attributes
	m.attributes(sink, key)
	i := s.add(v)
	s.byKey[v.id] = i
	return i
}

// overflowed returns the index of the series that takes what exceeds a limit, in the kernel or here.
func (s *seriesSet) overflowed(host *resource, start pcommon.Timestamp) int {
	if s.overflow < 0 {
		v := series{resource: host, attributes: pcommon.NewMap(), start: start}
		v.attributes.PutBool(overflowAttribute, true)
		s.overflow = s.add(v)
	}
	return s.overflow
}

// accumulate adds a row's values to a series, and tells whether there was anything.
func (s *seriesSet) accumulate(m *metric, i int, value []byte) bool {
	dst := s.values(i)
	grew := false
	if m.bounds != nil {
		return addHistogram(m.hist, dst, value)
	}
	for j := range m.points {
		v := uint64(m.points[j].number.Read(value))
		dst[j] += v
		grew = grew || v != 0
	}
	return grew
}

// addHistogram adds slots and, behind them, the sum.
func addHistogram(h layout.Histogram, dst []uint64, value []byte) bool {
	before := uint64(0)
	for _, v := range dst[:h.N] {
		before += v
	}
	h.Add(dst[:h.N], &dst[h.N], value)
	for _, v := range dst[:h.N] {
		before -= v
	}
	return before != 0
}

// reset forgets the totals, for maps that are cumulative in the kernel: the next read brings them whole.
func (s *seriesSet) reset() { clear(s.total) }

// shift moves all times.
func (s *seriesSet) shift(d time.Duration) {
	for i := range s.list {
		v := &s.list[i]
		v.start = pcommon.NewTimestampFromTime(v.start.AsTime().Add(d))
		if !v.touched.IsZero() {
			v.touched = v.touched.Add(d)
		}
	}
}

// expire drops the series that nothing was added to since before.
func (s *seriesSet) expire(before time.Time) {
	for i := 0; i < len(s.list); {
		if i == s.overflow || !s.list[i].touched.Before(before) {
			i++
			continue
		}
		s.remove(i)
	}
}

// remove puts the last series into the place of one.
func (s *seriesSet) remove(i int) {
	last := len(s.list) - 1
	delete(s.byKey, s.list[i].id)
	if i != last {
		s.list[i] = s.list[last]
		copy(s.values(i), s.values(last))
		copy(s.sentValues(i), s.sentValues(last))
		if last == s.overflow {
			s.overflow = i
		} else {
			s.byKey[s.list[i].id] = i
		}
	}
	s.list[last] = series{}
	s.list = s.list[:last]
	s.total = s.total[:last*s.width]
	s.sent = s.sent[:last*s.width]
}
