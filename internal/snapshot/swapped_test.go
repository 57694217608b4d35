// SPDX-License-Identifier: Apache-2.0

//go:build linux

package snapshot

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ways are the ways of reading a map.
var ways = map[string][]Option{
	"batch":         nil,
	"small batches": {WithBatchRows(7)},
	"iteration":     {WithoutBatch()},
}

var hashes = []ebpf.MapType{ebpf.Hash, ebpf.PerCPUHash}

// readInAStorm calls read every few milliseconds while three goroutines count as fast as they can, at
// least reads times and until they have counted to increments; and once more when they have stopped.
func readInAStorm(t *testing.T, c *counters, reads int, increments uint64, read func()) {
	t.Helper()
	if testing.Short() {
		reads, increments = reads/5, increments/20
	}
	stop := c.storm(t)
	defer stop()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for i := 0; i < reads || c.total(t) < increments; i++ {
		<-ticker.C
		read()
	}
	stop()
	read()
	t.Logf("%d increments", c.total(t))
}

// While three goroutines count as fast as they can, the table is read every few milliseconds. Nothing
// is lost, nothing is counted twice, and no row is read while it is written.
func TestKernelSwappedIsExactInAStorm(t *testing.T) {
	for _, typ := range hashes {
		for way, opts := range ways {
			t.Run(typ.String()+"/"+way, func(t *testing.T) {
				c := newSwapped(t, typ, 4096, 4096)
				table := c.table(t, opts...)
				assert.Equal(t, Swapped, table.Kind())
				assert.Equal(t, 4096, table.Capacity())
				got := newContent()
				readInAStorm(t, c, 60, 1_500_000, func() {
					rows, batches := 0, 0
					err := table.Read(t.Context(), func(r Rows) error {
						got.add(r)
						rows += r.N
						batches++
						for i := range r.N {
							v := decode(r.Value(i))
							if !r.Overflow && v.Weight != 3*v.Count {
								t.Errorf("a torn row: %v", v)
							}
						}
						return nil
					})
					require.NoError(t, err)
					stats := table.Stats()
					require.Equal(t, rows, stats.Rows)
					require.Equal(t, batches, stats.Batches)
					require.Zero(t, stats.Late)
					require.Positive(t, stats.Duration)
					require.Positive(t, stats.Syscalls)
				})
				total := c.total(t)
				assert.Equal(t, cell{total, 3 * total}, got.sum())
				assert.Len(t, got.rows, 4096)
				assert.Empty(t, oracle(t, c.inner[0]))
				assert.Empty(t, oracle(t, c.inner[1]))
			})
		}
	}
}

func TestKernelSwappedFullMapOverflows(t *testing.T) {
	for _, typ := range hashes {
		t.Run(typ.String(), func(t *testing.T) {
			c := newSwapped(t, typ, 128, 4096)
			table := c.table(t)
			got := newContent()
			overflowed := 0
			readInAStorm(t, c, 30, 500_000, func() {
				require.NoError(t, table.Read(t.Context(), func(r Rows) error {
					if r.Overflow {
						overflowed++
						assert.Equal(t, 1, r.N)
						assert.Empty(t, r.Keys)
						assert.Empty(t, r.Key(0))
					}
					got.add(r)
					return nil
				}))
				assert.LessOrEqual(t, table.Len(), 128)
			})
			total := c.total(t)
			assert.Positive(t, got.overflow.Count)
			assert.Greater(t, overflowed, 1)
			assert.Equal(t, cell{total, 3 * total}, got.sum())

			// Without growth, there is no row.
			require.NoError(t, table.Read(t.Context(), func(Rows) error { t.Error("a row of nothing"); return nil }))
			assert.False(t, table.Stats().Overflow)
			assert.Zero(t, table.Len())
		})
	}
}

