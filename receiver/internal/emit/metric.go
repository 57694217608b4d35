// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"cmp"
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
	// exact are the bytes of a key that tell series apart as they are, inexact the columns that have to be asked.
	exact   []span
	inexact []*layout.Column
	// points are the numbers of a row; a histogram has none.
	points []point
	hist   layout.Histogram
	bounds []float64
	// row has the numbers of the row at hand: the points, or a histogram's slots and its sum.
	row []uint64
	// marks are what all data points have.
	marks []mark
	// room is how many attributes the columns were seen to make.
	room int
	sink attributes
}

// mark is an attribute that tells of an option by which the values are not what they would be without it.
type mark struct {
	name  string
	value int64
}

// marks are those of the options that are not at their defaults.
func marks(p *probe.Probe) []mark {
	var list []mark
	for _, name := range sortedKeys(p.Spec.Options) {
		option := p.Spec.Options[name]
		if value, ok := p.Settings.Options[name].(int64); ok && option.Attribute != "" && fmt.Sprint(value) != fmt.Sprint(option.Default) {
			list = append(list, mark{option.Attribute, value})
		}
	}
	return list
}

type point struct {
	number     layout.Number
	attributes [][2]string
}

func newMetric(name string, t *probe.Table, p *probe.Probe, names layout.Names) (*metric, error) {
	m := &metric{name: name, spec: p.Spec.Metrics[name]}
	if m.spec.Scale == 0 {
		m.spec.Scale = 1
	}
	m.marks = marks(p)
	if err := m.setColumns(t, p, layout.Options{Names: names, Addresses: p.AddressNames}); err != nil {
		return nil, fmt.Errorf("metric %s: %w", name, err)
	}
	if err := m.setValues(t.Value); err != nil {
		return nil, fmt.Errorf("metric %s: %w", name, err)
	}
	return m, nil
}

func (m *metric) setColumns(t *probe.Table, p *probe.Probe, o layout.Options) error {
	for _, name := range p.Settings.Metrics[m.name].Attributes {
		dimension := p.Spec.Dimensions[name]
		f, err := layout.FieldOf(t.Key, dimension.Field)
		if err != nil {
			return fmt.Errorf("dimension %s: %w", name, err)
		}
		attribute := dimension.Attribute
		if attribute == "" {
			attribute = name
		}
		o.As, o.Values, o.OmitZero = dimension.As, dimension.Values, dimension.OmitZero
		c, err := layout.NewColumn(attribute, f, o)
		if err != nil {
			return fmt.Errorf("dimension %s: %w", name, err)
		}
		if end := c.Offset + c.Size; end > t.KeySize {
			return fmt.Errorf("dimension %s ends at byte %d of a key of %d", name, end, t.KeySize)
		}
		if c.Entity == layout.Container {
			m.container = &c
			continue
		}
		m.columns = append(m.columns, c)
	}
	m.room = len(m.columns) + len(m.marks)
	m.setIdentity()
	return nil
}

