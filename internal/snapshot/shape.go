// SPDX-License-Identifier: Apache-2.0

//go:build linux

package snapshot

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// shape is how the rows of a map lie in memory.
type shape struct {
	keySize   int
	valueSize int // of one row that is delivered
	slot      int // of one CPU's value in the kernel's answer
	cpus      int // slots of a value; 1 unless the map is per-CPU
	array     bool
	capacity  int
}

// shapeOf is the shape of a map of one of the four types that can be read.
func shapeOf(m *ebpf.Map) (shape, error) {
	s := shape{
		keySize:   int(m.KeySize()),
		valueSize: int(m.ValueSize()),
		slot:      int(m.ValueSize()),
		cpus:      1,
		capacity:  int(m.MaxEntries()),
	}
	switch m.Type() {
	case ebpf.Array, ebpf.PerCPUArray:
		s.array = true
	case ebpf.Hash, ebpf.PerCPUHash:
	default:
		return shape{}, fmt.Errorf("%w: %s", ErrUnsupportedMap, describe(m))
	}
	if m.Type() == ebpf.PerCPUArray || m.Type() == ebpf.PerCPUHash {
		cpus, err := ebpf.PossibleCPU()
		if err != nil {
			return shape{}, fmt.Errorf("count the possible CPUs: %w", err)
		}
		s.cpus = cpus
		// bpf_map_value_size in kernel/bpf/syscall.c.
		s.slot = (s.valueSize + 7) &^ 7
	}
	return s, nil
}

// stride is the size of one value in the kernel's answer.
func (s shape) stride() int { return s.slot * s.cpus }

// perCPU tells whether values have to be summed. On a machine of one CPU they still have a stride of their own.
func (s shape) perCPU() bool { return s.cpus > 1 || s.slot != s.valueSize }

// sum adds up the slots of the first n values, in place: afterwards, values starts with n values of
// valueSize bytes each.
func (s shape) sum(values []byte, n int) {
	if s.cpus > 1 {
		sumSlots(wordsOf(values), n, s.slot/8, s.cpus)
	}
	if s.slot != s.valueSize {
		for i := 1; i < n; i++ {
			copy(values[i*s.valueSize:(i+1)*s.valueSize], values[i*s.slot:])
		}
	}
}

// sumSlots replaces n values of cpus slots of words words by their sums. A sum is never written
// beyond what has been read: value i goes to i*words, and comes from i*words*cpus.
func sumSlots(values []uint64, n, words, cpus int) {
	for i := range n {
		from := values[i*words*cpus : (i+1)*words*cpus]
		to := values[i*words : (i+1)*words]
		if cpus == 2 {
			first, second := from[:words], from[words:]
			for w := range to {
				to[w] = first[w] + second[w]
			}
			continue
		}
		copy(to, from[:words])
		for slot := from[words:]; len(slot) >= words; slot = slot[words:] {
			for w, v := range slot[:words] {
				to[w] += v
			}
		}
	}
}
