// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
)

var metricTypes = []string{string(Counter), string(Gauge), string(Histogram), string(UpDownCounter)}

var severities = []string{"debug", "error", "fatal", "info", "trace", "warn"}

func (c *checker) dimensions() {
	for _, name := range sortedKeys(c.spec.Dimensions) {
		p, dimension := keyPath("dimensions").key(name), c.spec.Dimensions[name]
		c.optional(p, name, nameExpression)
		c.required(p.key("description"), dimension.Description)
		c.matches(p.key("field"), dimension.Field, fieldExpression)
		c.optional(p.key("attribute"), dimension.Attribute, nameExpression)
		c.optional(p.key("variable"), dimension.Variable, identifierExpression)
		c.decoding(p, dimension.As, dimension.Values)
		c.optional(p.key("kernel"), dimension.Kernel, identifierExpression)
		switch {
		case dimension.Kernel != "" && dimension.As != "enum":
			c.report(p.key("kernel"), "only the decoder enum names numbers by an enum of the kernel's")
		case dimension.Kernel == "" && dimension.Prefix != "":
			c.report(p.key("prefix"), "there is no enum of the kernel's to cut it from")
		}
	}
}

// decoding holds the choice of a decoder to what can be known without the field's type.
func (c *checker) decoding(p keyPath, as string, values map[int64]string) {
	if as != "" && !slices.Contains(layout.Decoders(), as) {
		c.report(p.key("as"), "%v", Unknown("decoder", as, layout.Decoders()))
	}
	if values != nil && as != "" && as != "enum" && as != "flags" {
		c.report(p.key("values"), "the decoder %s takes no values, enum and flags do", as)
	}
	for _, number := range slices.Sorted(maps.Keys(values)) {
		if values[number] == "" {
			c.report(p.key("values"), "%d has no name", number)
		}
	}
}

func (c *checker) metrics() {
	for _, name := range sortedKeys(c.spec.Metrics) {
		p, m := keyPath("metrics").key(name), c.spec.Metrics[name]
		if c.optional(p, name, nameExpression) {
			c.conventional(p, name, m.SemConv)
		}
		c.required(p.key("description"), m.Description)
		c.matches(p.key("map"), m.Map, identifierExpression)
		c.optional(p.key("variable"), m.Variable, identifierExpression)
		c.scale(p, m.Scale)
		if c.required(p.key("type"), string(m.Type)) && !slices.Contains(metricTypes, string(m.Type)) {
			c.report(p.key("type"), "%v", Unknown("metric type", string(m.Type), metricTypes))
		}
		c.unit(p.key("unit"), m)
		c.metricAttributes(p, m)
		c.points(p, m)
	}
}

// conventional refuses a claim that cannot be true: no convention has our prefix.
func (c *checker) conventional(p keyPath, name string, semconv bool) {
	if semconv && strings.HasPrefix(name, "ebpf.") {
		c.report(p.key("semconv"), "names under ebpf. are no semantic conventions")
	}
}

func (c *checker) scale(p keyPath, scale float64) {
	if scale < 0 || math.IsInf(scale, 0) || math.IsNaN(scale) || scale == 0 && c.has(p.key("scale")) {
		c.report(p.key("scale"), "want a positive number")
	}
}

func (c *checker) unit(p keyPath, m Metric) {
	if m.Unit == "" && !c.has(p) {
		c.report(p, "missing")
		return
	}
	if err := checkUnit(m.Unit); err != nil {
		c.report(p, "%v", err)
	} else if m.Type == Histogram && m.Unit == "1" {
		c.report(p, `a histogram's unit is "s", "By" or what is measured, such as "{packet}"`)
	}
}

func (c *checker) metricAttributes(p keyPath, m Metric) {
	if c.hasFailed("dimensions") {
		return
	}
	owners, resource := make(map[string]string), ""
	for _, name := range sortedKeys(m.Attributes) {
		at := p.key("attributes").key(name)
		dimension, ok := c.spec.Dimensions[name]
		if !ok {
			c.report(at, "%v", Unknown("dimension", name, sortedKeys(c.spec.Dimensions)))
			continue
		}
		if dimension.isResource() {
			if resource != "" {
				c.report(at, "dimension %s becomes the resource too", resource)
			}
			resource = name
		}
		for _, attribute := range dimension.AttributeNames(name) {
			if owner, taken := owners[attribute]; taken {
				c.report(at, "dimension %s becomes attribute %s too", owner, attribute)
			}
			owners[attribute] = name
		}
	}
	for i, point := range m.Points {
		for _, attribute := range sortedKeys(point.Attributes) {
			if owner, taken := owners[attribute]; taken {
				c.report(p.key("points").index(i).key("attributes").key(attribute), "dimension %s becomes it too", owner)
			}
		}
	}
}

