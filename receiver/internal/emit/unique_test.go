// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/test/btftypes"
)

// Rows go out as they are just when no two can be one series: whatever tells keys apart has to be in the attributes.
func TestUnique(t *testing.T) {
	field := func(name string, t btftypes.Type) btftypes.Field { return btftypes.Field{Name: name, Type: t} }
	key := btftypes.NewStruct(
		"key",
		field("a", btftypes.U64),
		field("b", btftypes.U32),
		field("unused", btftypes.U32),
		field("c", btftypes.U64),
		field("name", btftypes.Array(btftypes.Char, 8)),
	)
	dimensions := map[string]probe.Dimension{
		"a":         {Field: "a"},
		"a_hex":     {Field: "a", As: "hex"},
		"container": {Field: "a", As: "container"},
		"b":         {Field: "b", Variable: "with_b"},
		"b_too":     {Field: "b", As: "hex", Variable: "with_b"},
		"b_kind":    {Field: "b", As: "enum", Values: map[int64]string{1: "one", 2: "two"}},
		"b_shared":  {Field: "b", As: "enum", Values: map[int64]string{1: "same", 2: "same"}},
		"b_numeral": {Field: "b", As: "enum", Values: map[int64]string{1: "2"}},
		"c":         {Field: "c", Variable: "with_c"},
		"name":      {Field: "name", As: "string", Variable: "with_name"},
		"name_hex":  {Field: "name", As: "hex", Variable: "with_name"},
	}
	for _, c := range []struct {
		name     string
		selected []string
		others   []string // selected by another metric of the probe
		keySize  int
		want     bool
	}{
		{"all of it", []string{"a", "b", "c", "name_hex"}, nil, 32, true},
		{"what nobody selected is zero", []string{"a"}, nil, 32, true},
		{"what nobody selected is cut off", []string{"a"}, nil, 8, true},
		{"another metric selected it", []string{"a"}, []string{"b"}, 32, false},
		{"another metric selected its neighbour of the same variable", []string{"a", "c"}, []string{"b_too"}, 32, false},
		{"always in the key", []string{"b", "c"}, nil, 32, false},
		{"a string has an end", []string{"a", "name"}, nil, 32, false},
		{"a container is several cgroups", []string{"container", "b"}, nil, 32, false},
		{"an enum of distinct names", []string{"a", "b_kind"}, nil, 16, true},
		{"an enum with a shared name", []string{"a", "b_shared"}, nil, 16, false},
		{"an enum with a numeral for a name", []string{"a", "b_numeral"}, nil, 16, false},
		{"twice", []string{"a", "a_hex"}, nil, 32, true},
		{"nothing of a key that has something", nil, nil, 32, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &probe.Probe{Spec: &probe.Spec{
				Dimensions: dimensions,
				Metrics:    map[string]probe.Metric{"m": {Map: "map", Value: "n"}},
			}}
			p.Settings.Metrics = map[string]probe.MetricSettings{"m": {Attributes: c.selected}, "other": {Attributes: c.others}}
			table := &probe.Table{Key: key, Value: btftypes.NewStruct("v", field("n", btftypes.U64)), KeySize: c.keySize}
			m, err := newMetric("m", table, p, nil)
			require.NoError(t, err)
			assert.Equal(t, c.want, m.unique(table, p))
		})
	}

	// A field that no dimension names tells rows apart unseen.
	p := &probe.Probe{Spec: &probe.Spec{
		Dimensions: map[string]probe.Dimension{"a": {Field: "a"}},
		Metrics:    map[string]probe.Metric{"m": {Value: "n"}},
	}}
	p.Settings.Metrics = map[string]probe.MetricSettings{"m": {Attributes: []string{"a"}}}
	table := &probe.Table{Key: key, Value: btftypes.NewStruct("v", field("n", btftypes.U64)), KeySize: 12}
	m, err := newMetric("m", table, p, nil)
	require.NoError(t, err)
	assert.False(t, m.unique(table, p))
	table.KeySize = 8
	assert.True(t, m.unique(table, p))
}