// A reader that fails, or gives up, at every other batch still gets everything once.
func TestKernelSwappedRefusedRowsComeAgain(t *testing.T) {
	refused := errors.New("refused")
	for _, typ := range hashes {
		for _, opts := range [][]Option{{WithBatchRows(100)}, {WithBatchRows(100), WithoutBatch()}} {
			t.Run(typ.String(), func(t *testing.T) {
				c := newSwapped(t, typ, 512, 1024) // overflows, too
				table := c.table(t, opts...)
				got := newContent()
				batch, failed, cancelled := 0, 0, 0
				read := func() error {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					return table.Read(ctx, func(r Rows) error {
						batch++
						if batch%3 == 0 {
							failed++
							return refused
						}
						if batch%7 == 0 {
							cancelled++
							cancel() // after this batch, which is taken
						}
						got.add(r)
						return nil
					})
				}
				readInAStorm(t, c, 100, 500_000, func() {
					if err := read(); err != nil && !errors.Is(err, refused) && !errors.Is(err, context.Canceled) {
						require.NoError(t, err)
					}
				})
				for complete := 0; complete < 2; {
					err := read()
					if err == nil {
						complete++
						continue
					}
					if !errors.Is(err, refused) && !errors.Is(err, context.Canceled) {
						require.NoError(t, err)
					}
				}
				total := c.total(t)
				assert.Positive(t, failed)
				assert.Positive(t, cancelled)
				assert.Positive(t, got.overflow.Count)
				assert.Equal(t, cell{total, 3 * total}, got.sum())
			})
		}
	}
}

// What was refused comes first and unchanged, and the slot is not swapped before all of it is taken.
func TestKernelSwappedContinuesWhereItStopped(t *testing.T) {
	for way, opts := range ways {
		t.Run(way, func(t *testing.T) {
			c := newSwapped(t, ebpf.Hash, 1000, 1024)
			table := c.table(t, append([]Option{WithBatchRows(20)}, opts...)...)
			fillRows(t, c.inner[0], 500)
			want := oracle(t, c.inner[0])
			refused := errors.New("refused")
			var first []byte
			got := newContent()
			batches := 0
			for range 3 {
				err := table.Read(t.Context(), func(r Rows) error {
					if batches++; batches == 3 {
						first = append(first, r.Keys...)
					}
					if batches >= 3 {
						return refused
					}
					got.add(r)
					return nil
				})
				require.ErrorIs(t, err, refused)
			}
			fillRows(t, c.inner[1], 10) // what programs count meanwhile
			batches = 0
			require.NoError(t, table.Read(t.Context(), func(r Rows) error {
				if batches++; batches == 1 {
					assert.Equal(t, first, r.Keys)
				}
				got.add(r)
				return nil
			}))
			for key, v := range oracleOf(10) {
				want[key] = want[key].add(v)
			}
			assert.Equal(t, want, got.rows)
		})
	}
}

// oracleOf is what fillRows puts into a HASH.
func oracleOf(n int) map[uint32]cell {
	rows := map[uint32]cell{}
	for key := range uint32(n) {
		rows[key] = cell{uint64(key), 1}
	}
	return rows
}

func TestKernelSwappedAgainstOracle(t *testing.T) {
	for _, typ := range hashes {
		for way, opts := range ways {
			t.Run(typ.String()+"/"+way, func(t *testing.T) {
				rows := 50_000
				if testing.Short() {
					rows = 5_000
				}
				c := newSwapped(t, typ, rows, 1<<16)
				table := c.table(t, opts...)
				for i := range 3 {
					fillRows(t, c.inner[i%2], rows)
					want := oracle(t, c.inner[i%2])
					require.Len(t, want, rows)
					got := newContent()
					require.NoError(t, table.Read(t.Context(), func(r Rows) error { got.add(r); return nil }))
					require.Equal(t, want, got.rows)
					require.Equal(t, rows, table.Len())
					require.Empty(t, oracle(t, c.inner[i%2]))
				}
			})
		}
	}
}

