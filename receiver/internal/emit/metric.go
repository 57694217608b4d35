// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

// overflowAttribute marks the series that holds what exceeded a limit, as the OpenTelemetry SDKs do.
const overflowAttribute = "otel.metric.overflow"

// metric is one enabled metric of a table: how its rows become data points.
type metric struct {
	name string
	spec probe.Metric

	columns   []layout.Column
	container *layout.Column
	// points are the numbers of a row; a histogram has none.
	points []point
	hist   layout.Histogram
	bounds []float64
	// room is the most attributes that a streamed row has had: a column may make two, or none.
	room int
	// unique is true when two rows are never one series, so that they need not be brought together.
	unique bool

	// out is where this tick's data points go, by resource.
	out map[*resource]output
	// last is the output used last: rows of one resource come together.
	last     *resource
	lastSlot output
	scratch  []uint64
}

type point struct {
	number     layout.Number
	attributes [][2]string
}

// output is a metric of this tick's payload; one of the two is set.
type output struct {
	numbers    pmetric.NumberDataPointSlice
	histograms pmetric.HistogramDataPointSlice
}

func newMetric(name string, t *probe.Table, p *probe.Probe, names layout.Names) (*metric, error) {
	m := &metric{name: name, spec: p.Spec.Metrics[name], out: make(map[*resource]output)}
	for _, d := range p.Settings.Metrics[name].Attributes {
		dimension := p.Spec.Dimensions[d]
		f, err := layout.FieldOf(t.Key, dimension.Field)
		if err != nil {
			return nil, fmt.Errorf("metric %s: dimension %s: %w", name, d, err)
		}
		attribute := dimension.Attribute
		if attribute == "" {
			attribute = d
		}
		c, err := layout.NewColumn(attribute, f, layout.Options{As: dimension.As, Values: dimension.Values, Names: names})
		if err != nil {
			return nil, fmt.Errorf("metric %s: dimension %s: %w", name, d, err)
		}
		if end := c.Offset + c.Size; end > t.KeySize {
			return nil, fmt.Errorf("metric %s: dimension %s ends at byte %d of a key of %d", name, d, end, t.KeySize)
		}
		if c.Entity == layout.Container {
			m.container = &c
			continue
		}
		m.columns = append(m.columns, c)
	}
	m.unique = m.distinguishes(t.KeySize)
	return m, m.values(t)
}

// distinguishes tells whether two different keys of size bytes always make different attributes: every byte
// belongs to a column, and no column makes the same of different bytes.
func (m *metric) distinguishes(size int) bool {
	if m.container != nil {
		return false
	}
	covered := make([]bool, size)
	for i := range m.columns {
		c := &m.columns[i]
		if !c.Exact() {
			return false
		}
		for j := range c.Size {
			covered[c.Offset+j] = true
		}
	}
	return !slices.Contains(covered, false)
}

func (m *metric) values(t *probe.Table) error {
	if m.spec.Scale == 0 {
		m.spec.Scale = 1
	}
	if m.spec.Type == probe.Histogram {
		f, err := layout.FieldOf(t.Value, m.spec.Value)
		if err != nil {
			return fmt.Errorf("metric %s: %w", m.name, err)
		}
		if m.hist, err = layout.HistogramOf(f); err != nil {
			return fmt.Errorf("metric %s: %w", m.name, err)
		}
		m.bounds = m.hist.Bounds(m.spec.Scale)
		return nil
	}
	specs := m.spec.Points
	if len(specs) == 0 {
		specs = []probe.Point{{Value: m.spec.Value}}
	}
	for _, s := range specs {
		f, err := layout.FieldOf(t.Value, s.Value)
		if err != nil {
			return fmt.Errorf("metric %s: %w", m.name, err)
		}
		n, err := layout.NumberOf(f)
		if err != nil {
			return fmt.Errorf("metric %s: %w", m.name, err)
		}
		p := point{number: n}
		for _, k := range sortedKeys(s.Attributes) {
			p.attributes = append(p.attributes, [2]string{k, s.Attributes[k]})
		}
		m.points = append(m.points, p)
	}
	return nil
}

