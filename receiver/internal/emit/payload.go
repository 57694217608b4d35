// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// payload is that of one tick.
type payload struct {
	metrics     pmetric.Metrics
	identity    Identity
	temporality pmetric.AggregationTemporality
	scopeName   string
	version     string
	tick        uint64
	now         pcommon.Timestamp
	// age is that of the builder, by the monotonic clock.
	age time.Duration
}

// scope is where the metrics of a resource go.
func (p *payload) scope(r *resource) pmetric.ScopeMetrics {
	r.used = p.age
	if r.tick == p.tick {
		return r.scope
	}
	rm := p.metrics.ResourceMetrics().AppendEmpty()
	p.identity.Describe(r.Resource, rm.Resource())
	r.scope = rm.ScopeMetrics().AppendEmpty()
	r.scope.Scope().SetName(p.scopeName)
	r.scope.Scope().SetVersion(p.version)
	r.tick = p.tick
	return r.scope
}

// output is where the data points of one metric and resource go; one of the two is set.
type output struct {
	numbers    pmetric.NumberDataPointSlice
	histograms pmetric.HistogramDataPointSlice
}

// expect makes room for n series.
func (o output) expect(m *metric, n int) {
	if m.bounds != nil {
		o.histograms.EnsureCapacity(n)
		return
	}
	o.numbers.EnsureCapacity(n * len(m.points))
}

// outputs are a metric's in the payload of one tick.
type outputs struct {
	byResource map[*resource]output
	// last is the resource that was asked for last: rows of one resource come together.
	last       *resource
	lastOutput output
}

// of is where data points of a resource go. When they are the first, it makes the metric in the payload, with room for some
// series.
func (o *outputs) of(r *resource, p *payload, m *metric, room int) output {
	if r == o.last {
		return o.lastOutput
	}
	out, ok := o.byResource[r]
	if !ok {
		out = m.open(p.scope(r).Metrics().AppendEmpty(), p.temporality)
		out.expect(m, room)
		o.byResource[r] = out
	}
	o.last, o.lastOutput = r, out
	return out
}

func (o *outputs) clear() {
	clear(o.byResource)
	o.last, o.lastOutput = nil, output{}
}