func (m *metric) setIdentity() {
	for i := range m.columns {
		c := &m.columns[i]
		if !c.Exact() {
			m.inexact = append(m.inexact, c)
			continue
		}
		m.exact = append(m.exact, span{uint32(c.Offset), uint32(c.Offset + c.Size)})
	}
	// Neighbours are copied as one.
	slices.SortFunc(m.exact, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	merged := m.exact[:0]
	for _, next := range m.exact {
		if last := len(merged) - 1; last >= 0 && next.start <= merged[last].end {
			merged[last].end = max(merged[last].end, next.end)
			continue
		}
		merged = append(merged, next)
	}
	m.exact = merged
}

func (m *metric) setValues(value layout.Type) error {
	if m.spec.Type == probe.Histogram {
		f, err := layout.FieldOf(value, m.spec.Value)
		if err != nil {
			return err
		}
		if m.hist, err = layout.HistogramOf(f); err != nil {
			return err
		}
		m.bounds = m.hist.Bounds(m.spec.Scale)
		m.row = make([]uint64, m.hist.N+1)
		return nil
	}
	specs := m.spec.Points
	if len(specs) == 0 {
		specs = []probe.Point{{Value: m.spec.Value}}
	}
	for _, s := range specs {
		f, err := layout.FieldOf(value, s.Value)
		if err != nil {
			return err
		}
		n, err := layout.NumberOf(f)
		if err != nil {
			return err
		}
		p := point{number: n}
		for _, k := range sortedKeys(s.Attributes) {
			p.attributes = append(p.attributes, [2]string{k, s.Attributes[k]})
		}
		m.points = append(m.points, p)
	}
	m.row = make([]uint64, len(m.points))
	return nil
}

// level tells whether the value is one of now, rather than a growth. Of a swapped map, the rows of a tick are then all there is:
// an iterator counts them anew each time.
func (m *metric) level() bool {
	return m.spec.Type == probe.Gauge || m.spec.Type == probe.UpDownCounter
}

// read takes the numbers out of a row.
func (m *metric) read(value []byte) {
	if m.bounds != nil {
		m.hist.Read(m.row, value)
		return
	}
	for i := range m.points {
		m.row[i] = m.points[i].number.Read(value)
	}
}

// identity appends what tells the series of a row from the metric's others, but for its resource.
func (m *metric) identity(dst, key []byte) []byte {
	for _, r := range m.exact {
		dst = append(dst, key[r.start:r.end]...)
	}
	for _, c := range m.inexact {
		dst = c.AppendIdentity(dst, key)
	}
	return dst
}

// decode puts the attributes of a row's key. Without a key they are the overflow's.
func (m *metric) decode(dst layout.Sink, key []byte) {
	for _, mark := range m.marks {
		dst.PutInt(mark.name, mark.value)
	}
	if len(key) == 0 {
		dst.PutBool(overflowAttribute, true)
		return
	}
	for i := range m.columns {
		_ = m.columns[i].Append(dst, key) // a column ends within the key
	}
}

// describe writes the attributes of a row's key, with room for some more.
func (m *metric) describe(dst pcommon.Map, key []byte, more int) {
	dst.EnsureCapacity(m.room + more)
	m.sink.m = dst
	m.decode(&m.sink, key)
	m.room = max(m.room, dst.Len())
}

// open makes the metric in a payload.
func (m *metric) open(dst pmetric.Metric, temporality pmetric.AggregationTemporality) (o output) {
	dst.SetName(m.name)
	dst.SetDescription(m.spec.Description)
	dst.SetUnit(m.spec.Unit)
	switch m.spec.Type {
	case probe.Histogram:
		h := dst.SetEmptyHistogram()
		h.SetAggregationTemporality(temporality)
		o.histograms = h.DataPoints()
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
	return o
}

// write appends a series' data points. describe writes its attributes and leaves room for some more.
func (m *metric) write(o output, values []uint64, start, now pcommon.Timestamp, describe func(dst pcommon.Map, more int)) {
	if m.bounds != nil {
		p := o.histograms.AppendEmpty()
		describe(p.Attributes(), 0)
		p.SetStartTimestamp(start)
		p.SetTimestamp(now)
		m.setDistribution(p, values)
		return
	}
	for i := range m.points {
		p := o.numbers.AppendEmpty()
		more := m.points[i].attributes
		describe(p.Attributes(), len(more))
		for _, a := range more {
			p.Attributes().PutStr(a[0], a[1])
		}
		if m.spec.Type != probe.Gauge {
			p.SetStartTimestamp(start)
		}
		p.SetTimestamp(now)
		m.setNumber(p, i, values[i])
	}
}

func (m *metric) setNumber(dst pmetric.NumberDataPoint, i int, v uint64) {
	switch {
	case m.spec.Scale == 1:
		dst.SetIntValue(int64(v))
	case m.points[i].number.Signed:
		dst.SetDoubleValue(float64(int64(v)) * m.spec.Scale)
	default:
		dst.SetDoubleValue(float64(v) * m.spec.Scale)
	}
}

func (m *metric) setDistribution(dst pmetric.HistogramDataPoint, values []uint64) {
	counts, sum := values[:m.hist.N], values[m.hist.N]
	var n uint64
	for _, c := range counts {
		n += c
	}
	dst.SetCount(n)
	dst.SetSum(float64(sum) * m.spec.Scale)
	dst.BucketCounts().FromRaw(counts)
	dst.ExplicitBounds().FromRaw(m.bounds)
}
