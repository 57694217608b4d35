// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package ring reads the records of an eBPF ring buffer in place: nothing is copied, and nothing is
// allocated. It maps the ring's memory itself, as kernel/bpf/ringbuf.c lays it out: the reader's
// position on a page that can be written, the writers' position and the data, twice in a row, on pages
// that can not.
package ring

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

var (
	// ErrUnsupportedMap is returned by NewReader for a map that is not a ring buffer.
	ErrUnsupportedMap = errors.New("map is not a ring buffer")
	// ErrCorrupt is returned by Drain when the ring's memory contradicts itself. There is no way on: a
	// record's end is where the next one begins.
	ErrCorrupt = errors.New("ring buffer is corrupt")
)

// Reader reads one ring buffer. A ring has one reader: two would both move its position. Its methods
// may be called at any time from any goroutine.
type Reader struct {
	memory *memory
	size   int

	drainMu sync.Mutex // held by Drain

	mu     sync.Mutex // guards what follows, for moments only
	more   bool       // a Drain left records on purpose
	users  int        // calls that use the memory or the descriptors
	closed bool
}

// memory is what has to be given back.
type memory struct {
	walker
	consumerPage []byte
	dataPages    []byte
	poller
}

// NewReader maps the ring buffer m. The map stays the caller's, and may be closed before the reader:
// the mapping keeps the memory alive. A map of another type gives an error that is
// [ErrUnsupportedMap].
func NewReader(m *ebpf.Map) (*Reader, error) {
	if m.Type() != ebpf.RingBuf {
		return nil, fmt.Errorf("%w but a %v", ErrUnsupportedMap, m.Type())
	}
	size := int(m.MaxEntries())
	memory, err := newMemory(m.FD(), size)
	if err != nil {
		return nil, err
	}
	return &Reader{memory: memory, size: size}, nil
}

func newMemory(fd, size int) (_ *memory, err error) {
	m := &memory{poller: poller{epoll: -1, event: -1}}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.release())
		}
	}()
	page := os.Getpagesize()
	m.consumerPage, err = unix.Mmap(fd, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the reader's page of a ring buffer: %w", err)
	}
	m.dataPages, err = unix.Mmap(fd, int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the data of a ring buffer: %w", err)
	}
	m.walker = newWalker(
		(*uint64)(unsafe.Pointer(&m.consumerPage[0])),
		(*uint64)(unsafe.Pointer(&m.dataPages[0])),
		m.dataPages[page:],
	)
	if m.poller, err = newPoller(fd); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *memory) release() error {
	var errs []error
	for _, pages := range [][]byte{m.consumerPage, m.dataPages} {
		if pages != nil {
			errs = append(errs, unix.Munmap(pages))
		}
	}
	return errors.Join(append(errs, m.poller.close())...)
}

// enter keeps the memory from being given back until leave.
func (r *Reader) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.users++
	return true
}

func (r *Reader) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

func (r *Reader) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users--; r.users == 0 && r.closed {
		// Nobody is left who could be told: Close has returned.
		_ = r.memory.release()
	}
}

// Wait blocks until unread bytes may exist: until the kernel wakes it, d has passed (rounded up to
// milliseconds; less than 0 is for ever), or Close, after which it returns [os.ErrClosed]. It returns
// nil after d as after a wake-up, since writers that do not wake the reader leave records too. When
// the last Drain stopped before it found the ring empty, Wait returns at once.
func (r *Reader) Wait(d time.Duration) error {
	if !r.enter() {
		return os.ErrClosed
	}
	defer r.leave()
	if r.takeMore() {
		return nil
	}
	closed, err := r.memory.wait(d)
	if err != nil {
		return fmt.Errorf("wait for a ring buffer: %w", err)
	}
	if closed {
		return os.ErrClosed
	}
	return nil
}

func (r *Reader) takeMore() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	more := r.more
	r.more = false
	return more
}

// Drain calls fn with each committed record, in order, in place, and gives their room back to the
// kernel as it goes, at least every 64 KiB. A record is valid only during the call, must not be
// written (its memory is read-only), and starts at an address that is a multiple of 8. Drain
// returns the number of records when it finds the ring empty, when the next record is still being
// written, when fn returns false (that record is consumed), and when it has read as many bytes as
// the ring holds, so that it ends under any load. The error is [os.ErrClosed] after Close, or
// [ErrCorrupt], which may come after n records. fn may call Close, but not Drain.
func (r *Reader) Drain(fn func(record []byte) bool) (n int, err error) {
	if !r.enter() {
		return 0, os.ErrClosed
	}
	defer r.leave()
	r.drainMu.Lock()
	defer r.drainMu.Unlock()
	if r.isClosed() { // while waiting for another Drain
		return 0, os.ErrClosed
	}
	n, more, err := r.memory.drain(fn)
	if more {
		r.mu.Lock()
		r.more = true
		r.mu.Unlock()
	}
	return n, err
}

// Unread is the number of bytes, headers included, that have been reserved by writers and not yet
// been read; 0 after Close.
func (r *Reader) Unread() int {
	if !r.enter() {
		return 0
	}
	defer r.leave()
	return int(r.memory.unread())
}

// Size of the ring in bytes.
func (r *Reader) Size() int { return r.size }

// Close ends the reader: calls of Wait return, and no further Drain begins. It does not wait for a Drain
// that runs; the memory and the descriptors are given back when the last running call has
// returned. What has not been read stays in the ring. A second Close does nothing.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	if r.users == 0 {
		return r.memory.release()
	}
	return r.memory.wake()
}