// AttributeNames are the attributes that the dimension of this name becomes. A container becomes none: it is
// the resource that the values belong to.
func (d Dimension) AttributeNames(name string) []string {
	switch {
	case d.isResource():
		return nil
	case d.As == "process":
		return []string{"process.executable.name", "process.pid"}
	}
	return []string{cmp.Or(d.Attribute, name)}
}

// isResource tells whether the dimension is whose the values are, of which a series has one.
func (d Dimension) isResource() bool { return d.As == "container" || d.As == layout.ContainerAddress }

// points checks where a metric's values come from. The points of a row must be different series of one metric: all
// have the same attributes, no two the same values.
func (c *checker) points(p keyPath, m Metric) {
	switch {
	case m.Value == "" && !c.has(p.key("value")) && !c.has(p.key("points")):
		c.report(p.key("value"), "missing: want value or points")
		return
	case m.Value != "" && m.Points != nil:
		c.report(p.key("points"), "want either value or points, not both")
		return
	case m.Points == nil:
		c.matches(p.key("value"), m.Value, fieldExpression)
		return
	case len(m.Points) == 0:
		c.report(p.key("points"), "want at least one point")
		return
	}
	first := sortedKeys(m.Points[0].Attributes)
	seen := make(map[string]int)
	for i, point := range m.Points {
		at := p.key("points").index(i)
		c.matches(at.key("value"), point.Value, fieldExpression)
		names := sortedKeys(point.Attributes)
		switch {
		case len(names) == 0:
			c.report(at.key("attributes"), "missing")
			continue
		case !slices.Equal(names, first) && len(first) > 0:
			c.report(at.key("attributes"), "want the attributes of the first point: %s", strings.Join(first, ", "))
			continue
		}
		var series strings.Builder
		for _, name := range names {
			c.optional(at.key("attributes").key(name), name, nameExpression)
			c.required(at.key("attributes").key(name), point.Attributes[name])
			fmt.Fprintf(&series, "%q=%q ", name, point.Attributes[name])
		}
		if other, taken := seen[series.String()]; taken {
			c.report(at.key("attributes"), "the same as those of point %d", other)
			continue
		}
		seen[series.String()] = i
	}
}

func (c *checker) events() {
	ids := make(map[[2]string]string)
	for _, name := range sortedKeys(c.spec.Events) {
		p, e := keyPath("events").key(name), c.spec.Events[name]
		c.optional(p, name, nameExpression)
		c.required(p.key("description"), e.Description)
		c.matches(p.key("ring"), e.Ring, identifierExpression)
		c.matches(p.key("type"), e.Type, identifierExpression)
		if c.matches(p.key("id"), e.ID, identifierExpression) {
			key := [2]string{e.Ring, e.ID}
			if other, taken := ids[key]; taken {
				c.report(p.key("id"), "event %s has it too", other)
			}
			ids[key] = name
		}
		if c.required(p.key("severity"), e.Severity) && !slices.Contains(severities, e.Severity) {
			c.report(p.key("severity"), "%v", Unknown("severity", e.Severity, severities))
		}
		c.eventAttributes(p, e)
		c.body(p.key("body"), e)
	}
}

func (c *checker) eventAttributes(p keyPath, e Event) {
	if len(e.Attributes) == 0 {
		c.report(p.key("attributes"), "want at least one attribute")
	}
	for _, name := range sortedKeys(e.Attributes) {
		at, attribute := p.key("attributes").key(name), e.Attributes[name]
		if c.optional(at, name, nameExpression) {
			c.conventional(at, name, attribute.SemConv)
		}
		c.matches(at.key("field"), attribute.Field, fieldExpression)
		c.decoding(at, attribute.As, attribute.Values)
		c.scale(at, attribute.Scale)
	}
}

// body checks that the placeholders name attributes of the event.
func (c *checker) body(p keyPath, e Event) {
	if strings.Contains(e.Body, "\n") {
		c.report(p, "want one line")
		return
	}
	valid := sortedKeys(e.Attributes)
	rest := e.Body
	for {
		open := strings.IndexAny(rest, "{}")
		if open < 0 {
			return
		}
		length := strings.IndexAny(rest[open+1:], "{}")
		if rest[open] == '}' || length < 0 || rest[open+1+length] == '{' {
			c.report(p, "a brace without its partner")
			return
		}
		name := rest[open+1 : open+1+length]
		if _, ok := e.Attributes[name]; !ok {
			c.report(p, "%v", Unknown("attribute", name, valid))
		}
		rest = rest[open+1+length+1:]
	}
}
