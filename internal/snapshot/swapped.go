// SPDX-License-Identifier: Apache-2.0

//go:build linux

package snapshot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// maxPasses bounds how often one Read goes through a retired map that should be empty.
const maxPasses = 8

type swappedTable struct {
	outer *ebpf.Map
	inner [2]*ebpf.Map
	shape shape

	mu       sync.Mutex // held by Read and Close
	reader   *reader    // nil after Close
	cursor   *cursor    // in the retired map
	overflow *overflow  // nil without such a cell

	active  int  // inner[active] is in the slot, the other one is retired
	clean   bool // the retired map is empty
	pending int  // rows in the reader's buffers, gone from the map but not delivered
	passed  int  // passes through the retired map since the swap
	found   int  // rows of the present pass

	slot [2][]byte // index and descriptor of an update of the slot

	account
}

// NewSwapped makes a table of a pair of hashes behind an array of maps of one slot, as SWAPPED_MAP
// of bpf/include/map.h declares them. The inner maps are HASH or PERCPU_HASH and of one shape. When
// the slot is empty, it is set to the first. overflowCell is a PERCPU_ARRAY of one element,
// cumulative, that takes what a full inner map can not; nil when there is none. What it and the inner
// maps hold already is delivered by the first Read.
//
// The table is the only one that may update the slot. The maps stay the caller's, who keeps them
// open until after Close. Maps of another type or shape give an error that is [ErrUnsupportedMap].
func NewSwapped(outer *ebpf.Map, inner [2]*ebpf.Map, overflowCell *ebpf.Map, opts ...Option) (Table, error) {
	if outer.Type() != ebpf.ArrayOfMaps || outer.MaxEntries() != 1 {
		return nil, fmt.Errorf("%w: %s is not an array of one map", ErrUnsupportedMap, describe(outer))
	}
	s, err := shapeOf(inner[0])
	if err != nil {
		return nil, err
	}
	if s.array {
		return nil, fmt.Errorf("%w: %s is swapped, but not a hash", ErrUnsupportedMap, describe(inner[0]))
	}
	if a, b := describe(inner[0]), describe(inner[1]); a != b {
		return nil, fmt.Errorf("%w: swapped maps differ: %s, and %s", ErrUnsupportedMap, a, b)
	}
	o := resolve(opts)
	t := &swappedTable{
		outer:  outer,
		inner:  inner,
		shape:  s,
		reader: newReader(s, o),
		cursor: newCursor(s),
		slot:   [2][]byte{alignedBytes(4), alignedBytes(4)},
	}
	if overflowCell != nil {
		if t.overflow, err = newOverflow(overflowCell, s, o); err != nil {
			return nil, err
		}
	}
	if err := t.findActive(); err != nil {
		return nil, err
	}
	return t, nil
}

// findActive asks which of the inner maps is in the slot.
func (t *swappedTable) findActive() error {
	errno := t.reader.element(unix.BPF_MAP_LOOKUP_ELEM, t.outer, t.slot[0], t.slot[1])
	if errno == unix.ENOENT {
		return t.point(0)
	}
	if errno != 0 {
		return fmt.Errorf("look up the slot of %s: %w", describe(t.outer), errno)
	}
	// From user space, the element is the id of the map.
	id := ebpf.MapID(binary.NativeEndian.Uint32(t.slot[1]))
	for i, m := range t.inner {
		info, err := m.Info()
		if err != nil {
			return fmt.Errorf("get the id of %s: %w", describe(m), err)
		}
		if got, ok := info.ID(); ok && got == id {
			t.active = i
			return nil
		}
	}
	return fmt.Errorf("%w: the slot holds a map that is neither of the two given", ErrUnsupportedMap)
}

// point sets the slot to inner[i] and waits until no program writes the other one any more.
func (t *swappedTable) point(i int) error {
	binary.NativeEndian.PutUint32(t.slot[1], uint32(t.inner[i].FD()))
	clear(t.slot[0])
	if errno := t.reader.element(unix.BPF_MAP_UPDATE_ELEM, t.outer, t.slot[0], t.slot[1]); errno != 0 {
		return fmt.Errorf("set the slot of %s: %w", describe(t.outer), errno)
	}
	t.active = i
	return nil
}

func (t *swappedTable) Read(ctx context.Context, fn func(Rows) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reader == nil {
		return os.ErrClosed
	}
	t.reader.calls = 0
	stats := Stats{}
	start := time.Now()
	length := 0
	defer func() {
		stats.Syscalls = t.reader.calls
		if t.overflow != nil {
			stats.Syscalls += t.overflow.takeCalls()
		}
		stats.Duration = time.Since(start)
		t.set(stats, length)
	}()
	deliver := func(rows Rows) error {
		if err := fn(rows); err != nil {
			return err
		}
		stats.Batches++
		stats.Rows += rows.N
		stats.Overflow = stats.Overflow || rows.Overflow
		if !rows.Overflow {
			length += rows.N
		}
		return nil
	}

	// What an earlier Read has left, or the maker of the maps.
	if err := t.drain(ctx, deliver, &stats); err != nil {
		return err
	}
	if err := t.swap(ctx); err != nil {
		return err
	}
	if err := t.drain(ctx, deliver, &stats); err != nil {
		return err
	}
	if t.overflow == nil {
		return nil
	}
	return t.overflow.read(deliver)
}

// swap retires the active map. The other one is empty.
func (t *swappedTable) swap(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := t.point(1 - t.active); err != nil {
		return err
	}
	t.clean, t.passed, t.found = false, 0, 0
	t.cursor.reset()
	return nil
}

// drain delivers and removes the rows of the retired map. It is done when a pass from the first
// bucket to the last has found nothing. Wherever it stops, the table knows how to go on.
func (t *swappedTable) drain(ctx context.Context, deliver func(Rows) error, stats *Stats) error {
	retired := t.inner[1-t.active]
	for passes := 0; t.pending > 0 || !t.clean; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var fillErr error
		if t.pending == 0 {
			t.pending, fillErr = t.reader.fill(retired, t.cursor, true)
			t.found += t.pending
			if t.passed > 0 {
				stats.Late += t.pending
			}
		}
		if t.pending > 0 {
			if err := deliver(t.reader.batch(t.pending)); err != nil {
				if fillErr != nil {
					err = errors.Join(err, fillErr)
				}
				return err
			}
			t.pending = 0
		}
		if fillErr != nil {
			return fillErr
		}
		if !t.cursor.done {
			continue
		}
		t.clean = t.found == 0
		t.found = 0
		t.passed++
		t.cursor.reset()
		if passes++; passes == maxPasses && !t.clean {
			return fmt.Errorf("%w: %s", ErrStillWritten, describe(retired))
		}
	}
	return nil
}

func (t *swappedTable) Kind() Kind { return Swapped }

func (t *swappedTable) Capacity() int { return t.shape.capacity }

func (t *swappedTable) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reader = nil
	return nil
}
