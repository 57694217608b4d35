// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/ebpfreceiver/ebpfreceiver/internal/snapshot"
)

var errRead = errors.New("the kernel refused")

// fakeMap is a snapshot.Table as package snapshot describes it, with the kernel's map inside. Values are u64.
type fakeMap struct {
	snapshot.Table
	kind     snapshot.Kind
	capacity int
	// failAfter is how many rows a Read delivers before it fails; negative: all.
	failAfter int

	live         []fakeRow // in the map that programs write
	left         []fakeRow // retired and not delivered
	overflow     uint64
	overflowRead uint64
}

type fakeRow struct {
	key    []byte
	values []uint64
}

func newFakeMap(kind snapshot.Kind) *fakeMap {
	return &fakeMap{kind: kind, capacity: 1 << 20, failAfter: -1}
}

// row finds or makes a row; nil when the map is full.
func (f *fakeMap) row(key []byte, width int) []uint64 {
	for _, r := range f.live {
		if string(r.key) == string(key) {
			return r.values
		}
	}
	if len(f.live) == f.capacity {
		return nil
	}
	f.live = append(f.live, fakeRow{slices.Clone(key), make([]uint64, width)})
	return f.live[len(f.live)-1].values
}

// add is what a program does: it adds to a row, or to the overflow cell when the map is full.
func (f *fakeMap) add(key []byte, value uint64) {
	if row := f.row(key, 1); row != nil {
		row[0] += value
	} else {
		f.overflow += value
	}
}

// set overwrites a row.
func (f *fakeMap) set(key []byte, value uint64) { f.row(key, 1)[0] = value }

func (f *fakeMap) Read(_ context.Context, fn func(snapshot.Rows) error) error {
	budget := f.failAfter
	if f.kind == snapshot.Plain {
		_, err := deliver(f.live, &budget, fn)
		return err
	}
	n, err := deliver(f.left, &budget, fn)
	f.left = f.left[n:]
	if err != nil {
		return err
	}
	if budget == 0 {
		return errRead // before the swap
	}
	f.left, f.live = f.live, nil
	n, err = deliver(f.left, &budget, fn)
	f.left = f.left[n:]
	if err != nil || f.overflow == f.overflowRead {
		return err
	}
	growth := f.overflow - f.overflowRead
	f.overflowRead = f.overflow
	return fn(snapshot.Rows{Values: words([]uint64{growth}), ValueSize: 8, N: 1, Overflow: true})
}

func deliver(rows []fakeRow, budget *int, fn func(snapshot.Rows) error) (int, error) {
	done := 0
	for done < len(rows) {
		n := min(100, len(rows)-done)
		if *budget >= 0 {
			n = min(n, *budget)
			*budget -= n
		}
		if n == 0 {
			return done, errRead
		}
		batch := snapshot.Rows{KeySize: len(rows[0].key), ValueSize: 8 * len(rows[0].values), N: n}
		for _, r := range rows[done : done+n] {
			batch.Keys = append(batch.Keys, r.key...)
			batch.Values = append(batch.Values, words(r.values)...)
		}
		if err := fn(batch); err != nil {
			return done, err
		}
		// A batch is valid only during the callback.
		clear(batch.Keys)
		clear(batch.Values)
		done += n
	}
	return done, nil
}

func words(values []uint64) []byte {
	var b []byte
	for _, v := range values {
		b = binary.NativeEndian.AppendUint64(b, v)
	}
	return b
}

func (f *fakeMap) Kind() snapshot.Kind { return f.kind }
func (*fakeMap) Len() int              { return 0 }
func (f *fakeMap) Capacity() int       { return f.capacity }
