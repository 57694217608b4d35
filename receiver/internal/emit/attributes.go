// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"math"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
)

// attributes is the layout.Sink of a pcommon.Map. One is kept and pointed at map after map, so that decoding into
// it allocates nothing of its own.
type attributes struct {
	m pcommon.Map
}

var _ layout.Sink = (*attributes)(nil)

func (a *attributes) PutStr(key, value string)            { a.m.PutStr(key, value) }
func (a *attributes) PutInt(key string, value int64)      { a.m.PutInt(key, value) }
func (a *attributes) PutDouble(key string, value float64) { a.m.PutDouble(key, value) }
func (a *attributes) PutBool(key string, value bool)      { a.m.PutBool(key, value) }

func (a *attributes) PutBytes(key string, value []byte) {
	a.m.PutEmptyBytes(key).FromRaw(value)
}

func (a *attributes) PutStrs(key string, values []string) {
	s := a.m.PutEmptySlice(key)
	s.EnsureCapacity(len(values))
	for _, v := range values {
		s.AppendEmpty().SetStr(v)
	}
}

// recording is a layout.Sink that remembers attributes for many payloads. It is one piece of memory for all series of a metric: a map of
// pdata each would be a dozen, through all of which the garbage collector has to go.
type recording struct {
	list []recorded
	keys []string
}

// recorded is one attribute.
type recorded struct {
	text   string
	number uint64
	key    uint16 // of keys
	kind   kind
}

// span is a part of something, from start to just before end.
type span struct{ start, end uint32 }

type kind uint8

const (
	kindText kind = iota
	kindInt
	kindDouble
	kindBool
	kindBytes
	kindTexts // joined by NULs; number tells how many
)

var _ layout.Sink = (*recording)(nil)

func (r *recording) PutStr(key, value string) { r.put(key, kindText, value, 0) }

func (r *recording) PutInt(key string, value int64) { r.put(key, kindInt, "", uint64(value)) }

func (r *recording) PutDouble(key string, value float64) {
	r.put(key, kindDouble, "", math.Float64bits(value))
}

func (r *recording) PutBool(key string, value bool) {
	number := uint64(0)
	if value {
		number = 1
	}
	r.put(key, kindBool, "", number)
}

func (r *recording) PutBytes(key string, value []byte) { r.put(key, kindBytes, string(value), 0) }

func (r *recording) PutStrs(key string, values []string) {
	r.put(key, kindTexts, strings.Join(values, "\x00"), uint64(len(values)))
}

func (r *recording) put(key string, k kind, text string, number uint64) {
	i := slices.Index(r.keys, key)
	if i < 0 {
		i = len(r.keys)
		r.keys = append(r.keys, key)
	}
	r.list = append(r.list, recorded{text: text, number: number, key: uint16(i), kind: k})
}

// copy appends attributes of a recording with the same keys, which may be the same memory further on.
func (r *recording) copy(from *recording, s span) span {
	start := len(r.list)
	r.list = append(r.list, from.list[s.start:s.end]...)
	return span{uint32(start), uint32(len(r.list))}
}

// record returns where the attributes are that fn puts.
func (r *recording) record(fn func(layout.Sink)) span {
	start := len(r.list)
	fn(r)
	return span{uint32(start), uint32(len(r.list))}
}

// play puts attributes into a map, with room for some more.
func (r *recording) play(m pcommon.Map, s span, more int) {
	list := r.list[s.start:s.end]
	m.EnsureCapacity(len(list) + more)
	for i := range list {
		v := &list[i]
		key := r.keys[v.key]
		switch v.kind {
		case kindText:
			m.PutStr(key, v.text)
		case kindInt:
			m.PutInt(key, int64(v.number))
		case kindDouble:
			m.PutDouble(key, math.Float64frombits(v.number))
		case kindBool:
			m.PutBool(key, v.number != 0)
		case kindBytes:
			m.PutEmptyBytes(key).FromRaw([]byte(v.text))
		case kindTexts:
			var texts []string
			if v.number > 0 {
				texts = strings.Split(v.text, "\x00")
			}
			(&attributes{m}).PutStrs(key, texts)
		}
	}
}
