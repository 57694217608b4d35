// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
)

// known is what a set of series has to have, kept in the plainest way.
type known struct {
	totals  []uint64
	touched time.Duration
	key     string
}

// A set does what a map of identities does, through any additions and expiries, with as many series as it takes to make
// the index grow and places collide.
func TestSeriesSetIsAMap(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 0))
		width := 1 + random.IntN(4)
		set := newSeriesSet(1000, width)
		want := make(map[string]*known)
		for now := time.Duration(1); now < 40; now++ {
			for range random.IntN(60) {
				identity := fmt.Sprintf("%.*s", random.IntN(20), fmt.Sprint(random.IntN(150), "-------------------"))
				numbers := make([]uint64, width)
				for i := range numbers {
					numbers[i] = random.Uint64()
				}
				hash := set.hash([]byte(identity)) & 0xf0000003 // few, so that they collide
				record, ok := set.find([]byte(identity), hash)
				require.Equal(t, want[identity] != nil, ok, "seed %d: %q", seed, identity)
				if !ok {
					want[identity] = &known{totals: make([]uint64, width), key: "key of " + identity}
					v := series{attributes: set.attributes.record(func(dst layout.Sink) { dst.PutStr("identity", identity) })}
					record = set.add(v, []byte(identity), hash, []byte(want[identity].key))
				}
				set.count(record, numbers, now)
				for i, n := range numbers {
					want[identity].totals[i] += n
				}
				want[identity].touched = now
			}
			if random.IntN(10) == 0 && set.overflow < 0 {
				set.addOverflow(series{})
			}
			if set.overflow >= 0 {
				numbers := slices.Repeat([]uint64{1}, width)
				if want["overflow"] == nil {
					want["overflow"] = &known{totals: make([]uint64, width)}
				}
				set.count(set.overflow, numbers, 0)
				for i := range numbers {
					want["overflow"].totals[i]++
				}
			}
			if random.IntN(4) == 0 {
				before := now - time.Duration(random.IntN(10))
				old := func(identity string, v *known) bool { return identity != "overflow" && v.touched < before }
				hadOld := false
				for identity, v := range want {
					hadOld = hadOld || old(identity, v)
				}
				maps.DeleteFunc(want, old)
				set.expire(before)
				if hadOld {
					// They were entered anew, by their real hashes.
					for identity := range want {
						if identity != "overflow" {
							_, ok := set.find([]byte(identity), set.hash([]byte(identity)))
							require.True(t, ok, "seed %d: %q is lost", seed, identity)
						}
					}
					want = rebuilt(t, set, want)
				}
			}
			require.Len(t, set.list, len(want))
			requireSame(t, set, want)
		}
		set.zero()
		for _, v := range want {
			clear(v.totals)
		}
		requireSame(t, set, want)
		set.clear()
		assert.Empty(t, set.list)
		assert.Equal(t, -1, set.overflow)
		_, ok := set.find(nil, set.hash(nil))
		assert.False(t, ok)
	}
}

// rebuilt enters all series under the few hashes of the test.
func rebuilt(t *testing.T, set *seriesSet, want map[string]*known) map[string]*known {
	t.Helper()
	set.index.clear(len(set.list))
	for _, v := range set.list {
		if v.record != set.overflow {
			identity := set.identity(v.record)
			set.index.add(set.hash(identity)&0xf0000003, v.record/8)
		}
	}
	return want
}

func requireSame(t *testing.T, set *seriesSet, want map[string]*known) {
	t.Helper()
	got := make(map[string]*known)
	for _, v := range set.list {
		k := &known{totals: make([]uint64, set.width), touched: set.touched(v.record), key: string(set.key(v.record))}
		set.totals(k.totals, v.record)
		identity := string(set.identity(v.record))
		if v.record == set.overflow {
			identity = "overflow"
		} else {
			m := pcommon.NewMap()
			set.attributes.play(m, v.attributes, 0)
			require.Equal(t, map[string]any{"identity": identity}, m.AsRaw())
		}
		got[identity] = k
	}
	require.Equal(t, want, got)
}

// What was recorded is played as it was put.
func TestRecording(t *testing.T) {
	put := func(dst layout.Sink) {
		dst.PutStr("text", "a")
		dst.PutInt("int", -1)
		dst.PutDouble("double", 0.5)
		dst.PutBool("true", true)
		dst.PutBool("false", false)
		dst.PutBytes("bytes", []byte{0, 1})
		dst.PutStrs("none", nil)
		dst.PutStrs("empty", []string{""})
		dst.PutStrs("texts", []string{"", "b", ""})
	}
	want := pcommon.NewMap()
	put(&attributes{want})

	var r recording
	r.record(func(dst layout.Sink) { dst.PutStr("another", "series") })
	span := r.record(put)
	again := recording{keys: r.keys}
	span = again.copy(&r, span)
	got := pcommon.NewMap()
	again.play(got, span, 3)
	assert.Equal(t, want.AsRaw(), got.AsRaw())
	assert.Equal(t, []any{""}, got.AsRaw()["empty"])
	assert.Equal(t, []any{}, got.AsRaw()["none"])
}

// A number that is less than it was has begun anew; each row has its own.
func TestPrevious(t *testing.T) {
	p := newPrevious()
	for i, step := range []struct {
		key       string
		row, want []uint64
	}{
		{"a", []uint64{5, 0}, []uint64{5, 0}},
		{"b", []uint64{1, 1}, []uint64{1, 1}},
		{"a", []uint64{7, 3}, []uint64{2, 3}},
		{"a", []uint64{7, 3}, []uint64{0, 0}},
		{"b", []uint64{2, 1}, []uint64{1, 0}},
		{"a", []uint64{2, 4}, []uint64{2, 1}},
		{"a", []uint64{3, 4}, []uint64{1, 0}},
	} {
		p.growth([]byte(step.key), step.row)
		assert.Equal(t, step.want, step.row, "step %d", i)
	}
}

func TestParseBody(t *testing.T) {
	attrs := pcommon.NewMap()
	attrs.PutStr("name", "x")
	attrs.PutInt("number", -7)
	attrs.PutDouble("share", 0.5)
	for spec, want := range map[string]string{
		"":                           "",
		"literal":                    "literal",
		"{name}":                     "x",
		"a {name}, {number}/{share}": "a x, -7/0.5",
		"{missing}.":                 ".",
		"{name":                      "{name",
		"} {name}":                   "} x",
		"{}":                         "",
	} {
		b := parseBody(spec)
		assert.Equal(t, want, b.of(attrs), spec)
		assert.Equal(t, want, b.of(attrs), "again")
	}
}
