// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"io/fs"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
)

// conventions are what testdata/semconv.txt lists.
type conventions struct {
	metrics    map[string]Metric // type and unit
	attributes map[string]bool
}

func readConventions(t *testing.T) conventions {
	t.Helper()
	text, err := os.ReadFile("testdata/semconv.txt")
	require.NoError(t, err)
	c := conventions{metrics: make(map[string]Metric), attributes: make(map[string]bool)}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#":
		case words[0] == "metric" && len(words) == 4:
			require.NotContains(t, c.metrics, words[1])
			c.metrics[words[1]] = Metric{Type: MetricType(words[2]), Unit: words[3]}
		case words[0] == "attribute" && len(words) == 2:
			require.NotContains(t, c.attributes, words[1])
			c.attributes[words[1]] = true
		default:
			t.Fatalf("testdata/semconv.txt: %q", line)
		}
	}
	require.NotEmpty(t, c.metrics)
	require.NotEmpty(t, c.attributes)
	return c
}

// Each folder with a C source is a probe, and is built in.
func TestBuiltinProbesAreAllThere(t *testing.T) {
	sources, err := fs.Glob(os.DirFS("../../bpf"), "*/*.bpf.c")
	require.NoError(t, err)
	require.NotEmpty(t, sources)
	want := make(map[string]bool)
	for _, source := range sources {
		folder, _, _ := strings.Cut(source, "/")
		want[folder] = true
	}
	specs, err := Builtin(bpf.Probes)
	require.NoError(t, err)
	assert.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(specs)))
}

// The probes of this project keep to the project's rules, which are stricter than those for a user's own.
func TestBuiltinProbes(t *testing.T) {
	specs, err := Builtin(bpf.Probes)
	require.NoError(t, err)
	for name, spec := range specs {
		t.Run(name, func(t *testing.T) {
			r := rules{t: t, spec: spec, conventions: readConventions(t)}
			r.documented(name+" summary", spec.Summary+".")
			r.documented(name, spec.Description)
			assert.Equal(t, name+".bpf.o", spec.Object)
			_, err := fs.Stat(spec.FS, spec.Object)
			require.NoError(t, err)
			_, err = spec.Resolve(Config{})
			require.NoError(t, err, "the defaults")
			for option, o := range spec.Options {
				r.documented(option, o.Description)
			}
			r.dimensions()
			r.metrics()
			r.events()
		})
	}
}

type rules struct {
	t    *testing.T
	spec *Spec
	conventions
}

var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX|TBD)\b`)

// documented wants sentences.
func (r *rules) documented(what, text string) {
	r.t.Helper()
	text = strings.TrimSpace(text)
	assert.True(r.t, strings.HasSuffix(text, "."), "the description of %s ends without a full stop: %q", what, text)
	assert.NotRegexp(r.t, unfinished, text, what)
}

// attribute wants a convention's name, or one under ebpf.
func (r *rules) attribute(what, name string) {
	r.t.Helper()
	if name == "network.vlan.id" {
		return // as the Elastic Common Schema has it, from which the conventions of source and destination are
	}
	assert.True(r.t, r.attributes[name] || strings.HasPrefix(name, "ebpf."),
		"%s: attribute %s is neither a semantic convention nor under ebpf.", what, name)
}

func (r *rules) dimensions() {
	used := make(map[string]bool)
	for _, m := range r.spec.Metrics {
		for dimension := range m.Attributes {
			used[dimension] = true
		}
	}
	for name, d := range r.spec.Dimensions {
		r.documented(name, d.Description)
		assert.True(r.t, used[name], "no metric has the dimension %s", name)
		for _, attribute := range d.AttributeNames(name) {
			r.attribute("dimension "+name, attribute)
		}
	}
}

func (r *rules) metrics() {
	for name, m := range r.spec.Metrics {
		r.documented(name, m.Description)
		convention, ok := r.conventions.metrics[name]
		assert.Equal(r.t, ok, m.SemConv, "%s: semconv", name)
		if ok {
			assert.Equal(r.t, convention.Type, m.Type, "%s: type", name)
			assert.Equal(r.t, convention.Unit, m.Unit, "%s: unit", name)
		} else {
			assert.True(r.t, strings.HasPrefix(name, "ebpf."), "%s is neither a semantic convention nor under ebpf.", name)
		}
		for _, point := range m.Points {
			for attribute := range point.Attributes {
				r.attribute(name, attribute)
			}
		}
	}
}

func (r *rules) events() {
	for name, e := range r.spec.Events {
		r.documented(name, e.Description)
		assert.True(r.t, strings.HasPrefix(name, "ebpf."), "%s is not under ebpf.", name)
		assert.NotEmpty(r.t, e.Body, name)
		for attribute, a := range e.Attributes {
			if a.As == "container" || a.As == "process" {
				continue // the decoder names what it makes
			}
			r.attribute(name, attribute)
			assert.Equal(r.t, r.attributes[attribute], a.SemConv, "%s: %s: semconv", name, attribute)
			if !a.SemConv || a.Description != "" {
				r.documented(attribute, a.Description)
			}
		}
	}
}
