// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"math"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/test/btftypes"
)

// FuzzHistogramTag declares histograms in any words, of any size: what is accepted has as many bounds as it has to, in order, and can
// be read.
func FuzzHistogramTag(f *testing.F) {
	f.Add("histogram min=10 max=34 sub=1", uint16(50))
	f.Add("histogram min=0 max=62 sub=0", uint16(64))
	f.Add("histogram min=8 max=11 sub=8", uint16(770))
	f.Add("histogram min=-1 max=3 sub=0", uint16(6))
	f.Add("histogram min=60 max=62 sub=60", uint16(2))
	f.Add("histogram min=99999999999999999999 max=3 sub=0", uint16(2))
	f.Add("histogram min=1 max=3 sub=0 ", uint16(4))
	f.Fuzz(func(t *testing.T, tag string, slots uint16) {
		s := btftypes.NewStruct("h",
			btftypes.Field{Name: "sum", Type: btftypes.U64},
			btftypes.Field{Name: "slots", Type: btftypes.Array(btftypes.U64, int(slots)), Tags: []string{tag}})
		h := histogramOf(t, s)
		if h == nil {
			return
		}
		if h.N != int(slots) || h.Sum != 0 || h.Slots != 8 {
			t.Fatalf("%+v", *h)
		}
		bounds := h.Bounds(1)
		if len(bounds) != h.N-1 || bounds[0] != math.Ldexp(1, h.Min) || bounds[len(bounds)-1] != math.Ldexp(1, h.Max) {
			t.Fatalf("%+v: %d bounds, from %v to %v", *h, len(bounds), bounds[0], bounds[len(bounds)-1])
		}
		for i := 1; i < len(bounds); i++ {
			if bounds[i] <= bounds[i-1] || bounds[i] != math.Trunc(bounds[i]) {
				t.Fatalf("%+v: bounds %v, %v", *h, bounds[i-1], bounds[i])
			}
		}
		h.Read(make([]uint64, h.N+1), make([]byte, s.Size))
	})
}

func histogramOf(t *testing.T, s *btf.Struct) *layout.Histogram {
	t.Helper()
	field, err := layout.FieldOf(s, ".")
	if err != nil {
		t.Fatal(err)
	}
	h, err := layout.HistogramOf(field)
	if err != nil {
		return nil
	}
	return &h
}
