// SPDX-License-Identifier: Apache-2.0

//go:build linux

package snapshot

import (
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// readAll reads until there was no error.
func readAll(t *testing.T, table Table, got *content) (failures []error) {
	t.Helper()
	for range 1000 {
		err := table.Read(t.Context(), func(r Rows) error { got.add(r); return nil })
		if err == nil {
			return failures
		}
		failures = append(failures, err)
	}
	t.Fatalf("it never ends: %v", failures[0])
	return nil
}

// Errors of batch commands that come with rows, which are gone from the map: after a part of the batch,
// as the kernel does it when it can not lock a bucket or has no memory for one.
func TestKernelErrorsThatComeWithRows(t *testing.T) {
	tests := []struct {
		errno unix.Errno
		fails bool // the Read, which is to be repeated
	}{
		{unix.EBUSY, false},
		{unix.EDEADLK, false},
		{unix.ETIMEDOUT, false},
		{unix.EINTR, false},
		{unix.EAGAIN, false},
		{unix.ENOMEM, true},
	}
	for _, tt := range tests {
		t.Run(tt.errno.Error(), func(t *testing.T) {
			c := newSwapped(t, ebpf.PerCPUHash, 1000, 1024)
			calls := 0
			table := c.table(t, WithBatchRows(64), intercept(func(_ int, kernel func() unix.Errno, batch *batchAttr) unix.Errno {
				if batch == nil {
					return kernel()
				}
				if calls++; calls%2 == 0 {
					return kernel()
				}
				if calls%4 == 1 { // nothing at all
					batch.count = 0
					if batch.inBatch == 0 {
						return tt.errno
					}
					// The place stays the same: in and out are the same memory.
					return tt.errno
				}
				batch.count /= 2
				if errno := kernel(); errno != 0 {
					return errno
				}
				return tt.errno
			}))
			for range 3 {
				c.run(t, 10_000)
				got := newContent()
				want := oracle(t, c.inner[table.(*swappedTable).active])
				failures := readAll(t, table, got)
				assert.Equal(t, want, got.rows)
				if !tt.fails {
					assert.Empty(t, failures)
					continue
				}
				assert.NotEmpty(t, failures)
				for _, err := range failures {
					assert.ErrorIs(t, err, tt.errno)
				}
			}
		})
	}
}

func TestKernelLastingErrorEndsTheRead(t *testing.T) {
	c := newSwapped(t, ebpf.Hash, 1000, 1024)
	c.run(t, 1000)
	broken := true
	table := c.table(t, intercept(func(_ int, kernel func() unix.Errno, batch *batchAttr) unix.Errno {
		if batch != nil && broken {
			batch.count = 0
			return unix.EBUSY
		}
		return kernel()
	}))
	nothing := func(Rows) error { t.Error("a row"); return nil }
	require.ErrorIs(t, table.Read(t.Context(), nothing), unix.EBUSY)
	require.ErrorIs(t, table.Read(t.Context(), nothing), unix.EBUSY)
	broken = false
	got := newContent()
	assert.Empty(t, readAll(t, table, got))
	assert.Equal(t, c.total(t), got.sum().Count)
}

// An error of the checks in front of the command leaves our own count in place: it must not be
// taken for rows.
func TestKernelErrorsBeforeTheCommand(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EPERM, unix.EFAULT, unix.EBADF} {
		c := newSwapped(t, ebpf.Hash, 1000, 1024)
		table := c.table(t, intercept(func(_ int, kernel func() unix.Errno, batch *batchAttr) unix.Errno {
			if batch != nil {
				return errno
			}
			return kernel()
		}))
		err := table.Read(t.Context(), func(Rows) error { t.Error("a row"); return nil })
		require.ErrorIs(t, err, errno)
	}
}

// Kernels without the batch command, or without BPF_MAP_LOOKUP_AND_DELETE_ELEM, say so in several ways.
func TestKernelFallback(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EINVAL, enotsupp, unix.EOPNOTSUPP} {
		for _, typ := range hashes {
			t.Run(typ.String()+"/"+errno.Error(), func(t *testing.T) {
				c := newSwapped(t, typ, 1000, 1024)
				batches, takes := 0, 0
				sys := intercept(func(cmd int, kernel func() unix.Errno, batch *batchAttr) unix.Errno {
					switch {
					case batch != nil:
						batches++
						return errno
					case cmd == unix.BPF_MAP_LOOKUP_AND_DELETE_ELEM:
						takes++
						return errno
					}
					return kernel()
				})
				table := c.table(t, sys)
				for range 3 {
					before := c.total(t)
					c.run(t, 5000)
					got := newContent()
					assert.Empty(t, readAll(t, table, got))
					assert.Equal(t, c.total(t)-before, got.sum().Count)
				}
				assert.Equal(t, 1, batches, "asked once")
				assert.Equal(t, 1, takes, "asked once")

				plain := newPlain(t, typ, 1000, 1024)
				plain.run(t, 5000)
				got := newContent()
				assert.Empty(t, readAll(t, plain.table(t, sys), got))
				assert.Equal(t, oracle(t, plain.plain), got.rows)
			})
		}
	}
}

