// SPDX-License-Identifier: Apache-2.0

//go:build linux

package emit

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/internal/snapshot"
	"github.com/ebpfreceiver/ebpfreceiver/test/btftypes"
)

// began is when the probes of these tests were attached, and interval what passes from tick to tick.
var began = time.Unix(1_700_000_000, 0)

const interval = 10 * time.Second

// flowKey is told by five attributes: 40 bytes.
var flowKey = btftypes.NewStruct(
	"flow_key",
	btftypes.Field{Name: "source", Type: btftypes.Array(btftypes.U8, 16)},
	btftypes.Field{Name: "destination", Type: btftypes.Array(btftypes.U8, 16)},
	btftypes.Field{Name: "source_port", Type: btftypes.U16},
	btftypes.Field{Name: "destination_port", Type: btftypes.U16},
	btftypes.Field{Name: "transport", Type: btftypes.U8},
	btftypes.Field{Name: "unused", Type: btftypes.Array(btftypes.U8, 3)},
)

var flowAttributes = []string{"destination.address", "destination.port", "network.transport", "source.address", "source.port"}

func flowProbe(rows int) (*probe.Probe, *probe.Table) {
	selected := map[string]bool{}
	for _, name := range flowAttributes {
		selected[name] = true
	}
	p := &probe.Probe{
		Spec: &probe.Spec{
			Dimensions: map[string]probe.Dimension{
				"source.address":      {Field: "source", As: "ip"},
				"source.port":         {Field: "source_port", As: "port"},
				"destination.address": {Field: "destination", As: "ip"},
				"destination.port":    {Field: "destination_port", As: "port"},
				"network.transport":   {Field: "transport", As: "enum", Values: map[int64]string{6: "tcp", 17: "udp"}},
			},
			Metrics: map[string]probe.Metric{"ebpf.flow.io": {
				Description: "Bytes", Unit: "By", Type: probe.Counter, Map: "flows", Value: "bytes", Attributes: selected,
			}},
		},
		Settings: probe.Settings{
			MaxSeries: rows,
			Metrics:   map[string]probe.MetricSettings{"ebpf.flow.io": {Attributes: flowAttributes}},
		},
		Started: began,
	}
	return p, &probe.Table{
		Map: "flows", Key: flowKey, Value: btftypes.NewStruct("flow", btftypes.Field{Name: "bytes", Type: btftypes.U64}),
		KeySize: 40, Metrics: []string{"ebpf.flow.io"},
	}
}

// flows is a swapped table that has the same rows at each Read, in memory.
type flows struct {
	snapshot.Table
	keys, values []byte
	n            int
}

func (f *flows) Read(_ context.Context, fn func(snapshot.Rows) error) error {
	const batch = 10_000
	for at := 0; at < f.n; at += batch {
		n := min(batch, f.n-at)
		err := fn(snapshot.Rows{Keys: f.keys[at*40 : (at+n)*40], Values: f.values[at*8 : (at+n)*8], KeySize: 40, ValueSize: 8, N: n})
		if err != nil {
			return err
		}
	}
	return nil
}

func (*flows) Kind() snapshot.Kind { return snapshot.Swapped }
func (f *flows) Len() int          { return f.n }
func (f *flows) Capacity() int     { return f.n }

// newFlows makes rows of addresses that are distinct, or those of a service with clients: some come often.
func newFlows(n int, distinct bool) *flows {
	random := rand.New(rand.NewPCG(1, 2))
	f := &flows{n: n}
	for i := range n {
		source := netip.AddrFrom4([4]byte{10, 1, 2, byte(random.Uint32N(8))}).As16()
		destination := [4]byte{192, 168}
		binary.BigEndian.PutUint16(destination[2:], uint16(random.ExpFloat64()*1000))
		target := netip.AddrFrom4(destination).As16()
		if distinct {
			binary.BigEndian.PutUint64(source[8:], random.Uint64())
			binary.BigEndian.PutUint64(target[8:], random.Uint64())
			source[0], target[0] = 0x20, 0x20
		}
		f.keys = append(append(f.keys, source[:]...), target[:]...)
		f.keys = binary.BigEndian.AppendUint16(f.keys, uint16(i))
		f.keys = binary.BigEndian.AppendUint16(f.keys, uint16(i>>16)+443)
		f.keys = append(f.keys, 6, 0, 0, 0)
		f.values = binary.NativeEndian.AppendUint64(f.values, uint64(i)+1)
	}
	return f
}

// BenchmarkRows makes payloads of rows that are in memory, each beside one of constants.
func BenchmarkRows(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		for _, mode := range []string{"delta_stream", "delta_merged", "cumulative"} {
			for _, addresses := range []string{"some_addresses", "distinct_addresses"} {
				b.Run(fmt.Sprintf("%d/%s/%s", n, mode, addresses), func(b *testing.B) {
					p, t := flowProbe(n)
					t.Table = newFlows(n, addresses == "distinct_addresses")
					m := NewMetrics(Options{Identity: hostOnly{}, Delta: mode != "cumulative", TTL: time.Hour}, began)
					table, err := NewTable(m, t, p, time.Hour)
					require.NoError(b, err)
					require.Equal(b, mode != "cumulative", table.views[0].unique)
					table.views[0].unique = mode == "delta_stream"
					now := began
					tick := func() pmetric.Metrics {
						now = now.Add(interval)
						m.Begin(now)
						_, err := table.Read(b.Context())
						require.NoError(b, err)
						return m.End()
					}
					require.Equal(b, n, tick().DataPointCount())
					beside(b, n, func() { tick() }, func() { floorMetrics(n) })
				})
			}
		}
	}
}

// BenchmarkFloorPmetric is a payload of constants.
func BenchmarkFloorPmetric(b *testing.B) {
	beside(b, 100_000, func() { floorMetrics(100_000) }, func() { floorMetrics(100_000) })
}

func floorMetrics(n int) pmetric.Metrics {
	md := pmetric.NewMetrics()
	sm := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	sm.Scope().SetName("scope")
	m := sm.Metrics().AppendEmpty()
	m.SetName("ebpf.flow.io")
	m.SetDescription("Bytes")
	m.SetUnit("By")
	s := m.SetEmptySum()
	s.SetIsMonotonic(true)
	s.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
	points := s.DataPoints()
	points.EnsureCapacity(n)
	for range n {
		p := points.AppendEmpty()
		attrs := p.Attributes()
		attrs.EnsureCapacity(5)
		attrs.PutStr("destination.address", "192.168.1.2")
		attrs.PutInt("destination.port", 443)
		attrs.PutStr("network.transport", "tcp")
		attrs.PutStr("source.address", "10.1.2.3")
		attrs.PutInt("source.port", 32768)
		p.SetStartTimestamp(1)
		p.SetTimestamp(2)
		p.SetIntValue(3)
	}
	return md
}
