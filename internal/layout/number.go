// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Number is a field that is a sum or a level.
type Number struct {
	Offset, Size int
	Signed       bool
}

// NumberOf makes the number of a field.
func NumberOf(f Field) (Number, error) {
	_, signed, err := number(f)
	if err != nil {
		return Number{}, fmt.Errorf("%s: %w", f.describe(), err)
	}
	return Number{Offset: f.Offset, Size: f.Size, Signed: signed}, nil
}

// Read takes the number out of a value, a signed one sign-extended.
func (n Number) Read(value []byte) uint64 {
	raw := value[n.Offset : n.Offset+n.Size]
	if n.Signed {
		return uint64(readInt(raw))
	}
	return readUint(raw)
}

// Histogram is a field that was declared with HISTOGRAM(min, max, sub) of bpf/include/histogram.h: every power of two between
// 2^Min and 2^Max in 2^Sub slots, with one slot below and one above.
type Histogram struct {
	// Sum and Slots are byte offsets in the value; all are u64.
	Sum, Slots    int
	N             int
	Min, Max, Sub int
}

// HistogramOf finds the histogram in a field: a struct with the members sum and slots, of which slots carries the
// declaration tag "histogram min=… max=… sub=…".
func HistogramOf(f Field) (Histogram, error) {
	sum, err := FieldOf(f.Type, "sum")
	if err != nil {
		return Histogram{}, fmt.Errorf("%s is no histogram, to be declared with HISTOGRAM(min, max, sub): %w", f.describe(), err)
	}
	slots, err := FieldOf(f.Type, "slots")
	if err != nil {
		return Histogram{}, fmt.Errorf("%s is no histogram, to be declared with HISTOGRAM(min, max, sub): %w", f.describe(), err)
	}
	h, ok := parseTags(slots.Tags)
	h.Sum, h.Slots, h.N = f.Offset+sum.Offset, f.Offset+slots.Offset, slots.Size/8
	switch {
	case !ok:
		return Histogram{}, fmt.Errorf("%s: its slots have no histogram tag: declare it with HISTOGRAM(min, max, sub)", f.describe())
	case sum.Size != 8 || slots.Size%8 != 0:
		return Histogram{}, fmt.Errorf("%s: sum and slots are not u64", f.describe())
	case h.Min < 0 || h.Max > 62 || h.Min >= h.Max || h.Sub < 0 || h.Sub > h.Min || h.Sub > 8:
		return Histogram{}, fmt.Errorf("%s: the histogram tag's min=%d max=%d sub=%d make no sense", f.describe(), h.Min, h.Max, h.Sub)
	case h.N != (h.Max-h.Min)<<h.Sub+2:
		return Histogram{}, fmt.Errorf("%s: %d slots, the tag says %d", f.describe(), h.N, (h.Max-h.Min)<<h.Sub+2)
	}
	return h, nil
}

// parseTags finds the histogram's among declaration tags.
func parseTags(tags []string) (Histogram, bool) {
	const format = "histogram min=%d max=%d sub=%d"
	for _, tag := range tags {
		var h Histogram
		_, err := fmt.Sscanf(tag, format, &h.Min, &h.Max, &h.Sub)
		if err == nil && fmt.Sprintf(format, h.Min, h.Max, h.Sub) == tag {
			return h, true
		}
	}
	return Histogram{}, false
}

// Bounds are the N-1 upper bounds of the slots, inclusive, times scale.
func (h Histogram) Bounds(scale float64) []float64 {
	bounds := make([]float64, 0, h.N-1)
	steps := 1 << h.Sub
	for exponent := h.Min; exponent < h.Max; exponent++ {
		for i := range steps {
			bounds = append(bounds, math.Ldexp(1+float64(i)/float64(steps), exponent)*scale)
		}
	}
	return append(bounds, math.Ldexp(1, h.Max)*scale)
}

// Read takes the histogram out of a value: the N slots and, behind them, the sum.
func (h Histogram) Read(dst []uint64, value []byte) {
	slots := value[h.Slots : h.Slots+8*h.N]
	for i := range dst[:h.N] {
		dst[i] = binary.NativeEndian.Uint64(slots[8*i:])
	}
	dst[h.N] = binary.NativeEndian.Uint64(value[h.Sum:])
}