func TestKernelSwappedBegin(t *testing.T) {
	c := newSwapped(t, ebpf.Hash, 100, 64)
	collect := func(table Table) map[uint32]cell {
		got := newContent()
		require.NoError(t, table.Read(t.Context(), func(r Rows) error { got.add(r); return nil }))
		return got.rows
	}

	// The second map is in the slot, and the first one is not empty.
	require.NoError(t, c.outer.Put(uint32(0), c.inner[1]))
	require.NoError(t, c.inner[0].Put(uint32(7), cell{1, 1}))
	require.NoError(t, c.inner[1].Put(uint32(7), cell{2, 2}))
	require.NoError(t, c.inner[1].Put(uint32(8), cell{5, 5}))
	assert.Equal(t, map[uint32]cell{7: {3, 3}, 8: {5, 5}}, collect(c.table(t)))

	// Nothing is in the slot.
	require.NoError(t, c.outer.Delete(uint32(0)))
	table := c.table(t)
	c.run(t, 1)
	got := newContent()
	got.rows = collect(table)
	assert.Equal(t, c.total(t), got.sum().Count)

	// What is in the overflow cell from the beginning is delivered.
	cpus, err := ebpf.PossibleCPU()
	require.NoError(t, err)
	cells := make([]cell, cpus)
	cells[cpus-1] = cell{^uint64(0), 9}
	require.NoError(t, c.overflow.Put(uint32(0), cells))
	table = c.table(t)
	var rows []cell
	read := func() {
		require.NoError(t, table.Read(t.Context(), func(r Rows) error {
			require.True(t, r.Overflow)
			rows = append(rows, decode(r.Value(0)))
			return nil
		}))
	}
	read()
	cells[0] = cell{5, 0} // the sum goes around 2^64
	require.NoError(t, c.overflow.Put(uint32(0), cells))
	read()
	read()
	assert.Equal(t, []cell{{^uint64(0), 9}, {5, 0}}, rows)
}

func TestKernelSwappedUnsupported(t *testing.T) {
	c := newSwapped(t, ebpf.Hash, 100, 64)
	other := func(typ ebpf.MapType, value, entries uint32) *ebpf.Map {
		return newMap(t, &ebpf.MapSpec{Type: typ, KeySize: 4, ValueSize: value, MaxEntries: entries})
	}
	tests := map[string]struct {
		outer    *ebpf.Map
		inner    [2]*ebpf.Map
		overflow *ebpf.Map
	}{
		"outer is a hash":        {c.inner[0], c.inner, c.overflow},
		"inner is an array":      {c.outer, [2]*ebpf.Map{c.overflow, c.overflow}, nil},
		"inner maps differ":      {c.outer, [2]*ebpf.Map{c.inner[0], other(ebpf.Hash, 16, 101)}, nil},
		"overflow is not one":    {c.outer, c.inner, other(ebpf.PerCPUArray, 16, 2)},
		"overflow is a hash":     {c.outer, c.inner, other(ebpf.PerCPUHash, 16, 1)},
		"overflow has no weight": {c.outer, c.inner, other(ebpf.PerCPUArray, 8, 1)},
		"slot holds another":     {c.outer, [2]*ebpf.Map{other(ebpf.Hash, 16, 100), other(ebpf.Hash, 16, 100)}, nil},
		"inner is LRU":           {c.outer, [2]*ebpf.Map{other(ebpf.LRUHash, 16, 100), other(ebpf.LRUHash, 16, 100)}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := NewSwapped(tt.outer, tt.inner, tt.overflow)
			require.ErrorIs(t, err, ErrUnsupportedMap)
		})
	}
}

func TestKernelClose(t *testing.T) {
	for _, c := range []*counters{newSwapped(t, ebpf.Hash, 64, 64), newPlain(t, ebpf.Array, 64, 64)} {
		table := c.table(t)
		c.run(t, 1)
		require.NoError(t, table.Close())
		require.NoError(t, table.Close())
		require.ErrorIs(t, table.Read(t.Context(), func(Rows) error { return nil }), os.ErrClosed)
		assert.Zero(t, table.Stats())
		if c.plain != nil {
			assert.NotEmpty(t, oracle(t, c.plain), "the map is the caller's")
		} else {
			assert.NotEmpty(t, oracle(t, c.inner[0]))
		}
	}
}
