// SPDX-License-Identifier: Apache-2.0

//go:build linux

package snapshot

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var plains = []ebpf.MapType{ebpf.Array, ebpf.PerCPUArray, ebpf.Hash, ebpf.PerCPUHash}

func TestKernelPlainAgainstOracle(t *testing.T) {
	for _, typ := range plains {
		for way, opts := range ways {
			t.Run(typ.String()+"/"+way, func(t *testing.T) {
				c := newPlain(t, typ, 1000, 512)
				table := c.table(t, opts...)
				assert.Equal(t, Plain, table.Kind())
				assert.Equal(t, 1000, table.Capacity())
				for range 3 {
					c.run(t, 5000)
					got := newContent()
					require.NoError(t, table.Read(t.Context(), func(r Rows) error {
						assert.False(t, r.Overflow)
						assert.Equal(t, 4, r.KeySize)
						assert.Equal(t, 16, r.ValueSize)
						assert.Len(t, r.Keys, 4*r.N)
						assert.Len(t, r.Values, 16*r.N)
						got.add(r)
						return nil
					}))
					total := c.total(t)
					require.Equal(t, cell{total, 3 * total}, got.sum())
					require.Equal(t, oracle(t, c.plain), got.rows)
					require.Equal(t, len(got.rows), table.Len())
				}
			})
		}
	}
}

// Each read of a map that is written meanwhile has every row once, and no counter goes back.
func TestKernelPlainInAStorm(t *testing.T) {
	for _, typ := range plains {
		for way, opts := range ways {
			t.Run(typ.String()+"/"+way, func(t *testing.T) {
				c := newPlain(t, typ, 256, 256)
				c.run(t, 20_000)
				table := c.table(t, opts...)
				last := map[uint32]uint64{}
				readInAStorm(t, c, 20, 100_000, func() {
					seen := map[uint32]bool{}
					require.NoError(t, table.Read(t.Context(), func(r Rows) error {
						for i := range r.N {
							key, v := binary.NativeEndian.Uint32(r.Key(i)), decode(r.Value(i))
							assert.False(t, seen[key], "key %d twice", key)
							assert.GreaterOrEqual(t, v.Count, last[key])
							seen[key], last[key] = true, v.Count
						}
						return nil
					}))
					assert.Len(t, seen, 256)
				})
				var sum uint64
				for _, v := range last {
					sum += v
				}
				assert.Equal(t, c.total(t), sum)
			})
		}
	}
}

func TestKernelPlainErrors(t *testing.T) {
	c := newPlain(t, ebpf.Hash, 1000, 512)
	c.run(t, 5000)
	table := c.table(t, WithBatchRows(50))
	refused := errors.New("refused")
	batches := 0
	err := table.Read(t.Context(), func(Rows) error {
		if batches++; batches == 3 {
			return refused
		}
		return nil
	})
	require.ErrorIs(t, err, refused)
	ctx, cancel := context.WithCancel(t.Context())
	batches = 0
	err = table.Read(ctx, func(Rows) error {
		if batches++; batches == 2 {
			cancel()
		}
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 2, batches)
	got := newContent()
	require.NoError(t, table.Read(t.Context(), func(r Rows) error { got.add(r); return nil }))
	assert.Equal(t, c.total(t), got.sum().Count)

	require.NoError(t, c.plain.Close())
	require.ErrorContains(t, table.Read(t.Context(), func(Rows) error { return nil }), "bad file descriptor")

	lru := newMap(t, &ebpf.MapSpec{Type: ebpf.LRUHash, KeySize: 4, ValueSize: 8, MaxEntries: 10})
	_, err = NewPlain(lru)
	require.ErrorIs(t, err, ErrUnsupportedMap)
}

// Values and keys of sizes that are no multiple of 8.
func TestKernelPlainSizes(t *testing.T) {
	for _, typ := range plains {
		for _, valueSize := range []int{1, 4, 8, 12, 20, 300} {
			for way, opts := range ways {
				t.Run(typ.String()+"/"+way, func(t *testing.T) {
					keySize := 4
					if typ == ebpf.Hash || typ == ebpf.PerCPUHash {
						keySize = 13
					}
					const rows = 100
					m := newMap(t, &ebpf.MapSpec{Type: typ, KeySize: uint32(keySize), ValueSize: uint32(valueSize), MaxEntries: rows})
					cpus := 1
					if typ == ebpf.PerCPUArray || typ == ebpf.PerCPUHash {
						var err error
						cpus, err = ebpf.PossibleCPU()
						require.NoError(t, err)
					}
					want := map[string][]byte{}
					for i := range rows {
						key := make([]byte, keySize)
						binary.NativeEndian.PutUint32(key, uint32(i))
						sum := make([]byte, (valueSize+7)&^7)
						values := make([][]byte, cpus)
						for cpu := range values {
							value := make([]byte, len(sum))
							for at := range valueSize {
								value[at] = byte(rand.Uint32())
							}
							for at := 0; at < len(sum); at += 8 {
								binary.NativeEndian.PutUint64(sum[at:], binary.NativeEndian.Uint64(sum[at:])+binary.NativeEndian.Uint64(value[at:]))
							}
							values[cpu] = value[:valueSize]
						}
						want[string(key)] = sum[:valueSize]
						if typ == ebpf.PerCPUArray || typ == ebpf.PerCPUHash {
							require.NoError(t, m.Put(key, values))
						} else {
							require.NoError(t, m.Put(key, values[0]))
						}
					}
					table, err := NewPlain(m, opts...)
					require.NoError(t, err)
					got := map[string][]byte{}
					require.NoError(t, table.Read(t.Context(), func(r Rows) error {
						for i := range r.N {
							got[string(r.Key(i))] = append([]byte(nil), r.Value(i)...)
						}
						return nil
					}))
					assert.Equal(t, want, got)
				})
			}
		}
	}
}

func TestSumSlots(t *testing.T) {
	for _, cpus := range []int{1, 2, 3, 4, 7, 64} {
		for _, words := range []int{1, 2, 5, 37} {
			for _, n := range []int{0, 1, 2, 33} {
				values := make([]uint64, n*words*cpus)
				want := make([]uint64, n*words)
				for i := range values {
					values[i] = rand.Uint64()
					want[i/(words*cpus)*words+i%words] += values[i]
				}
				sumSlots(values, n, words, cpus)
				assert.Equal(t, want, values[:n*words], "%d values of %d words on %d CPUs", n, words, cpus)
			}
		}
	}
}

func TestKindString(t *testing.T) {
	assert.Equal(t, "plain", Plain.String())
	assert.Equal(t, "swapped", Swapped.String())
	assert.Equal(t, "Kind(7)", Kind(7).String())
}
