// SPDX-License-Identifier: Apache-2.0

package emit_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/internal/snapshot"
	"github.com/ebpfreceiver/ebpfreceiver/test/btftypes"
)

// Keys and values of the golden tests. The Go structs lie as the BTF says.
type (
	pair    struct{ A, B uint64 }
	placed  struct{ Cgroup, A uint64 }
	process struct {
		Start       uint64
		PID, Unused uint32
		Comm        [16]byte
	}
)

func u64s(name string, fields ...string) *btftypes.Struct {
	list := make([]btftypes.Field, len(fields))
	for i, f := range fields {
		list[i] = btftypes.Field{Name: f, Type: btftypes.U64}
	}
	return btftypes.NewStruct(name, list...)
}

func dims(list ...string) map[string]probe.Dimension {
	m := make(map[string]probe.Dimension)
	for _, d := range list {
		if d == "container" {
			m[d] = probe.Dimension{Field: "cgroup", As: "container"}
			continue
		}
		m[d] = probe.Dimension{Field: d}
	}
	return m
}

func TestSpecGoldenMetrics(t *testing.T) {
	pairs, single := u64s("pair", "a", "b"), u64s("counted", "n")
	cgroups := u64s("placed", "cgroup", "a")
	counter := probe.Metric{Type: probe.Counter, Value: "n"}
	two := u64s("io", "read", "written")
	processes := btftypes.NewStruct("who", btftypes.Field{Name: "process", Type: btftypes.ProcessKey})
	comm := func(start uint64, pid uint32, name string) process { return process{start, pid, 0, text(name)} }

	threeTicks := []read{
		one(keyed(pair{1, 1}, 5)),
		in([]row{keyed(pair{1, 1}, 2)}, []row{keyed(pair{2, 1}, 7), keyed(pair{1, 1}, 1)}),
		one(keyed(pair{3, 3}, 1), keyed(pair{2, 1}, 1)),
	}
	for _, c := range []struct {
		name  string
		setup setup
		reads []read
		// overflow tells after which reads Overflowed is to be true.
		overflow []bool
	}{
		{
			name:  "cumulative",
			setup: setup{key: pairs, value: single, dimensions: dims("a", "b"), metric: counter, kind: snapshot.Swapped},
			reads: threeTicks,
		},
		{
			// Rows that differ in b alone are one series, since b is not selected.
			name:  "delta_merged",
			setup: setup{delta: true, key: pairs, value: single, dimensions: dims("a"), metric: counter, kind: snapshot.Swapped},
			reads: []read{
				one(keyed(pair{1, 1}, 5), keyed(pair{1, 2}, 6), keyed(pair{2, 1}, 1)),
				in([]row{keyed(pair{1, 9}, 2)}, []row{keyed(pair{1, 1}, 3)}),
				one(),
				one(keyed(pair{2, 1}, 1)),
			},
		},
		{
			// One process whose pid was given again, to one of the same name, is one series.
			name: "delta_merged_processes",
			setup: setup{
				delta: true, key: processes, value: single, metric: counter, kind: snapshot.Swapped,
				dimensions: map[string]probe.Dimension{"process": {Field: "process"}},
			},
			reads: []read{one(keyed(comm(1, 7, "a"), 1), keyed(comm(2, 7, "a"), 2), keyed(comm(3, 7, "b"), 4), keyed(comm(4, 8, "a"), 8))},
		},
		{
			name:  "delta_streamed",
			setup: setup{delta: true, key: pairs, value: single, dimensions: dims("a", "b"), metric: counter, kind: snapshot.Swapped},
			reads: []read{
				in([]row{keyed(pair{1, 1}, 5), keyed(pair{1, 2}, 6)}, []row{overflowed([]uint64{11})}),
				one(keyed(pair{1, 1}, 2), keyed(pair{1 << 63, 0}, 3)),
			},
			overflow: []bool{true, false},
		},
		{
			name:  "overflow_of_the_map",
			setup: setup{key: pairs, value: single, dimensions: dims("a"), metric: counter, kind: snapshot.Swapped},
			reads: []read{
				one(keyed(pair{1, 1}, 5)),
				in([]row{keyed(pair{1, 1}, 1)}, []row{overflowed([]uint64{100})}),
				one(keyed(pair{1, 1}, 1)),
				in([]row{overflowed([]uint64{10})}),
			},
			overflow: []bool{false, true, false, true},
		},
		{
			name: "overflow_of_the_series",
			setup: setup{
				key: cgroups, value: single, dimensions: dims("container", "a"), metric: counter, kind: snapshot.Swapped, maxSeries: 2,
			},
			reads: []read{
				one(keyed(placed{10, 1}, 1), keyed(placed{20, 1}, 2)),
				in([]row{keyed(placed{10, 2}, 10), keyed(placed{20, 3}, 20), keyed(placed{10, 1}, 4)}, []row{overflowed([]uint64{100})}),
				one(keyed(placed{10, 1}, 1)),
			},
			overflow: []bool{false, true, false},
		},
		{
			name: "overflow_of_the_series_delta",
			setup: setup{
				delta: true, key: cgroups, value: single, dimensions: dims("container", "a"), metric: counter, kind: snapshot.Swapped, maxSeries: 2,
			},
			reads: []read{
				one(keyed(placed{10, 1}, 1), keyed(placed{20, 1}, 2)),
				in([]row{keyed(placed{10, 2}, 10), keyed(placed{20, 3}, 20), keyed(placed{10, 1}, 4)}, []row{overflowed([]uint64{100})}),
				one(keyed(placed{10, 1}, 1)),
			},
			overflow: []bool{false, true, false},
		},
		{
			// The series of 1 is not told after its time, and begins anew at the end of the tick before its rebirth.
			name:  "expiry_and_rebirth",
			setup: setup{key: pairs, value: single, dimensions: dims("a"), metric: counter, kind: snapshot.Swapped, ttl: 15 * time.Second, maxSeries: 2},
			reads: []read{
				one(keyed(pair{1, 0}, 5), keyed(pair{2, 0}, 1)),
				one(keyed(pair{2, 0}, 1)),
				one(keyed(pair{2, 0}, 1)),
				one(keyed(pair{2, 0}, 1)),
				one(keyed(pair{2, 0}, 1), keyed(pair{1, 0}, 3)),
			},
			overflow: []bool{false, false, false, false, false},
		},
		{
			name:  "containers",
			setup: setup{key: cgroups, value: single, dimensions: dims("container", "a"), metric: counter, kind: snapshot.Swapped},
			reads: []read{
				one(keyed(placed{10, 1}, 1), keyed(placed{11, 1}, 2), keyed(placed{20, 1}, 4), keyed(placed{5, 1}, 8), keyed(placed{6, 1}, 16)),
				one(keyed(placed{11, 1}, 32)),
			},
		},
		{
			name:  "plain",
			setup: setup{key: pairs, value: single, dimensions: dims("a"), metric: counter, kind: snapshot.Plain},
			reads: []read{
				one(keyed(pair{1, 1}, 5), keyed(pair{1, 2}, 6)),
				one(keyed(pair{1, 1}, 5), keyed(pair{1, 2}, 7), keyed(pair{2, 0}, 1)),
			},
		},
		{
			name:  "plain_delta",
			setup: setup{delta: true, key: pairs, value: single, dimensions: dims("a"), metric: counter, kind: snapshot.Plain},
			reads: []read{
				one(keyed(pair{1, 1}, 5), keyed(pair{1, 2}, 6)),
				one(keyed(pair{1, 1}, 5), keyed(pair{1, 2}, 7), keyed(pair{2, 0}, 1)),
				one(keyed(pair{1, 1}, 5), keyed(pair{1, 2}, 7), keyed(pair{2, 0}, 1)),
			},
		},
		{
			// A part of a total looks like a counter that was reset.
			name:  "plain_read_fails",
			setup: setup{key: pairs, value: single, dimensions: dims("a"), metric: counter, kind: snapshot.Plain},
			reads: []read{
				one(keyed(pair{1, 1}, 5), keyed(pair{1, 2}, 6)),
				one(keyed(pair{1, 1}, 5)).fails(),
				one(keyed(pair{1, 1}, 5), keyed(pair{1, 2}, 7)),
			},
		},
		{
			// What was read before the error is out of the kernel: it counts, and the rest comes with the next tick.
			name:  "swapped_read_fails",
			setup: setup{key: pairs, value: single, dimensions: dims("a"), metric: counter, kind: snapshot.Swapped},
			reads: []read{one(keyed(pair{1, 1}, 5)).fails(), one(keyed(pair{1, 2}, 6)), one(keyed(pair{2, 0}, 1)).fails()},
		},
		{
			name:  "gauge",
			setup: setup{delta: true, key: pairs, value: single, dimensions: dims("a"), metric: probe.Metric{Type: probe.Gauge, Value: "n"}, kind: snapshot.Plain},
			reads: []read{one(keyed(pair{1, 1}, 5), keyed(pair{2, 1}, 9)), one(keyed(pair{1, 1}, 3)), one(keyed(pair{1, 1}, 3))},
		},
		{
			name:  "updowncounter",
			setup: setup{delta: true, key: pairs, value: single, dimensions: dims("a"), metric: probe.Metric{Type: probe.UpDownCounter, Value: "n"}, kind: snapshot.Plain},
			reads: []read{one(keyed(pair{1, 1}, 5), keyed(pair{1, 2}, 9)), one(keyed(pair{1, 1}, 3)), one(keyed(pair{1, 1}, 3))},
		},
		{
			// The bounds are 2^1, 2^2 and 2^3, halved.
			name: "histogram",
			setup: setup{
				key: pairs, value: btftypes.Histogram(1, 3, 0), dimensions: dims("a"), kind: snapshot.Swapped,
				metric: probe.Metric{Type: probe.Histogram, Value: ".", Scale: 0.5},
			},
			reads: []read{
				one(keyed(pair{1, 1}, 10, 1, 0, 1, 0), keyed(pair{1, 2}, 100, 0, 0, 0, 2)),
				in([]row{keyed(pair{1, 1}, 1, 1, 0, 0, 0), overflowed([]uint64{3, 0, 1, 0, 0})}),
			},
			overflow: []bool{false, true},
		},
		{
			name: "histogram_streamed",
			setup: setup{
				delta: true, key: pairs, value: btftypes.Histogram(1, 3, 0), dimensions: dims("a", "b"), kind: snapshot.Swapped,
				metric: probe.Metric{Type: probe.Histogram, Value: "."},
			},
			reads: []read{
				one(keyed(pair{1, 1}, 10, 1, 0, 1, 0), keyed(pair{1, 2}, 100, 0, 0, 0, 2)),
				in([]row{keyed(pair{1, 1}, 1, 1, 0, 0, 0), overflowed([]uint64{3, 0, 1, 0, 0})}),
			},
			overflow: []bool{false, true},
		},
		{
			name: "points",
			setup: setup{
				key: pairs, value: two, dimensions: dims("a"), kind: snapshot.Swapped,
				metric: probe.Metric{Type: probe.Counter, Points: []probe.Point{
					{Value: "read", Attributes: map[string]string{"direction": "read"}},
					{Value: "written", Attributes: map[string]string{"direction": "write", "z": "constant"}},
				}},
			},
			reads: []read{one(keyed(pair{1, 1}, 5, 7)), one(keyed(pair{1, 2}, 1, 0))},
		},
		{
			name: "points_streamed",
			setup: setup{
				delta: true, key: pairs, value: two, dimensions: dims("a", "b"), kind: snapshot.Swapped,
				metric: probe.Metric{Type: probe.Counter, Points: []probe.Point{
					{Value: "read", Attributes: map[string]string{"direction": "read"}},
					{Value: "written", Attributes: map[string]string{"direction": "write", "z": "constant"}},
				}},
			},
			reads: []read{one(keyed(pair{1, 1}, 5, 7))},
		},
		{
			name: "scaled",
			setup: setup{
				key: pairs, value: single, dimensions: dims("a"), kind: snapshot.Swapped,
				metric: probe.Metric{Type: probe.Counter, Value: "n", Scale: 1e-9},
			},
			reads: []read{one(keyed(pair{1, 1}, 1_500_000_000)), one(keyed(pair{1, 1}, 1))},
		},
		{
			// No dimension: all rows are one series, of the host.
			name:  "no_dimensions",
			setup: setup{key: pairs, value: single, metric: counter, kind: snapshot.Swapped},
			reads: []read{one(keyed(pair{1, 1}, 1), keyed(pair{2, 2}, 2)), one()},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, table, from := c.setup.build(t)
			from.reads = c.reads
			var payloads []json.RawMessage
			for i, r := range c.reads {
				m.Begin(at(i + 1))
				n, err := table.Read(t.Context())
				if r.err != nil {
					require.ErrorIs(t, err, r.err)
				} else {
					require.NoError(t, err)
				}
				assert.Equal(t, keysIn(r), n, "rows of read %d", i)
				if c.overflow != nil {
					assert.Equal(t, c.overflow[i], table.Overflowed(), "read %d overflowed", i)
				} else {
					assert.False(t, table.Overflowed(), "read %d overflowed", i)
				}
				b, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(m.End())
				require.NoError(t, err)
				payloads = append(payloads, b)
			}
			golden(t, c.name, payloads)
		})
	}
}

// keysIn is the number of rows that have a key.
func keysIn(r read) int {
	n := 0
	for _, b := range r.batches {
		for _, v := range b {
			if !v.overflow {
				n++
			}
		}
	}
	return n
}
