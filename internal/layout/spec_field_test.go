// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/test/btftypes"
)

func member(name string, t btf.Type, tags ...string) btftypes.Field {
	return btftypes.Field{Name: name, Type: t, Tags: tags}
}

// outer is struct outer { u64 a; struct inner { u32 x; u32 y; } in; struct { u16 p; union { u16 q; u8 r; }; }; u8 list[4]; u32 bit:3; }.
func outer() *btf.Struct {
	inner := btftypes.NewStruct("inner", member("x", btftypes.U32), member("y", btftypes.U32, "tagged"))
	hidden := btftypes.NewStruct("", member("p", btftypes.U16), member("", btftypes.NewUnion("", member("q", btftypes.U16), member("r", btftypes.U8))))
	s := btftypes.NewStruct("outer",
		member("a", btftypes.U64), member("in", &btf.Typedef{Name: "inner_t", Type: &btf.Const{Type: inner}}), member("", hidden),
		member("list", btftypes.Array(btftypes.U8, 4)), member("bit", btftypes.U32))
	s.Members[4].BitfieldSize = 3
	return s
}

func TestSpecFieldOf(t *testing.T) {
	for _, c := range []struct {
		path         string
		offset, size int
		tags         []string
		err          string
	}{
		{path: ".", offset: 0, size: 28},
		{path: "a", offset: 0, size: 8},
		{path: "in", offset: 8, size: 8},
		{path: "in.x", offset: 8, size: 4},
		{path: "in.y", offset: 12, size: 4, tags: []string{"tagged"}},
		{path: "p", offset: 16, size: 2},
		{path: "q", offset: 18, size: 2},
		{path: "r", offset: 18, size: 1},
		{path: "list", offset: 20, size: 4},
		{path: "bit", err: `field "bit" of outer is a bit field`},
		{path: "b", err: `outer has no field "b"; it has a, bit, in, list, p, q, r`},
		{path: "in.z", err: `outer has no field "in.z"; it has x, y`},
		{path: "a.b", err: `outer has no field "a.b": it has no fields`},
		{path: "in.", err: `outer has no field "in."; it has x, y`},
		{path: "list.0", err: `outer has no field "list.0": it has no fields`},
	} {
		t.Run(c.path, func(t *testing.T) {
			f, err := layout.FieldOf(outer(), c.path)
			if c.err != "" {
				assert.EqualError(t, err, c.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.offset, f.Offset)
			assert.Equal(t, c.size, f.Size)
			assert.Equal(t, c.tags, f.Tags)
			assert.Equal(t, c.path, f.Path)
		})
	}
	_, err := layout.FieldOf(outer(), "b")
	var missing *layout.FieldError
	require.ErrorAs(t, err, &missing)
	assert.Equal(t, &layout.FieldError{Type: "outer", Path: "b", Valid: []string{"a", "bit", "in", "list", "p", "q", "r"}}, missing)

	lying := &btf.Struct{Name: "lying", Size: 4, Members: []btf.Member{{Name: "a", Type: btftypes.U64}}}
	_, err = layout.FieldOf(lying, "a")
	assert.EqualError(t, err, `field "a" of lying ends at byte 8 of 4`)
}

func TestSpecNumberOf(t *testing.T) {
	for _, c := range []struct {
		t    btf.Type
		raw  any
		want int64
	}{
		{btftypes.U8, uint8(255), 255},
		{btftypes.S8, int8(-1), -1},
		{btftypes.U16, uint16(65535), 65535},
		{btftypes.S16, int16(-2), -2},
		{btftypes.U32, uint32(math.MaxUint32), math.MaxUint32},
		{btftypes.S32, int32(-3), -3},
		{btftypes.U64, uint64(1 << 40), 1 << 40},
		{btftypes.S64, int64(math.MinInt64), math.MinInt64},
		{&btf.Typedef{Name: "s", Type: btftypes.S32}, int32(-4), -4},
	} {
		f, err := layout.FieldOf(btftypes.NewStruct("s", member("before", btftypes.U32), member("n", c.t)), "n")
		require.NoError(t, err)
		n, err := layout.NumberOf(f)
		require.NoError(t, err)
		b, err := binary.Append([]byte{9, 9, 9, 9}, binary.NativeEndian, c.raw)
		require.NoError(t, err)
		assert.Equal(t, c.want, int64(n.Read(b)), "%T", c.raw)
	}
	for _, bad := range []btf.Type{outer(), btftypes.Array(btftypes.U8, 4), btftypes.Array(btftypes.U8, 3)} {
		f, err := layout.FieldOf(bad, ".")
		require.NoError(t, err)
		_, err = layout.NumberOf(f)
		assert.ErrorContains(t, err, "not a number")
	}
}

func histogram(tag string, sum btf.Type, slots int) *btf.Struct {
	s := btftypes.NewStruct("h", member("sum", sum), member("slots", btftypes.Array(btftypes.U64, slots)))
	if tag != "" {
		s.Members[1].Tags = []string{"other", tag}
	}
	return s
}

func TestSpecHistogramOf(t *testing.T) {
	for _, c := range []struct {
		name string
		t    btf.Type
		err  string
	}{
		{"good", histogram("histogram min=1 max=3 sub=0", btftypes.U64, 4), ""},
		{"good with steps", histogram("histogram min=3 max=5 sub=2", btftypes.U64, 10), ""},
		{"the widest", histogram("histogram min=0 max=62 sub=0", btftypes.U64, 64), ""},
		{"no tag", histogram("", btftypes.U64, 4), "no histogram tag"},
		{"half a tag", histogram("histogram min=1 max=3", btftypes.U64, 4), "no histogram tag"},
		{"no number", histogram("histogram min=a max=3 sub=0", btftypes.U64, 4), "no histogram tag"},
		{"other size", histogram("histogram min=1 max=3 sub=0", btftypes.U64, 5), "5 slots, the tag says 4"},
		{"narrow sum", histogram("histogram min=1 max=3 sub=0", btftypes.U32, 4), "not u64"},
		{"min above max", histogram("histogram min=3 max=3 sub=0", btftypes.U64, 2), "make no sense"},
		{"negative", histogram("histogram min=-1 max=3 sub=0", btftypes.U64, 6), "make no sense"},
		{"too high", histogram("histogram min=1 max=63 sub=0", btftypes.U64, 64), "make no sense"},
		{"steps below 1", histogram("histogram min=1 max=2 sub=2", btftypes.U64, 6), "make no sense"},
		{"huge steps", histogram("histogram min=60 max=62 sub=60", btftypes.U64, 6), "make no sense"},
		{"no sum", btftypes.NewStruct("h", member("slots", btftypes.U64)), `h has no field "sum"`},
		{"no slots", btftypes.NewStruct("h", member("sum", btftypes.U64)), `h has no field "slots"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := layout.FieldOf(c.t, ".")
			require.NoError(t, err)
			h, err := layout.HistogramOf(f)
			if c.err != "" {
				assert.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			assert.Len(t, h.Bounds(1), h.N-1)
			assert.IsIncreasing(t, h.Bounds(1))
		})
	}
}

// slot is histogram_slot of bpf/include/histogram.h, in other words: the first slot whose upper bound holds the value, searched for
// among exact integers.
func slot(v uint64, ends []uint64) int {
	for i, b := range ends {
		if v <= b {
			return i
		}
	}
	return len(ends)
}

// slotEnds are where slots end: slot j of the 2^sub between 2^e and 2^(e+1) does at 2^e + (j+1)·2^(e-sub).
func slotEnds(low, high, sub int) []uint64 {
	ends := []uint64{1 << low}
	for e := low; e < high; e++ {
		for j := range 1 << sub {
			ends = append(ends, 1<<e+uint64(j+1)<<(e-sub))
		}
	}
	return ends
}

// kernelSlot is the C, line by line.
func kernelSlot(v uint64, low, high, sub int) int {
	if v <= 1<<low {
		return 0
	}
	if v > 1<<high {
		return (high-low)<<sub + 1
	}
	v--
	exponent := 0
	for x := v; x > 1; x >>= 1 {
		exponent++
	}
	fraction := int(v>>(exponent-sub)) & (1<<sub - 1)
	return 1 + (exponent-low)<<sub + fraction
}

// The bounds that are told are those by which the kernel sorts values into slots: at each bound, and one beside it.
func TestSpecBoundsAreThoseOfTheKernel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range [][3]int{{0, 1, 0}, {1, 3, 0}, {1, 3, 1}, {3, 6, 3}, {10, 34, 1}, {10, 34, 2}, {8, 11, 8}, {0, 62, 0}, {2, 62, 2}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			low, high, sub := c[0], c[1], c[2]
			f, err := layout.FieldOf(btftypes.Histogram(low, high, sub), ".")
			require.NoError(t, err)
			h, err := layout.HistogramOf(f)
			require.NoError(t, err)
			require.Equal(t, layout.Histogram{Sum: 0, Slots: 8, N: (high-low)<<sub + 2, Min: low, Max: high, Sub: sub}, h)
			bounds, ends := h.Bounds(1), slotEnds(low, high, sub)
			values := []uint64{0, 1, 2, math.MaxUint64}
			for i, b := range bounds {
				u := uint64(b)
				require.Equal(t, b, float64(u), "bounds are integers")
				require.Equal(t, i, slot(u, ends), "bound %d ends slot %d", u, i)
				require.Equal(t, i+1, slot(u+1, ends), "what is above %d is in the next slot", u)
				values = append(values, u-1, u, u+1)
			}
			for range 200 {
				values = append(values, r.Uint64()>>r.IntN(64))
			}
			for _, v := range values {
				require.Equal(t, slot(v, ends), kernelSlot(v, low, high, sub), "%d", v)
			}
			for i, b := range h.Bounds(1e-9) {
				require.Equal(t, bounds[i]*1e-9, b)
			}
		})
	}
}

// The slots come first, and then the sum.
func TestSpecHistogramRead(t *testing.T) {
	f, err := layout.FieldOf(btftypes.NewStruct("v", member("before", btftypes.U64), member("h", btftypes.Histogram(1, 3, 0))), "h")
	require.NoError(t, err)
	h, err := layout.HistogramOf(f)
	require.NoError(t, err)
	value, err := binary.Append(nil, binary.NativeEndian, []uint64{99, 10, 1, 2, 3, 4})
	require.NoError(t, err)
	got := make([]uint64, 5)
	h.Read(got, value)
	assert.Equal(t, []uint64{1, 2, 3, 4, 10}, got)
}
