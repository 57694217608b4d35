// SPDX-License-Identifier: Apache-2.0

package emit_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/internal/snapshot"
	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/emit"
)

// collect reads once for each tick, errors of the source aside.
func collect(t *testing.T, s setup, reads ...read) []pmetric.Metrics {
	t.Helper()
	m, table, from := s.build(t)
	return collectOf(t, m, table, from, reads)
}

func collectOf(t *testing.T, m *emit.Metrics, table *emit.Table, from *source, reads []read) []pmetric.Metrics {
	t.Helper()
	from.reads = reads
	var list []pmetric.Metrics
	for i, r := range reads {
		m.Begin(at(i + 1))
		_, err := table.Read(t.Context())
		require.ErrorIs(t, err, r.err)
		list = append(list, m.End())
	}
	return list
}

func points(m pmetric.Metrics) []pmetric.NumberDataPoint {
	var list []pmetric.NumberDataPoint
	for _, rm := range m.ResourceMetrics().All() {
		for _, metric := range rm.ScopeMetrics().At(0).Metrics().All() {
			var numbers pmetric.NumberDataPointSlice
			if metric.Type() == pmetric.MetricTypeGauge {
				numbers = metric.Gauge().DataPoints()
			} else {
				numbers = metric.Sum().DataPoints()
			}
			for _, p := range numbers.All() {
				list = append(list, p)
			}
		}
	}
	return list
}

// A plain map whose reads fail for longer than the TTL is not told again, whole.
func TestSpecPlainReadsFailForLong(t *testing.T) {
	for name, delta := range map[string]bool{"cumulative": false, "delta": true} {
		t.Run(name, func(t *testing.T) {
			s := setup{
				delta: delta, kind: snapshot.Plain, ttl: tick / 2, key: u64s("pair", "a", "b"), value: u64s("counted", "n"),
				dimensions: dims("a"), metric: probe.Metric{Type: probe.Counter, Value: "n"},
			}
			r := one(keyed(pair{1, 1}, 5))
			sum := make(map[pcommon.Timestamp]int64) // growths, or the last of each life of the series
			for i, payload := range collect(t, s, r, in().fails(), r, in().fails(), one(keyed(pair{1, 1}, 6))) {
				require.LessOrEqual(t, payload.DataPointCount(), 1, "there is one series")
				for _, p := range points(payload) {
					if delta {
						assert.Positive(t, p.IntValue(), "read %d", i)
						sum[0] += p.IntValue()
						continue
					}
					assert.GreaterOrEqual(t, p.IntValue(), sum[p.StartTimestamp()], "read %d", i)
					sum[p.StartTimestamp()] = p.IntValue()
				}
			}
			total := int64(0)
			for _, v := range sum {
				total += v
			}
			assert.EqualValues(t, 6, total)
		})
	}
}

// A level of zero is a level that a row told of.
func TestSpecLevelOfZero(t *testing.T) {
	for _, kind := range []probe.MetricType{probe.Gauge, probe.UpDownCounter} {
		t.Run(string(kind), func(t *testing.T) {
			s := setup{
				kind: snapshot.Plain, key: u64s("pair", "a", "b"), value: u64s("counted", "n"), dimensions: dims("a"),
				metric: probe.Metric{Type: kind, Value: "n"},
			}
			got := collect(t, s, one(keyed(pair{1, 1}, 5)), one(keyed(pair{1, 1}, 0)))
			require.Len(t, points(got[1]), 1)
			assert.EqualValues(t, 0, points(got[1])[0].IntValue())
		})
	}
}

// What has been added since a read that failed is told as the growth since the read before it.
func TestSpecDeltaAfterAFailedRead(t *testing.T) {
	s := setup{
		delta: true, kind: snapshot.Plain, key: u64s("pair", "a", "b"), value: u64s("counted", "n"), dimensions: dims("a"),
		metric: probe.Metric{Type: probe.Counter, Value: "n"},
	}
	got := collect(t, s, one(keyed(pair{1, 1}, 5)), in().fails(), one(keyed(pair{1, 1}, 6)))
	require.Len(t, points(got[2]), 1)
	assert.Equal(t, pcommon.NewTimestampFromTime(at(1)), points(got[2])[0].StartTimestamp())
}

// After a failed read a key may come twice: of the retired map, and of the one that is swapped then. Streamed, it is one data point.
func TestSpecOneKeyTwice(t *testing.T) {
	s := setup{
		delta: true, kind: snapshot.Swapped, key: u64s("pair", "a", "b"), value: u64s("counted", "n"), dimensions: dims("a", "b"),
		metric: probe.Metric{Type: probe.Counter, Value: "n"},
	}
	got := collect(t, s, in().fails(), in([]row{keyed(pair{1, 1}, 5)}, []row{keyed(pair{1, 1}, 6)}))
	require.Len(t, points(got[1]), 1)
	assert.EqualValues(t, 11, points(got[1])[0].IntValue())
}
