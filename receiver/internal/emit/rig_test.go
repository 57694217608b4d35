// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/internal/snapshot"
	"github.com/ebpfreceiver/ebpfreceiver/test/btftypes"
)

// changingHost is one whose names change while a table is read.
type changingHost struct {
	layout.Names
	containers map[uint64]string
	interfaces map[uint32]string
}

func (h *changingHost) Resource(cgroup uint64) Resource {
	return Resource{ContainerID: h.containers[cgroup]}
}
func (h *changingHost) Interface(_, index uint32) string { return h.interfaces[index] }
func (*changingHost) Describe(r Resource, d pcommon.Resource) {
	if r.ContainerID != "" {
		d.Attributes().PutStr("container.id", r.ContainerID)
	}
}

// rig is a table of one number, by key: a cgroup or an interface.
type rig struct {
	*fakeMap
	t       *testing.T
	host    *changingHost
	builder *Metrics
	table   *Table
	now     time.Time
}

type rigOptions struct {
	kind       snapshot.Kind
	metric     probe.MetricType
	dimension  string // container, interface or id
	delta      bool
	limit      int
	ttl        time.Duration
	mayOverrun bool
}

func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	r := &rig{
		fakeMap: newFakeMap(o.kind), t: t, now: began,
		host: &changingHost{containers: map[uint64]string{}, interfaces: map[uint32]string{}},
	}
	if o.ttl == 0 {
		o.ttl = time.Hour
	}
	p := &probe.Probe{Started: began, Spec: &probe.Spec{
		Dimensions: map[string]probe.Dimension{
			"container": {Field: "id", As: "container"},
			"interface": {Field: "id", As: "ifindex"},
			"id":        {Field: "id"},
		},
		Metrics: map[string]probe.Metric{"m": {Type: o.metric, Map: "map", Value: "n"}},
	}}
	p.Settings.Metrics = map[string]probe.MetricSettings{"m": {Attributes: []string{o.dimension}, MaxSeries: o.limit}}
	if o.limit > 0 && !o.mayOverrun {
		r.capacity = o.limit
	}
	r.builder = NewMetrics(Options{Identity: r.host, Names: r.host, Delta: o.delta, TTL: o.ttl}, began)
	var err error
	r.table, err = NewTable(r.builder, &probe.Table{
		Map: "map", Table: r.fakeMap, KeySize: 8, Metrics: []string{"m"},
		Key:   btftypes.NewStruct("key", btftypes.Field{Name: "id", Type: btftypes.U64}),
		Value: btftypes.NewStruct("value", btftypes.Field{Name: "n", Type: btftypes.U64}),
	}, p, o.ttl)
	require.NoError(t, err)
	return r
}

func key(id uint64) []byte { return words([]uint64{id}) }

// tick reads and returns the data points, sorted, as "resource/attribute=value start..time" in seconds since the beginning.
func (r *rig) tick() []string {
	r.t.Helper()
	r.now = r.now.Add(interval)
	r.builder.Begin(r.now)
	_, err := r.table.Read(r.t.Context())
	if r.failAfter >= 0 {
		require.ErrorIs(r.t, err, errRead)
	} else {
		require.NoError(r.t, err)
	}
	return r.points(r.builder.End())
}

func (r *rig) points(payload pmetric.Metrics) []string {
	r.t.Helper()
	list := []string{}
	seen := make(map[string]bool)
	for _, rm := range payload.ResourceMetrics().All() {
		resource := values(rm.Resource().Attributes())
		require.False(r.t, seen[resource], "resource %q is there twice", resource)
		seen[resource] = true
		require.Equal(r.t, 1, rm.ScopeMetrics().At(0).Metrics().Len())
		m := rm.ScopeMetrics().At(0).Metrics().At(0)
		var points pmetric.NumberDataPointSlice
		if m.Type() == pmetric.MetricTypeGauge {
			points = m.Gauge().DataPoints()
		} else {
			points = m.Sum().DataPoints()
		}
		for _, p := range points.All() {
			at := func(v pcommon.Timestamp) string {
				if v == 0 {
					return "-"
				}
				return fmt.Sprint(v.AsTime().Sub(began.UTC()).Seconds())
			}
			list = append(list, fmt.Sprintf("%s/%s=%d %s..%s", resource, values(p.Attributes()), p.IntValue(), at(p.StartTimestamp()), at(p.Timestamp())))
		}
	}
	slices.Sort(list)
	return list
}

func values(m pcommon.Map) string {
	var list []string
	for k, v := range m.All() {
		if k == overflowAttribute {
			list = append(list, "overflow")
			continue
		}
		list = append(list, v.AsString())
	}
	return strings.Join(list, ",")
}
