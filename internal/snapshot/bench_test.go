// SPDX-License-Identifier: Apache-2.0

//go:build linux

package snapshot

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
)

var sink uint64

// One operation is one full hash with values of two counters, read and cleared. The time to
// fill it is not counted.
func eachSize(b *testing.B, run func(b *testing.B, typ ebpf.MapType, rows int)) {
	for _, rows := range []int{100_000, 1_000_000} {
		for _, typ := range hashes {
			b.Run(fmt.Sprintf("%v/%d", typ, rows), func(b *testing.B) { run(b, typ, rows) })
		}
	}
}

func BenchmarkSwappedRead(b *testing.B) {
	eachSize(b, func(b *testing.B, typ ebpf.MapType, rows int) {
		c := newSwapped(b, typ, rows, 1)
		table := c.table(b)
		fn := func(r Rows) error {
			for i := range r.N {
				sink += uint64(r.Value(i)[0])
			}
			return nil
		}
		b.ReportAllocs()
		b.ResetTimer()
		total := 0
		for i := range b.N {
			b.StopTimer()
			fillRows(b, c.inner[i%2], rows)
			b.StartTimer()
			if err := table.Read(b.Context(), fn); err != nil {
				b.Fatal(err)
			}
			total += table.Len()
		}
		require.Equal(b, rows*b.N, total)
		report(b, total)
		b.ReportMetric(float64(table.Stats().Syscalls), "syscalls/op")
	})
}

// BenchmarkFloor is what the kernel's batch command costs through cilium/ebpf with buffers for
// all rows: no swap, no verification, no sums.
func BenchmarkFloor(b *testing.B) {
	eachSize(b, func(b *testing.B, typ ebpf.MapType, rows int) {
		m := newMap(b, &ebpf.MapSpec{Type: typ, KeySize: 4, ValueSize: 16, MaxEntries: uint32(rows)})
		cpus := 1
		if typ == ebpf.PerCPUHash {
			cpus = ebpf.MustPossibleCPU()
		}
		keys := make([]uint32, rows)
		values := make([]cell, rows*cpus)
		b.ReportAllocs()
		b.ResetTimer()
		total := 0
		for range b.N {
			b.StopTimer()
			fillRows(b, m, rows)
			b.StartTimer()
			var cursor ebpf.MapBatchCursor
			for {
				n, err := m.BatchLookupAndDelete(&cursor, keys, values, nil)
				total += n
				if errors.Is(err, ebpf.ErrKeyNotExist) {
					break
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		require.Equal(b, rows*b.N, total)
		report(b, total)
	})
}

func BenchmarkPlainRead(b *testing.B) {
	for _, typ := range plains {
		b.Run(fmt.Sprintf("%v/100000", typ), func(b *testing.B) {
			const rows = 100_000
			c := newPlain(b, typ, rows, 1)
			if typ == ebpf.Hash || typ == ebpf.PerCPUHash {
				fillRows(b, c.plain, rows)
			}
			table := c.table(b)
			fn := func(r Rows) error { sink += uint64(r.Value(0)[0]); return nil }
			b.ReportAllocs()
			for b.Loop() {
				if err := table.Read(b.Context(), fn); err != nil {
					b.Fatal(err)
				}
			}
			report(b, rows*b.N)
		})
	}
}

func report(b *testing.B, rows int) {
	b.Helper()
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}
