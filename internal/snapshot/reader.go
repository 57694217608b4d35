// SPDX-License-Identifier: Apache-2.0

//go:build linux

package snapshot

import (
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	// batchBytes is what a batch takes when the caller does not say: enough to make the cost of a
	// call vanish, and little enough to stay in a CPU's cache.
	batchBytes = 512 << 10
	// minBatchRows is enough for the fullest bucket of nearly every hash.
	minBatchRows = 32
	// maxAttempts bounds the calls that fail one after the other with a transient error.
	maxAttempts = 64
)

// reader reads maps of one shape into buffers of its own.
type reader struct {
	kernel
	shape   shape
	rows    int // that the buffers can hold
	keys    []byte
	values  []byte
	iterate bool // the kernel has no batch command for this map, or we are not to use it
	known   bool // a batch command has worked
	noTake  bool // the kernel has no BPF_MAP_LOOKUP_AND_DELETE_ELEM for this map
}

func newReader(s shape, o options) *reader {
	r := &reader{kernel: kernel{sys: o.sys}, shape: s, iterate: o.iterate}
	rows := o.batchRows
	if rows <= 0 {
		rows = max(minBatchRows, batchBytes/(s.keySize+s.stride()))
	}
	// One more than there can be: the kernel then says in the same call that there are no more.
	r.allocate(min(rows, s.capacity+1))
	return r
}

func (r *reader) allocate(rows int) {
	r.rows = rows
	r.keys = alignedBytes(rows * r.shape.keySize)
	r.values = alignedBytes(rows * r.shape.stride())
}

// batch is the first n rows of the buffers, as they are delivered.
func (r *reader) batch(n int) Rows {
	return Rows{
		Keys:      r.keys[:n*r.shape.keySize],
		Values:    r.values[:n*r.shape.valueSize],
		KeySize:   r.shape.keySize,
		ValueSize: r.shape.valueSize,
		N:         n,
	}
}

// cursor is a place in a map.
type cursor struct {
	// token is where the next batch begins, in the kernel's own terms: a bucket of a hash (u32), or the
	// last index of an array (u32). When reading row by row, it is the next row's key or index.
	token []byte
	// next is room for a key, when reading row by row.
	next    []byte
	started bool
	done    bool
}

func newCursor(s shape) *cursor {
	size := max(8, s.keySize)
	return &cursor{token: alignedBytes(size), next: alignedBytes(size)}
}

func (c *cursor) reset() {
	c.started, c.done = false, false
	clear(c.token)
}

// fill reads the next rows of m at c into the buffers, and removes them from m when remove is set.
// The rows that it returns are there whether or not there is an error.
func (r *reader) fill(m *ebpf.Map, c *cursor, remove bool) (int, error) {
	n, err := r.fillRaw(m, c, remove)
	if n > 0 && r.shape.perCPU() {
		r.shape.sum(r.values, n)
	}
	return n, err
}

func (r *reader) fillRaw(m *ebpf.Map, c *cursor, remove bool) (int, error) {
	if !r.iterate {
		n, err := r.fillBatch(m, c, remove)
		if !r.iterate {
			return n, err
		}
		c.reset()
	}
	if r.shape.array {
		return r.fillArray(m, c)
	}
	return r.fillHash(m, c, remove)
}

func (r *reader) fillBatch(m *ebpf.Map, c *cursor, remove bool) (int, error) {
	cmd := unix.BPF_MAP_LOOKUP_BATCH
	if remove {
		cmd = unix.BPF_MAP_LOOKUP_AND_DELETE_BATCH
	}
	for attempt := 0; ; attempt++ {
		var in []byte
		if c.started {
			in = c.token
		}
		n, errno := r.readBatch(cmd, m, in, c.token, r.keys, r.values, r.rows)
		if unsupported(errno) && !r.known {
			r.iterate = true
			return 0, nil
		}
		// A hash sets the token on each of these ways out, to the first bucket that it has not
		// read; an array only when it has read something.
		c.started = c.started || n > 0 || (!r.shape.array && countIsValid(errno))
		switch {
		case errno == unix.ENOENT:
			c.done, r.known = true, true
			return n, nil
		case errno == 0:
			r.known = true
			return n, nil
		case n > 0 && transient(errno):
			return n, nil
		case errno == unix.ENOSPC && r.rows <= r.shape.capacity:
			// The bucket at the token has more rows than the buffers.
			r.allocate(min(2*r.rows, r.shape.capacity+1))
		case transient(errno) && attempt < maxAttempts:
		default:
			return n, fmt.Errorf("read a batch of %s: %w", describe(m), errno)
		}
	}
}

// fillArray looks up one index after the other.
func (r *reader) fillArray(m *ebpf.Map, c *cursor) (int, error) {
	index := wordsOf(c.token[:8])
	n := 0
	for ; n < r.rows; n++ {
		if index[0] >= uint64(r.shape.capacity) {
			c.done = true
			break
		}
		// The low half of the word comes first: the module supports little-endian machines only.
		key := r.keys[n*4 : (n+1)*4]
		copy(key, c.token)
		if errno := r.element(unix.BPF_MAP_LOOKUP_ELEM, m, key, r.value(n)); errno != 0 {
			return n, fmt.Errorf("look up an element of %s: %w", describe(m), errno)
		}
		index[0]++
	}
	return n, nil
}

// fillHash goes from key to key. Before it removes a row, it asks for the one behind it: the kernel
// finds the next key from the present one, and starts anew when that is gone.
func (r *reader) fillHash(m *ebpf.Map, c *cursor, remove bool) (int, error) {
	key, next := c.token[:r.shape.keySize], c.next[:r.shape.keySize]
	if !c.started {
		errno := r.element(unix.BPF_MAP_GET_NEXT_KEY, m, nil, key)
		if errno == unix.ENOENT {
			c.done = true
			return 0, nil
		}
		if errno != 0 {
			return 0, fmt.Errorf("find the first key of %s: %w", describe(m), errno)
		}
		c.started = true
	}
	n := 0
	for n < r.rows && !c.done {
		switch errno := r.element(unix.BPF_MAP_GET_NEXT_KEY, m, key, next); errno {
		case 0:
		case unix.ENOENT:
			c.done = true
		default:
			return n, fmt.Errorf("find the next key of %s: %w", describe(m), errno)
		}
		switch errno := r.row(m, key, r.value(n), remove); errno {
		case 0:
			copy(r.keys[n*r.shape.keySize:], key)
			n++
		case unix.ENOENT: // removed by somebody else
		default:
			c.done = false
			return n, fmt.Errorf("look up a row of %s: %w", describe(m), errno)
		}
		copy(key, next)
	}
	return n, nil
}

// row reads one row of a hash, and removes it when remove is set. A row that is removed has been read.
func (r *reader) row(m *ebpf.Map, key, value []byte, remove bool) unix.Errno {
	if remove && !r.noTake {
		errno := r.element(unix.BPF_MAP_LOOKUP_AND_DELETE_ELEM, m, key, value)
		if !unsupported(errno) {
			return errno
		}
		r.noTake = true // before Linux 5.14
	}
	errno := r.element(unix.BPF_MAP_LOOKUP_ELEM, m, key, value)
	if errno == 0 && remove {
		errno = r.element(unix.BPF_MAP_DELETE_ELEM, m, key, nil)
	}
	return errno
}

func (r *reader) value(i int) []byte {
	stride := r.shape.stride()
	return r.values[i*stride : (i+1)*stride]
}
