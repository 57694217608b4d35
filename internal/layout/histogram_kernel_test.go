// SPDX-License-Identifier: Apache-2.0

//go:build linux

package layout_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// The slot that the compiled histogram_slot() takes for a value is the one whose bounds hold it, of the histogram as its
// declaration tag in the object tells it: bounds[i-1] < value <= bounds[i].
func TestKernelHistogramSlots(t *testing.T) {
	needs.Root(t)
	spec, err := ebpf.LoadCollectionSpec("testdata/slots.bpf.o")
	require.NoError(t, err)
	objects, err := ebpf.NewCollection(spec)
	require.NoError(t, err)
	defer objects.Close()
	for name, program := range objects.Programs {
		t.Run(name, func(t *testing.T) {
			var value *btf.Struct
			require.NoError(t, spec.Types.TypeByName(name+"_value", &value))
			field, err := layout.FieldOf(value, ".")
			require.NoError(t, err)
			h, err := layout.HistogramOf(field)
			require.NoError(t, err)
			bounds := h.Bounds(1)
			require.Len(t, bounds, h.N-1)

			values := []uint64{0, 1, 2, math.MaxUint64}
			for _, b := range bounds {
				values = append(values, uint64(b)-1, uint64(b), uint64(b)+1)
			}
			random := rand.New(rand.NewPCG(1, 2))
			for range 500 {
				values = append(values, random.Uint64()>>random.IntN(64))
			}
			packet := make([]byte, 64)
			for _, v := range values {
				binary.NativeEndian.PutUint64(packet, v)
				result, err := program.Run(&ebpf.RunOptions{Data: packet})
				require.NoError(t, err)
				slot := int(result)
				require.Less(t, slot, h.N, "%d", v)
				if slot > 0 {
					require.Greater(t, v, uint64(bounds[slot-1]), "the lower bound of slot %d", slot)
				}
				if slot < len(bounds) {
					require.LessOrEqual(t, v, uint64(bounds[slot]), "the upper bound of slot %d", slot)
				}
			}
		})
	}
}
