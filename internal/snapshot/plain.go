// SPDX-License-Identifier: Apache-2.0

//go:build linux

package snapshot

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf"
)

type plainTable struct {
	m     *ebpf.Map
	shape shape

	mu     sync.Mutex // held by Read and Close
	reader *reader    // nil after Close
	cursor *cursor

	account
}

// NewPlain makes a table of a map that programs only add to: an ARRAY, PERCPU_ARRAY, HASH or
// PERCPU_HASH. The map stays the caller's, who keeps it open until after Close. A map of another
// type gives an error that is [ErrUnsupportedMap].
func NewPlain(m *ebpf.Map, opts ...Option) (Table, error) {
	s, err := shapeOf(m)
	if err != nil {
		return nil, err
	}
	return &plainTable{
		m:      m,
		shape:  s,
		reader: newReader(s, resolve(opts)),
		cursor: newCursor(s),
	}, nil
}

func (t *plainTable) Read(ctx context.Context, fn func(Rows) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reader == nil {
		return os.ErrClosed
	}
	t.reader.calls = 0
	stats := Stats{}
	start := time.Now()
	defer func() {
		stats.Syscalls = t.reader.calls
		stats.Duration = time.Since(start)
		t.set(stats, stats.Rows)
	}()

	for t.cursor.reset(); !t.cursor.done; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := t.reader.fill(t.m, t.cursor, false)
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		if err := fn(t.reader.batch(n)); err != nil {
			return err
		}
		stats.Batches++
		stats.Rows += n
	}
	return nil
}

func (t *plainTable) Kind() Kind { return Plain }

func (t *plainTable) Capacity() int { return t.shape.capacity }

func (t *plainTable) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reader = nil
	return nil
}

// account is what a table remembers of its last Read, with a lock of its own so that a long Read
// does not hold up who asks.
type account struct {
	statsMu sync.Mutex
	stats   Stats
	length  int
}

func (a *account) set(stats Stats, length int) {
	a.statsMu.Lock()
	defer a.statsMu.Unlock()
	a.stats, a.length = stats, length
}

func (a *account) Stats() Stats {
	a.statsMu.Lock()
	defer a.statsMu.Unlock()
	return a.stats
}

func (a *account) Len() int {
	a.statsMu.Lock()
	defer a.statsMu.Unlock()
	return a.length
}
