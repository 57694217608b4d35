// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// seriesSet are the series of one metric, which rows are added to. All that a row has to find and change of its series lies
// together, in records without pointers one behind the other: rows come in no order, and each is to touch a cache line or two.
//
// A record is the age of the payload that a row was last added for, the lengths of the identity and of the key, the identity,
// the totals, and the key that the series was seen first with. All start at multiples of 8 bytes.
type seriesSet struct {
	// limit is how many series there may be, but for the overflow series. width is how many totals each has.
	limit, width int
	seed         maphash.Seed
	index        index // of records by their identities; a place is the offset by 8
	records      []byte
	list         []series
	attributes   recording
	// overflow is the record of the series that takes what exceeds a limit, in the kernel or here; or -1.
	overflow int
	fetched  uint64 // is of no use but that it has to be read
}

// series is what is needed of a series only to write it.
type series struct {
	record   int // offset
	resource *resource
	start    pcommon.Timestamp
	// The attributes as they were decoded first, where series are kept from tick to tick.
	attributes span
}

const (
	touchedAt  = 0
	lengthsAt  = 8
	identityAt = 16
)

func newSeriesSet(limit, width int) *seriesSet {
	return &seriesSet{limit: limit, width: width, seed: maphash.MakeSeed(), overflow: -1}
}

func aligned(n int) int { return (n + 7) &^ 7 }

func (s *seriesSet) lengths(record int) (identity, key int) {
	v := binary.NativeEndian.Uint64(s.records[record+lengthsAt:])
	return int(uint32(v)), int(v >> 32)
}

func (s *seriesSet) identity(record int) []byte {
	n, _ := s.lengths(record)
	return s.records[record+identityAt : record+identityAt+n]
}

func (s *seriesSet) totalsAt(record int) int {
	n, _ := s.lengths(record)
	return record + identityAt + aligned(n)
}

// key is the one that the series was seen first with; empty for the overflow series and for those that keep attributes.
func (s *seriesSet) key(record int) []byte {
	_, n := s.lengths(record)
	at := s.totalsAt(record) + 8*s.width
	return s.records[at : at+n]
}

func (s *seriesSet) size(record int) int {
	identity, key := s.lengths(record)
	return identityAt + aligned(identity) + 8*s.width + aligned(key)
}

func (s *seriesSet) touched(record int) time.Duration {
	return time.Duration(binary.NativeEndian.Uint64(s.records[record+touchedAt:]))
}

func (s *seriesSet) hash(identity []byte) uint32 { return uint32(maphash.Bytes(s.seed, identity)) }

// find returns the record of an identity.
func (s *seriesSet) find(identity []byte, hash uint32) (int, bool) {
	place, ok := s.index.find(hash, func(place int) bool { return bytes.Equal(s.identity(8*place), identity) })
	return 8 * place, ok
}

// fetch touches what find will look at, for many at a time: the processor then waits for memory once, and not once each.
func (s *seriesSet) fetch(lookups []lookup) {
	if s.index.n == 0 {
		return
	}
	var places [lookahead]int
	for i := range lookups {
		places[i] = s.index.peek(lookups[i].hash)
	}
	for _, place := range places[:len(lookups)] {
		if place >= 0 {
			s.fetched += uint64(s.records[8*place+identityAt])
		}
	}
}

// full tells whether there is room for the overflow series only.
func (s *seriesSet) full() bool { return s.index.n >= s.limit }

// add makes a series that find did not find, and returns its record.
func (s *seriesSet) add(v series, identity []byte, hash uint32, key []byte) int {
	record := s.append(v, identity, key)
	s.index.add(hash, record/8)
	return record
}

func (s *seriesSet) addOverflow(v series) {
	s.overflow = s.append(v, nil, nil)
}

func (s *seriesSet) append(v series, identity, key []byte) int {
	v.record = len(s.records)
	s.list = append(s.list, v)
	size := identityAt + aligned(len(identity)) + 8*s.width + aligned(len(key))
	s.records = slices.Grow(s.records, size)[:v.record+size]
	r := s.records[v.record:]
	clear(r)
	binary.NativeEndian.PutUint64(r[lengthsAt:], uint64(len(key))<<32|uint64(len(identity)))
	copy(r[identityAt:], identity)
	copy(r[identityAt+aligned(len(identity))+8*s.width:], key)
	return v.record
}

// count adds numbers to a record's totals, now.
func (s *seriesSet) count(record int, numbers []uint64, now time.Duration) {
	binary.NativeEndian.PutUint64(s.records[record+touchedAt:], uint64(now))
	totals := s.records[s.totalsAt(record):]
	for i, n := range numbers {
		binary.NativeEndian.PutUint64(totals[8*i:], binary.NativeEndian.Uint64(totals[8*i:])+n)
	}
}

// totals reads a record's totals.
func (s *seriesSet) totals(dst []uint64, record int) {
	totals := s.records[s.totalsAt(record):]
	for i := range dst {
		dst[i] = binary.NativeEndian.Uint64(totals[8*i:])
	}
}

// zero sets all totals to 0.
func (s *seriesSet) zero() {
	for i := range s.list {
		at := s.totalsAt(s.list[i].record)
		clear(s.records[at : at+8*s.width])
	}
}

// clear drops all series, and gives room back that is not used by far.
func (s *seriesSet) clear() {
	s.index.clear(len(s.list))
	if cap(s.list) > 8*len(s.list) {
		s.list, s.records = nil, nil
	}
	clear(s.list) // of pointers
	s.list, s.records = s.list[:0], s.records[:0]
	s.overflow = -1
}

// expire drops the series that no row was added to since before; the overflow series stays.
func (s *seriesSet) expire(before time.Duration) {
	stays := func(v series) bool { return s.touched(v.record) >= before || v.record == s.overflow }
	staying := 0
	for _, v := range s.list {
		if stays(v) {
			staying++
		}
	}
	if staying == len(s.list) {
		return
	}
	// They move up, in their order.
	s.index.clear(staying)
	n, end, overflow := 0, 0, -1
	attributes := recording{keys: s.attributes.keys, list: s.attributes.list[:0]}
	for _, v := range s.list {
		if !stays(v) {
			continue
		}
		size := s.size(v.record)
		copy(s.records[end:], s.records[v.record:v.record+size])
		if v.record == s.overflow {
			overflow = end
		} else {
			s.index.add(s.hash(s.identity(end)), end/8)
		}
		v.record = end
		v.attributes = attributes.copy(&s.attributes, v.attributes)
		s.list[n] = v
		n++
		end += size
	}
	clear(s.list[n:]) // of pointers
	clear(s.attributes.list[len(attributes.list):])
	s.list, s.records, s.attributes, s.overflow = s.list[:n], s.records[:end], attributes, overflow
	if cap(s.list) > 4*n {
		s.list, s.records, s.attributes.list = slices.Clone(s.list), slices.Clone(s.records), slices.Clone(s.attributes.list)
	}
}
