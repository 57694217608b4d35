// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ring

import (
	"testing"

	"github.com/cilium/ebpf/ringbuf"
	"github.com/stretchr/testify/require"
)

// One operation is one ring of 2 MiB, full of records of 300 bytes (304 in the ring). The time
// to fill it is not counted.
const (
	benchRing    = 2 << 20
	benchRecords = 6000
)

var sink uint64

func BenchmarkDrain(b *testing.B) {
	m := newRing(b, benchRing)
	r := newReader(b, m)
	w := newWriter(b, m, recordSpec{size: 304, flags: adaptive})
	fill(b, w)
	_, err := r.Drain(func([]byte) bool { return true })
	require.NoError(b, err)
	records := 0
	fn := func(record []byte) bool {
		records++
		sink += word(record, 8)
		return true
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		fill(b, w)
		b.StartTimer()
		if _, err := r.Drain(fn); err != nil {
			b.Fatal(err)
		}
	}
	report(b, records)
}

// BenchmarkDrainCilium is the same with the reader of cilium/ebpf.
func BenchmarkDrainCilium(b *testing.B) {
	m := newRing(b, benchRing)
	r, err := ringbuf.NewReader(m)
	require.NoError(b, err)
	defer r.Close()
	w := newWriter(b, m, recordSpec{size: 304, flags: adaptive})
	records := 0
	var record ringbuf.Record
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		fill(b, w)
		b.StartTimer()
		for r.AvailableBytes() > 0 {
			if err := r.ReadInto(&record); err != nil {
				b.Fatal(err)
			}
			records++
			sink += word(record.RawSample, 8)
		}
	}
	report(b, records)
}

func fill(b *testing.B, w *writer) {
	b.Helper()
	w.run(b, benchRecords)
}

func report(b *testing.B, records int) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(records), "ns/record")
	b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
}
