// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// Point is a data point with what it belongs to.
type Point struct {
	Resource   map[string]any
	Attributes map[string]any
	Start, End pcommon.Timestamp
	// Value of a sum or gauge; Count, Sum, Buckets and Bounds of a histogram.
	Value, Sum float64
	Count      uint64
	Buckets    []uint64
	Bounds     []float64
}

// Series are the values of attributes, or of the resource's, in an order, with a blank between; "-" stands for one that is not there.
func (p Point) Series(attributes ...string) string {
	parts := make([]string, len(attributes))
	for i, a := range attributes {
		parts[i] = "-"
		for _, from := range []map[string]any{p.Resource, p.Attributes} {
			if v, ok := from[a]; ok {
				parts[i] = fmt.Sprint(v)
			}
		}
	}
	return strings.Join(parts, " ")
}

// Points are the data points of a metric in one payload.
func Points(md pmetric.Metrics, name string) []Point {
	var points []Point
	for _, rm := range md.ResourceMetrics().All() {
		resource := rm.Resource().Attributes().AsRaw()
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				if m.Name() == name {
					points = append(points, pointsOf(m, resource)...)
				}
			}
		}
	}
	return points
}

func pointsOf(m pmetric.Metric, resource map[string]any) []Point {
	var points []Point
	number := func(p pmetric.NumberDataPoint) {
		v := Point{Resource: resource, Attributes: p.Attributes().AsRaw(), Start: p.StartTimestamp(), End: p.Timestamp(), Value: p.DoubleValue()}
		if p.ValueType() == pmetric.NumberDataPointValueTypeInt {
			v.Value = float64(p.IntValue())
		}
		points = append(points, v)
	}
	switch m.Type() {
	case pmetric.MetricTypeSum:
		for _, p := range m.Sum().DataPoints().All() {
			number(p)
		}
	case pmetric.MetricTypeGauge:
		for _, p := range m.Gauge().DataPoints().All() {
			number(p)
		}
	case pmetric.MetricTypeHistogram:
		for _, p := range m.Histogram().DataPoints().All() {
			points = append(points, Point{
				Resource: resource, Attributes: p.Attributes().AsRaw(), Start: p.StartTimestamp(), End: p.Timestamp(),
				Sum: p.Sum(), Count: p.Count(), Buckets: p.BucketCounts().AsRaw(), Bounds: p.ExplicitBounds().AsRaw(),
			})
		}
	}
	return points
}

// Sum adds up the points' values.
func Sum(points []Point) (sum float64) {
	for _, p := range points {
		sum += p.Value
	}
	return sum
}

// With are the points that have an attribute of a value.
func With(points []Point, key string, value any) []Point {
	var found []Point
	for _, p := range points {
		if p.Attributes[key] == value {
			found = append(found, p)
		}
	}
	return found
}

// Of are the points of a host.
func Of(points []Point, n *Network) []Point {
	return With(points, "ebpf.network.namespace", n.Inode())
}

// Values are the points' values, and of histograms the counts, by their attributes in an order. Those that are 0 are left out.
func Values(points []Point, attributes ...string) map[string]int {
	m := map[string]int{}
	for _, p := range points {
		if n := int(p.Value) + int(p.Count); n != 0 {
			m[p.Series(attributes...)] += n
		}
	}
	return m
}

// Last is the newest payload that has data points of a metric.
func (r *Run) Last(name string) []Point {
	all := r.Metrics.AllMetrics()
	for i := len(all) - 1; i >= 0; i-- {
		if p := Points(all[i], name); len(p) > 0 {
			return p
		}
	}
	return nil
}