// Once a batch command has worked, the same errors are errors.
func TestKernelNoFallbackAfterSuccess(t *testing.T) {
	c := newSwapped(t, ebpf.Hash, 1000, 1024)
	broken := false
	table := c.table(t, intercept(func(_ int, kernel func() unix.Errno, batch *batchAttr) unix.Errno {
		if batch != nil && broken {
			return unix.EINVAL
		}
		return kernel()
	}))
	c.run(t, 100)
	got := newContent()
	assert.Empty(t, readAll(t, table, got))
	broken = true
	require.ErrorIs(t, table.Read(t.Context(), func(Rows) error { return nil }), unix.EINVAL)
}

// In a row-by-row read, an error at any call loses nothing and doubles nothing.
func TestKernelIterationErrors(t *testing.T) {
	for _, cmd := range []int{
		unix.BPF_MAP_GET_NEXT_KEY, unix.BPF_MAP_LOOKUP_AND_DELETE_ELEM, unix.BPF_MAP_LOOKUP_ELEM,
		unix.BPF_MAP_DELETE_ELEM, unix.BPF_MAP_UPDATE_ELEM,
	} {
		c := newSwapped(t, ebpf.Hash, 200, 256)
		calls := 0
		noTake := cmd == unix.BPF_MAP_LOOKUP_ELEM || cmd == unix.BPF_MAP_DELETE_ELEM
		ready := false
		table := c.table(t, WithoutBatch(), WithBatchRows(16), intercept(func(called int, kernel func() unix.Errno, _ *batchAttr) unix.Errno {
			if noTake && called == unix.BPF_MAP_LOOKUP_AND_DELETE_ELEM {
				return unix.EINVAL
			}
			if ready && called == cmd {
				if calls++; calls%5 == 1 {
					return unix.EPERM
				}
			}
			return kernel()
		}))
		ready = true
		c.run(t, 5000)
		got := newContent()
		assert.NotEmpty(t, readAll(t, table, got))
		c.run(t, 5000)
		readAll(t, table, got)
		total := c.total(t)
		assert.Equal(t, cell{total, 3 * total}, got.sum())
	}
}

// A bucket with more rows than the buffers have room for makes them grow.
func TestKernelBuffersGrow(t *testing.T) {
	for _, typ := range hashes {
		c := newSwapped(t, typ, 10_000, 1<<14)
		table := c.table(t, WithBatchRows(1))
		fillRows(t, c.inner[0], 10_000)
		want := oracle(t, c.inner[0])
		got := newContent()
		assert.Empty(t, readAll(t, table, got))
		assert.Equal(t, want, got.rows)
		assert.Greater(t, table.(*swappedTable).reader.rows, 1)

		plain := newPlain(t, typ, 10_000, 1<<14)
		table = plain.table(t, WithBatchRows(1))
		fillRows(t, plain.plain, 10_000)
		want = oracle(t, plain.plain)
		got = newContent()
		assert.Empty(t, readAll(t, table, got))
		assert.Equal(t, want, got.rows)
	}
}

// Rows that appear in a map that is retired, which no program that keeps the rules can do, are delivered
// and counted; when they do not end, the read does.
func TestKernelLateRows(t *testing.T) {
	c := newSwapped(t, ebpf.Hash, 1000, 1024)
	late := 3
	table := c.table(t, intercept(func(_ int, kernel func() unix.Errno, batch *batchAttr) unix.Errno {
		errno := kernel()
		if batch != nil && errno == unix.ENOENT && late > 0 {
			late--
			require.NoError(t, c.inner[0].Put(uint32(2000), cell{1, 3}))
		}
		return errno
	}))
	c.run(t, 1000)
	got := newContent()
	// The table is new, and looks into the second map first. Keep the rows out of that.
	late = 0
	assert.Empty(t, readAll(t, table, got))
	assert.Zero(t, table.Stats().Late)
	assert.Empty(t, readAll(t, table, got)) // the first map is active again
	c.run(t, 1000)
	late = 3
	assert.Empty(t, readAll(t, table, got))
	assert.Equal(t, 3, table.Stats().Late)
	total := c.total(t)
	assert.Equal(t, cell{total + 3, 3 * (total + 3)}, got.sum())

	assert.Empty(t, readAll(t, table, got))
	c.run(t, 1000)
	late = 100
	failures := readAll(t, table, got)
	require.NotEmpty(t, failures)
	for _, err := range failures {
		require.ErrorIs(t, err, ErrStillWritten)
	}
	total = c.total(t) + 103
	assert.Equal(t, cell{total, 3 * total}, got.sum())
	assert.Empty(t, oracle(t, c.inner[0]))
}

// A Read may make a few things of its own, but nothing per row or batch.
func TestKernelReadAllocatesNoRows(t *testing.T) {
	for _, typ := range hashes {
		for way, opts := range ways {
			swapped, plain := newSwapped(t, typ, 1000, 1024), newPlain(t, typ, 1000, 1024)
			for _, c := range []*counters{swapped, plain} {
				table := c.table(t, opts...)
				ctx, rows := t.Context(), 0
				fn := func(r Rows) error { rows += r.N; return nil }
				require.NoError(t, table.Read(ctx, fn)) // buffers may have to grow
				least := uint64(1000)
				for range 5 {
					c.run(t, 5000)
					rows = 0
					var before, after runtime.MemStats
					runtime.ReadMemStats(&before)
					err := table.Read(ctx, fn)
					runtime.ReadMemStats(&after)
					require.NoError(t, err)
					require.Greater(t, rows, 900)
					least = min(least, after.Mallocs-before.Mallocs)
				}
				assert.LessOrEqual(t, least, uint64(8), "%v, %s", typ, way)
			}
		}
	}
}
