// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package snapshot reads eBPF maps as rows of raw bytes, exactly: what the programs counted is
// delivered once, whatever happens in between.
//
// There are two kinds of table. A plain one is a map that the kernel only adds to: each read
// gives its present, cumulative content. A swapped one is a pair of hashes behind an array of
// maps of one slot: each read points the slot at the empty hash, and then reads and clears the
// retired one. The kernel waits for an RCU grace period inside that update
// (maybe_wait_bpf_programs in kernel/bpf/syscall.c), so that no program still writes the retired
// hash when the update returns. That holds for programs that can not sleep; a sleepable program
// must not write swapped maps.
//
// Rows are read with the batch commands of bpf(2) where the kernel has them for the type of the map
// (hashes since Linux 5.6, arrays 5.6, per-CPU arrays 5.14), otherwise one by one. Buffers
// are reused: neither a row nor a batch costs an allocation.
//
// While the kernel copies a bucket of a hash, programs on kprobes, perf events and classic tracepoints
// do not run on that CPU (bpf_disable_instrumentation); the kernel counts them as recursion misses.
// Typed and raw tracepoints and network programs are not affected.
package snapshot

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Errors that callers may want to tell apart with [errors.Is].
var (
	// ErrUnsupportedMap is returned by the constructors for maps whose type or shape they can not read.
	ErrUnsupportedMap = errors.New("map can not be read as a table")
	// ErrStillWritten is returned by Read of a swapped table when rows keep appearing in the retired
	// map, which only a program that can sleep, or another process, can cause.
	ErrStillWritten = errors.New("the retired map is still written")
)

// Rows is one batch of raw rows, valid only during the callback. The key of row i is
// Keys[i*KeySize:(i+1)*KeySize], its value Values[i*ValueSize:(i+1)*ValueSize], both in the
// machine's byte order. Per-CPU values are summed as 64-bit words, modulo 2^64: each counter in
// such a value has to be a u64 (a last word of fewer than 8 bytes is summed modulo its own width).
type Rows struct {
	Keys, Values       []byte
	KeySize, ValueSize int
	// N is the number of rows, at least 1.
	N int
	// Overflow marks the growth since the last read of what a full map could not take: N is 1, and
	// there is no key.
	Overflow bool
}

// Key is the key of row i; empty for an overflow row.
func (r Rows) Key(i int) []byte {
	return r.Keys[i*r.KeySize : (i+1)*r.KeySize : (i+1)*r.KeySize]
}

// Value is the value of row i.
func (r Rows) Value(i int) []byte {
	return r.Values[i*r.ValueSize : (i+1)*r.ValueSize : (i+1)*r.ValueSize]
}

// Kind tells what the rows of a table mean.
type Kind int

// The kinds of table.
const (
	// Plain rows are cumulative: each read delivers the totals since the map was made.
	Plain Kind = iota
	// Swapped rows are deltas: each read delivers what was added since the one before it.
	Swapped
)

func (k Kind) String() string {
	switch k {
	case Plain:
		return "plain"
	case Swapped:
		return "swapped"
	default:
		return fmt.Sprintf("Kind(%d)", int(k))
	}
}

// Table is a map, or a pair of maps, that is read as rows. All methods may be called at any time from
// any goroutine; reads follow one another. The callback must not call Read or Close.
type Table interface {
	// Read calls fn with all rows, in batches and in no order. It stops at the first error, of fn, of
	// ctx (looked at between batches) or of the kernel. A batch for which fn returned an error counts
	// as not delivered. A plain table delivers everything again at the next Read. A swapped one
	// continues where it stopped: with the very batch that was refused, then with the rest of the
	// retired map, and only then with a new swap; a key may therefore come twice in one Read of a
	// swapped table, and its values add up. A swap waits for an RCU grace period, commonly some ten
	// milliseconds without using a CPU, which ctx can not cut short. After Close, the error is
	// [os.ErrClosed].
	Read(ctx context.Context, fn func(Rows) error) error
	// Kind tells what the rows mean.
	Kind() Kind
	// Len is the number of rows, without overflow rows, that the last Read delivered.
	Len() int
	// Capacity is the largest number of rows that the map can hold.
	Capacity() int
	// Stats is the account of the last Read.
	Stats() Stats
	// Close waits for a running Read and gives the buffers back, with a batch that was refused, if
	// there is one. It does not close the maps, which belong to the caller, and leaves in them what
	// has not been read.
	Close() error
}

// Stats is the account of one Read.
type Stats struct {
	// Rows delivered, with overflow rows.
	Rows int
	// Batches is the number of callbacks.
	Batches int
	// Syscalls is the number of bpf(2) calls.
	Syscalls int
	// Late is the number of rows that appeared in a retired map after it had been cleared; see
	// [ErrStillWritten].
	Late int
	// Overflow is true when a full map could not take everything.
	Overflow bool
	// Duration of the Read, with the callbacks and the kernel's wait at a swap.
	Duration time.Duration
}

// Option changes how a table reads its maps.
type Option func(*options)

type options struct {
	batchRows int
	iterate   bool
	sys       bpfFunc
}

// WithBatchRows sets the number of rows of a batch. It is a wish: a batch has to have room for a
// whole bucket of a hash. Without it, a batch takes about half a mebibyte.
func WithBatchRows(n int) Option {
	return func(o *options) { o.batchRows = n }
}

// WithoutBatch reads row by row, as kernels without batch commands have it done.
func WithoutBatch() Option {
	return func(o *options) { o.iterate = true }
}

func resolve(opts []Option) options {
	o := options{sys: bpf}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}
