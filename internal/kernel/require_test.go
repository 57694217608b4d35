// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// specOf is a kernel that has these types.
func specOf(t *testing.T, types ...btf.Type) *btf.Spec {
	t.Helper()
	b, err := btf.NewBuilder(types, nil)
	require.NoError(t, err)
	raw, err := b.Marshal(nil, nil)
	require.NoError(t, err)
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	require.NoError(t, err)
	return spec
}

func TestParseRequirement(t *testing.T) {
	tests := []struct {
		text string
		want Requirement
		ok   bool
	}{
		{"field/task_struct.pid", Requirement{Kind: "field", Name: "task_struct", Field: "pid"}, true},
		{"field/task_struct.se.cfs_rq", Requirement{Kind: "field", Name: "task_struct", Field: "se.cfs_rq"}, true},
		{"func/bpf_mem_alloc_init", Requirement{Kind: "func", Name: "bpf_mem_alloc_init"}, true},
		{"args/kfree_skb:4", Requirement{Kind: "args", Name: "kfree_skb", Arg: 4}, true},
		{"args/block_rq_issue:0=request", Requirement{Kind: "args", Name: "block_rq_issue", Struct: "request"}, true},
		{"map/task_storage", Requirement{Kind: "map", Name: "task_storage"}, true},
		{"map/BPF_MAP_TYPE_RINGBUF", Requirement{Kind: "map", Name: "BPF_MAP_TYPE_RINGBUF"}, true},
		{"map/percpu_hash", Requirement{Kind: "map", Name: "percpu_hash"}, true},
		{"config/CONFIG_KPROBES", Requirement{Kind: "config", Name: "KPROBES"}, true},
		{"config/HZ", Requirement{Kind: "config", Name: "HZ"}, true},

		{text: ""},
		{text: "field"},
		{text: "field/"},
		{text: "field/task_struct"},
		{text: "field/.pid"},
		{text: "field/task_struct."},
		{text: "func/"},
		{text: "args/kfree_skb"},
		{text: "args/kfree_skb:"},
		{text: "args/kfree_skb:x"},
		{text: "args/kfree_skb:-1"},
		{text: "args/kfree_skb:1="},
		{text: "args/:1"},
		{text: "map/task_store"},
		{text: "version/5.8"},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			got, err := ParseRequirement(tt.text)
			if !tt.ok {
				require.ErrorContains(t, err, "malformed requirement")
				require.NotErrorIs(t, err, ErrNotSupported)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

// Some of the kernel's enums have no name.
func TestAnyEnumerator(t *testing.T) {
	k := New(Options{})
	k.types = specOf(t,
		&btf.Int{Name: "int", Size: 4},
		&btf.Enum{Name: "named", Size: 4, Values: []btf.EnumValue{{Name: "ONE", Value: 1}}},
		&btf.Enum{Size: 4, Signed: true, Values: []btf.EnumValue{{Name: "TWO", Value: 2}, {Name: "LESS", Value: ^uint64(0)}}},
	)
	for name, want := range map[string]int64{"ONE": 1, "TWO": 2, "LESS": -1} {
		n, err := k.AnyEnumerator(name)
		require.NoError(t, err)
		assert.Equal(t, want, n, name)
	}
	for _, name := range []string{"THREE", "named", ""} {
		_, err := k.AnyEnumerator(name)
		require.ErrorIs(t, err, ErrNotSupported, name)
	}
}

func TestRequire(t *testing.T) {
	number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	inner := &btf.Struct{Name: "inner", Size: 8, Members: []btf.Member{{Name: "deep", Type: number}, {Name: "bits", Type: number, Offset: 32, BitfieldSize: 3}}}
	outer := &btf.Struct{Name: "outer", Size: 12, Members: []btf.Member{{Name: "a", Type: number}, {Name: "in", Type: inner, Offset: 32}}}
	other := &btf.Struct{Name: "other", Size: 4, Members: []btf.Member{{Name: "b", Type: number}}}
	pointer := func(to btf.Type) btf.FuncParam { return btf.FuncParam{Type: &btf.Pointer{Target: to}} }
	void := pointer(&btf.Void{})
	tracepoint := func(name string, params ...btf.FuncParam) btf.Type {
		return &btf.Typedef{Name: "btf_trace_" + name, Type: &btf.Pointer{Target: &btf.FuncProto{Return: &btf.Void{}, Params: params}}}
	}
	k := New(Options{})
	k.types = specOf(t, outer, other,
		&btf.Func{Name: "do_it", Type: &btf.FuncProto{Return: &btf.Void{}}, Linkage: btf.StaticFunc},
		tracepoint("born", void, pointer(&btf.Const{Type: outer}), btf.FuncParam{Type: number}),
		tracepoint("bare", void),
		&btf.Typedef{Name: "btf_trace_broken", Type: number},
	)
	tests := []struct {
		text string
		want string // why not
	}{
		{"field/outer.a", ""},
		{"field/outer.in.deep", ""},
		{"field/outer.in.bits", ""}, // bit fields can be read in a program
		{"field/outer.b", "field outer.b"},
		{"field/outer.in.b", "field outer.in.b"},
		{"field/nothing.a", "struct nothing"},
		{"field/btf_trace_bare.a", "field btf_trace_bare.a"}, // not a struct
		{"func/do_it", ""},
		{"func/do_that", "function do_that"},
		{"func/outer", "function outer"}, // a struct
		{"args/born:2", ""},
		{"args/born:3", "it has 2 here"},
		{"args/bare:0", ""},
		{"args/bare:1", "it has 0 here"},
		{"args/born:0=outer", ""},
		{"args/born:0=other", "it points at outer here"},
		{"args/born:1=outer", "no pointer"},
		{"args/born:2=outer", "it has 2 arguments here"},
		{"args/gone:0", "tracepoint gone"},
		{"args/broken:0", "not that of a tracepoint"},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			for range 2 { // asked and remembered
				err := k.Require(tt.text)
				if tt.want == "" {
					require.NoError(t, err)
					continue
				}
				var unsupported *UnsupportedError
				require.ErrorAs(t, err, &unsupported)
				require.ErrorIs(t, err, ErrNotSupported)
				assert.ErrorContains(t, err, tt.want)
			}
		})
	}
	require.NotErrorIs(t, k.Require("nonsense"), ErrNotSupported)
}