// level tells whether the value is one of now, rather than a growth.
func (m *metric) level() bool {
	return m.spec.Type == probe.Gauge || m.spec.Type == probe.UpDownCounter
}

// identity appends what tells the series of a row from the metric's others, but for its resource.
func (m *metric) identity(dst, key []byte) []byte {
	for i := range m.columns {
		dst = m.columns[i].AppendIdentity(dst, key)
	}
	return dst
}

// attributes decodes a row's key. Keys have the table's key size, which newMetric held each column against.
func (m *metric) attributes(sink *attributes, key []byte) {
	for i := range m.columns {
		_ = m.columns[i].Append(sink, key)
	}
}

// begin forgets the last payload.
func (m *metric) begin() {
	clear(m.out)
	m.last = nil
}

// slot is where data points of a resource go; it makes the metric in the payload when it is the first. room is how many
// data points are expected.
func (m *metric) slot(b *batch, r *resource, room int) output {
	if m.last == r && r != nil {
		return m.lastSlot
	}
	o, ok := m.out[r]
	if !ok {
		o = m.open(b.scope(r).Metrics().AppendEmpty(), b.temporality, room)
		m.out[r] = o
	}
	m.last, m.lastSlot = r, o
	return o
}

func (m *metric) open(dst pmetric.Metric, temporality pmetric.AggregationTemporality, room int) (o output) {
	dst.SetName(m.name)
	dst.SetDescription(m.spec.Description)
	dst.SetUnit(m.spec.Unit)
	switch m.spec.Type {
	case probe.Histogram:
		h := dst.SetEmptyHistogram()
		h.SetAggregationTemporality(temporality)
		o.histograms = h.DataPoints()
		o.histograms.EnsureCapacity(room)
		return o
	case probe.Gauge:
		o.numbers = dst.SetEmptyGauge().DataPoints()
	case probe.UpDownCounter:
		s := dst.SetEmptySum()
		// A level has no useful growth: it stays cumulative in the delta preference of the specification too.
		s.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		o.numbers = s.DataPoints()
	default:
		s := dst.SetEmptySum()
		s.SetIsMonotonic(true)
		s.SetAggregationTemporality(temporality)
		o.numbers = s.DataPoints()
	}
	o.numbers.EnsureCapacity(room)
	return o
}

// number writes a data point's value.
func (m *metric) number(dst pmetric.NumberDataPoint, v int64) {
	if m.spec.Scale == 1 {
		dst.SetIntValue(v)
		return
	}
	dst.SetDoubleValue(float64(v) * m.spec.Scale)
}

// distribution writes a histogram's data point.
func (m *metric) distribution(dst pmetric.HistogramDataPoint, counts []uint64, sum uint64) {
	var n uint64
	for _, c := range counts {
		n += c
	}
	dst.SetCount(n)
	dst.SetSum(float64(sum) * m.spec.Scale)
	dst.BucketCounts().FromRaw(counts)
	dst.ExplicitBounds().FromRaw(m.bounds)
}

// distributionOf writes a row's histogram.
func (m *metric) distributionOf(dst pmetric.HistogramDataPoint, value []byte) {
	m.scratch = append(m.scratch[:0], make([]uint64, m.hist.N)...)
	var sum uint64
	m.hist.Add(m.scratch, &sum, value)
	m.distribution(dst, m.scratch, sum)
}

// batch is the payload of one tick.
type batch struct {
	metrics     pmetric.Metrics
	identity    Identity
	temporality pmetric.AggregationTemporality
	tick        uint64
	scopeName   string
	version     string
	// start is the end of the tick before, now the time of this one.
	start, now pcommon.Timestamp
}

func (b *batch) scope(r *resource) pmetric.ScopeMetrics {
	if r.tick == b.tick {
		return r.scope
	}
	rm := b.metrics.ResourceMetrics().AppendEmpty()
	b.identity.Describe(r.Resource, rm.Resource())
	r.scope = rm.ScopeMetrics().AppendEmpty()
	r.scope.Scope().SetName(b.scopeName)
	r.scope.Scope().SetVersion(b.version)
	r.tick = b.tick
	return r.scope
}
