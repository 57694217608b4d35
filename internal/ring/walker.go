// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ring

import (
	"fmt"
	"sync/atomic"
	"unsafe"
)

// The header of a record, from kernel/bpf/ringbuf.c: u32 length and flags, u32 page offset.
const (
	headerSize = 8
	busyBit    = 1 << 31
	discardBit = 1 << 30
	lengthMask = discardBit - 1
)

// commitBytes is how much is read before its room is given back: producers get it soon, and the
// line that they share with the reader is not written for each record.
const commitBytes = 64 << 10

// walker goes from record to record in a ring's memory. It checks all that the memory says before
// it uses it: the consumer's page can be written by whoever holds the map.
type walker struct {
	consumer *uint64 // position of the reader, bytes since the beginning
	producer *uint64 // position of the writers
	data     []byte  // the ring, twice in a row: a record that wraps around is in one piece
	commit   uint64  // bytes
}

// newWalker makes a walker on memory of which data is the ring, twice.
func newWalker(consumer, producer *uint64, data []byte) walker {
	return walker{
		consumer: consumer,
		producer: producer,
		data:     data,
		commit:   min(commitBytes, uint64(len(data))/8),
	}
}

func (w *walker) size() uint64 { return uint64(len(w.data)) / 2 }

func (w *walker) unread() uint64 {
	consumer := atomic.LoadUint64(w.consumer)
	return min(atomic.LoadUint64(w.producer)-consumer, w.size())
}

// drain calls fn for each committed record. It stops where the ring is empty, at a record that is
// still being written, when fn returns false, and after one ring's worth of bytes. more is true
// when it stopped although it knows of nothing that keeps it from going on.
func (w *walker) drain(fn func([]byte) bool) (n int, more bool, err error) {
	position := atomic.LoadUint64(w.consumer)
	begin, committed := position, position
	// Also when fn panics: what it has seen is consumed.
	defer func() {
		if position != committed {
			atomic.StoreUint64(w.consumer, position)
		}
	}()

	for {
		record, next, state, err := w.next(position)
		if err != nil {
			return n, false, err
		}
		if state == stateWait {
			if position == committed {
				return n, false, nil
			}
			// A writer wakes the reader when it finishes the record at the reader's position. It
			// may just have finished this one, when that position was still the old one: look once
			// more after it has been set. Both sides order their store before their load.
			atomic.StoreUint64(w.consumer, position)
			committed = position
			continue
		}
		if position-begin >= w.size() {
			return n, true, nil
		}
		position = next
		if state == stateRecord {
			n++
			if !fn(record) {
				return n, true, nil
			}
		}
		if position-committed >= w.commit {
			atomic.StoreUint64(w.consumer, position)
			committed = position
		}
	}
}

type state int

const (
	stateRecord  state = iota
	stateDiscard       // a record that its writer has withdrawn
	stateWait          // nothing yet
)

// next is the record at a position, and the position behind it.
func (w *walker) next(position uint64) (record []byte, next uint64, s state, err error) {
	available := atomic.LoadUint64(w.producer) - position
	if available == 0 {
		return nil, position, stateWait, nil
	}
	if available > w.size() || available < headerSize || position%8 != 0 {
		return nil, 0, 0, fmt.Errorf("%w: %d bytes are available at position %d in a ring of %d",
			ErrCorrupt, int64(available), position, w.size())
	}
	start := position & (w.size() - 1)
	header := atomic.LoadUint32((*uint32)(unsafe.Pointer(&w.data[start])))
	if header&busyBit != 0 {
		return nil, position, stateWait, nil
	}
	length := uint64(header & lengthMask)
	total := (headerSize + length + 7) &^ 7
	if total > available {
		return nil, 0, 0, fmt.Errorf("%w: a record of %d bytes at position %d, where %d are available",
			ErrCorrupt, length, position, available)
	}
	if header&discardBit != 0 {
		return nil, position + total, stateDiscard, nil
	}
	from := start + headerSize
	return w.data[from : from+length : from+length], position + total, stateRecord, nil
}
