// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPruneKey(t *testing.T) {
	tests := []struct {
		name    string
		mapType ebpf.MapType
		fields  []string
		want    uint32
		members []string
	}{
		{"nothing selected", ebpf.PerCPUHash, nil, 4, nil},
		{"first", ebpf.PerCPUHash, []string{"cgroup"}, 8, []string{"cgroup"}},
		{"second", ebpf.Hash, []string{"pid"}, 12, []string{"cgroup", "pid"}},
		{"third", ebpf.Hash, []string{"cgroup", "always"}, 16, []string{"cgroup", "pid", "always"}},
		{"last", ebpf.PerCPUHash, []string{"comm"}, 32, []string{"cgroup", "pid", "always", "comm"}},
		{"all", ebpf.PerCPUHash, []string{"."}, 32, []string{"cgroup", "pid", "always", "comm"}},
		{"array", ebpf.PerCPUArray, nil, 32, []string{"cgroup", "pid", "always", "comm"}},
		{"unknown field", ebpf.Hash, []string{"nothing"}, 32, []string{"cgroup", "pid", "always", "comm"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, err := openObject(fixtureSpec(t))
			require.NoError(t, err)
			m := o.Maps["plain"].Copy()
			m.Type = tt.mapType
			whole := m.Key
			assert.Equal(t, tt.want, pruneKey(m, tt.fields))
			assert.Equal(t, tt.want, m.KeySize)
			// The kernel wants the type to have the key's size.
			size, err := btf.Sizeof(m.Key)
			require.NoError(t, err)
			assert.EqualValues(t, tt.want, size)
			var members []string
			for _, member := range btf.UnderlyingType(m.Key).(*btf.Struct).Members {
				members = append(members, member.Name)
			}
			assert.Equal(t, tt.members, members)
			size, err = btf.Sizeof(whole)
			require.NoError(t, err)
			assert.Equal(t, 32, size, "the object's own type is as it was")
		})
	}
}

func TestPruneKeyRounds(t *testing.T) {
	number := func(size uint32) btf.Type { return &btf.Int{Size: size} }
	key := &btf.Struct{Size: 8, Members: []btf.Member{
		{Name: "a", Type: number(1)}, {Name: "b", Type: number(2), Offset: 16}, {Name: "c", Type: number(1), Offset: 32},
	}}
	for fields, want := range map[string]uint32{"a": 4, "b": 4, "c": 8} {
		m := &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 8, Key: key}
		assert.Equal(t, want, pruneKey(m, []string{fields}), fields)
	}
	// A key that is no struct has nothing to be cut.
	m := &ebpf.MapSpec{Type: ebpf.Hash, KeySize: 8, Key: number(8)}
	assert.EqualValues(t, 8, pruneKey(m, nil))
}

func TestKeyFields(t *testing.T) {
	spec := fixtureSpec(t)
	const execs, weight, plain = "ebpf.fixture.execs", "ebpf.fixture.weight", "ebpf.fixture.plain"
	tests := []struct {
		name    string
		table   string
		enabled map[string]MetricSettings
		want    []string
	}{
		{"nothing", "execs", nil, nil},
		{"one", "execs", map[string]MetricSettings{execs: {Attributes: []string{"process.pid"}}}, []string{"pid"}},
		{"two metrics of one map", "execs", map[string]MetricSettings{
			execs: {Attributes: []string{"command"}}, weight: {Attributes: []string{"process.linux.cgroup"}},
		}, []string{"cgroup", "comm"}},
		{"of another map", "execs", map[string]MetricSettings{plain: {Attributes: []string{"command"}}}, nil},
		{"without variable", "plain", map[string]MetricSettings{plain: {}}, []string{"always"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, keyFields(spec, tt.table, tt.enabled))
		})
	}
}
