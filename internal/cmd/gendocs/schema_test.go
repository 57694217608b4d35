// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

func demoSchema(t *testing.T) map[string]any {
	t.Helper()
	specs, _ := fixture(t)
	data, err := schema(os.DirFS("testdata/root"), specs)
	require.NoError(t, err)
	var root map[string]any
	require.NoError(t, json.Unmarshal(data, &root))
	return root
}

// at follows keys into nested objects.
func at(t *testing.T, n any, keys ...string) map[string]any {
	t.Helper()
	for _, key := range keys {
		object, ok := n.(map[string]any)
		require.True(t, ok)
		require.Contains(t, object, key)
		n = object[key]
	}
	return n.(map[string]any)
}

// The schema has the keys that the receiver decodes. They are read from its source, which this package must not import.
func TestSchemaKeys(t *testing.T) {
	s := demoSchema(t)
	tags := receiverTags(t)
	assert.ElementsMatch(t, tags["Config"], sorted(at(t, s, "properties")))

	spec, _ := fixture(t)
	own := append(sorted(spec["demo"].Options), tags["ProbeConfig"]...)
	own = slices.DeleteFunc(own, func(key string) bool { _, ok := packetKeys()[key]; return ok }) // it sees no packets
	inherited := append(sorted(at(t, s, "properties", "probes", "properties", "demo", "else", "properties")), "path")
	assert.ElementsMatch(t, own, inherited)
	assert.ElementsMatch(t, tags["ProbeConfig"], sorted(at(t, s, "$defs", "own_probe", "properties")))

	for definition, config := range map[string]reflect.Type{
		"metric": reflect.TypeFor[probe.MetricConfig](),
		"event":  reflect.TypeFor[probe.EventConfig](),
		"filter": reflect.TypeFor[probe.FilterConfig](),
	} {
		var want []string
		for i := range config.NumField() {
			want = append(want, config.Field(i).Tag.Get("mapstructure"))
		}
		assert.ElementsMatch(t, want, sorted(at(t, s, "$defs", definition, "properties")), definition)
	}
}

// receiverTags are the configuration keys of the receiver's structs.
func receiverTags(t *testing.T) map[string][]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../../receiver/config.go", nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	tags := make(map[string][]string)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		fields, ok := spec.Type.(*ast.StructType)
		if !ok {
			return true
		}
		for _, field := range fields.Fields.List {
			if field.Tag == nil {
				continue
			}
			tag := reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("mapstructure")
			if key, _, _ := strings.Cut(tag, ","); key != "" {
				tags[spec.Name.Name] = append(tags[spec.Name.Name], key)
			}
		}
		return true
	})
	require.NotEmpty(t, tags["Config"])
	require.NotEmpty(t, tags["ProbeConfig"])
	return tags
}

// Every reference has its definition.
func TestSchemaReferences(t *testing.T) {
	s := demoSchema(t)
	definitions := at(t, s, "$defs")
	used := make(map[string]bool)
	var walk func(n any)
	walk = func(n any) {
		switch n := n.(type) {
		case map[string]any:
			if reference, ok := n["$ref"].(string); ok {
				name := strings.TrimPrefix(reference, "#/$defs/")
				assert.Contains(t, definitions, name)
				used[name] = true
			}
			if pattern, ok := n["pattern"].(string); ok {
				_, err := regexp.Compile(pattern)
				require.NoError(t, err)
			}
			for _, v := range n {
				walk(v)
			}
		case []any:
			for _, v := range n {
				walk(v)
			}
		}
	}
	walk(s)
	assert.ElementsMatch(t, sorted(definitions), sorted(used), "no definition is idle")
}

// The patterns take what Resolve takes.
func TestSchemaPatterns(t *testing.T) {
	for _, test := range []struct {
		pattern   string
		good, bad []string
	}{
		{durationPattern, []string{"0", "10s", "1m30s", "1.5h", ".5s", "100µs"}, []string{"", "10", "s", "-1s", "1d"}},
		{sizePattern, []string{"0", "64KiB", "1 MB", "12B", "3kb", "2gib"}, []string{"", "KiB", "-1", "1.5MiB", "1XB"}},
		{reference, []string{"${env:NAME}", "${NAME}"}, []string{"", "NAME", "${}"}},
	} {
		re := regexp.MustCompile(test.pattern)
		for _, s := range test.good {
			assert.True(t, re.MatchString(s), "%q", s)
		}
		for _, s := range test.bad {
			assert.False(t, re.MatchString(s), "%q", s)
		}
	}
}
