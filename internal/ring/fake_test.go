// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ring

import (
	"sync/atomic"
	"unsafe"
)

// fakeRing is a ring in ordinary memory with the kernel's side of the protocol: reserve, then
// commit. Each byte is written twice, as the double mapping shows it.
type fakeRing struct {
	walker
	positions [2]uint64
	woken     chan struct{} // holds one wake-up, as epoll does
}

func newFakeRing(size int) *fakeRing {
	words := make([]uint64, size*2/8)
	data := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), size*2)
	r := &fakeRing{woken: make(chan struct{}, 1)}
	r.walker = newWalker(&r.positions[0], &r.positions[1], data)
	return r
}

func (r *fakeRing) header(at uint64) (first, second *uint32) {
	start := at & (r.size() - 1)
	return (*uint32)(unsafe.Pointer(&r.data[start])), (*uint32)(unsafe.Pointer(&r.data[start+r.size()]))
}

func (r *fakeRing) setHeader(at uint64, v uint32) {
	first, second := r.header(at)
	atomic.StoreUint32(second, v)
	atomic.StoreUint32(first, v)
}

// reserve is bpf_ringbuf_reserve of a single writer: false when the ring is full.
func (r *fakeRing) reserve(record []byte) (at uint64, ok bool) {
	at = r.positions[1]
	total := uint64(headerSize+len(record)+7) &^ 7
	if at+total-atomic.LoadUint64(r.consumer) > r.size()-1 {
		return 0, false
	}
	r.setHeader(at, uint32(len(record))|busyBit)
	for i, b := range record {
		to := (at + headerSize + uint64(i)) & (r.size() - 1)
		r.data[to], r.data[to+r.size()] = b, b
	}
	atomic.StoreUint64(r.producer, at+total)
	return at, true
}

// commitAt is bpf_ringbuf_submit or, with discardBit, bpf_ringbuf_discard, with the kernel's adaptive wake-up.
func (r *fakeRing) commitAt(at uint64, length int, flags uint32) {
	r.setHeader(at, uint32(length)|flags)
	if atomic.LoadUint64(r.consumer)&(r.size()-1) == at&(r.size()-1) {
		select {
		case r.woken <- struct{}{}:
		default:
		}
	}
}

func (r *fakeRing) submit(record []byte) bool {
	at, ok := r.reserve(record)
	if ok {
		r.commitAt(at, len(record), 0)
	}
	return ok
}
