// SPDX-License-Identifier: Apache-2.0

//go:build linux

package snapshot

import (
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// overflow is the per-CPU cell that takes what a full inner map can not. It is cumulative in the
// kernel: swapping it would cost a second grace period, and a difference is as exact.
type overflow struct {
	kernel
	m     *ebpf.Map
	shape shape
	key   []byte
	value []byte // as the kernel gives it; then the growth
	now   []byte // totals of this read
	last  []byte // totals of the last read that was delivered
}

func newOverflow(m *ebpf.Map, rows shape, o options) (*overflow, error) {
	s, err := shapeOf(m)
	if err != nil {
		return nil, err
	}
	if m.Type() != ebpf.PerCPUArray || s.capacity != 1 || s.valueSize != rows.valueSize {
		return nil, fmt.Errorf("%w: %s is not a per-CPU array of one value of %d bytes",
			ErrUnsupportedMap, describe(m), rows.valueSize)
	}
	return &overflow{
		kernel: kernel{sys: o.sys},
		m:      m,
		shape:  s,
		key:    alignedBytes(s.keySize),
		value:  alignedBytes(s.stride()),
		now:    alignedBytes(s.slot),
		last:   alignedBytes(s.slot),
	}, nil
}

// read delivers the growth since the last read, if there is any.
func (o *overflow) read(deliver func(Rows) error) error {
	if errno := o.element(unix.BPF_MAP_LOOKUP_ELEM, o.m, o.key, o.value); errno != 0 {
		return fmt.Errorf("look up the overflow cell, %s: %w", describe(o.m), errno)
	}
	o.shape.sum(o.value, 1)
	copy(o.now, o.value)
	grown := false
	growth, last := wordsOf(o.value[:o.shape.slot]), wordsOf(o.last)
	for i := range growth {
		growth[i] -= last[i]
		grown = grown || growth[i] != 0
	}
	if !grown {
		return nil
	}
	err := deliver(Rows{
		Values:    o.value[:o.shape.valueSize],
		ValueSize: o.shape.valueSize,
		N:         1,
		Overflow:  true,
	})
	if err != nil {
		return err
	}
	copy(o.last, o.now)
	return nil
}

func (o *overflow) takeCalls() int {
	calls := o.calls
	o.calls = 0
	return calls
}
