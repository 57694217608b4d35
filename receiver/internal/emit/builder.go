// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
)

// Options are what all tables of a receiver share.
type Options struct {
	Identity Identity
	Names    layout.Names
	// Delta sends growths instead of totals since each series' start.
	Delta bool
	// TTL is how long a resource is kept after it was last in a payload: at least as long as any series.
	TTL time.Duration
	// ScopeName and Version are the instrumentation scope.
	ScopeName, Version string
}

// Metrics builds the payloads of one receiver: call Begin, then Read of each table, then End. It is for one goroutine.
type Metrics struct {
	options   Options
	resources *resources
	tables    []*Table // that were read
	payload   payload
	// start is when it was made, and last when the last payload was begun, with the monotonic clock's readings.
	start, last time.Time
}

// NewMetrics returns a builder for the tables that began to count at start or later.
func NewMetrics(o Options, start time.Time) *Metrics {
	m := &Metrics{options: o, resources: newResources(o.Identity, o.TTL), start: start, last: start}
	m.payload = payload{
		identity:    o.Identity,
		temporality: pmetric.AggregationTemporalityCumulative,
		scopeName:   o.ScopeName,
		version:     o.Version,
		now:         pcommon.NewTimestampFromTime(start),
	}
	if o.Delta {
		m.payload.temporality = pmetric.AggregationTemporalityDelta
	}
	return m
}

// Begin starts the payload of a tick at now, which has a monotonic reading.
func (m *Metrics) Begin(now time.Time) {
	m.begin(now.Round(0), now.Sub(m.last))
	m.last = now
}

// begin starts the payload of a tick that is passed after the one before, whatever the wall clock shows.
func (m *Metrics) begin(now time.Time, passed time.Duration) {
	p := &m.payload
	if back := p.now.AsTime().Sub(now); back > 0 {
		// The wall clock was set back. Times from before are on the old clock: they move along, since nothing may start after it ends.
		for _, t := range m.tables {
			t.shift(-back - passed)
		}
	}
	p.metrics = pmetric.NewMetrics()
	p.tick++
	p.age += passed
	p.now = pcommon.NewTimestampFromTime(now)
}

// since is a past time, with a monotonic reading, as the wall clock has it that is set now.
func (m *Metrics) since(past time.Time) pcommon.Timestamp {
	ago := m.start.Add(m.payload.age).Sub(past)
	return pcommon.NewTimestampFromTime(m.payload.now.AsTime().Add(-ago))
}

// End returns the payload, which is the caller's: nothing of it is kept.
func (m *Metrics) End() pmetric.Metrics {
	m.resources.next(m.payload.age)
	metrics := m.payload.metrics
	m.payload.metrics = pmetric.Metrics{}
	return metrics
}
