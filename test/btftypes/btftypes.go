// SPDX-License-Identifier: Apache-2.0

// Package btftypes makes BTF types for tests, as an object compiled from C would have them. Tests of packages that leave
// BTF to others need not know the BTF library.
package btftypes

import (
	"bytes"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

// Names of the library's types, so that tests need not import it.
type (
	// Type is any BTF type.
	Type = btf.Type
	// Struct is a BTF struct.
	Struct = btf.Struct
)

// The numbers of C.
var (
	U8   = &btf.Int{Name: "unsigned char", Size: 1}
	U16  = &btf.Int{Name: "unsigned short", Size: 2}
	U32  = &btf.Int{Name: "unsigned int", Size: 4}
	U64  = &btf.Int{Name: "unsigned long long", Size: 8}
	S8   = &btf.Int{Name: "signed char", Size: 1, Encoding: btf.Signed}
	S16  = &btf.Int{Name: "short", Size: 2, Encoding: btf.Signed}
	S32  = &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	S64  = &btf.Int{Name: "long long", Size: 8, Encoding: btf.Signed}
	Bool = &btf.Int{Name: "_Bool", Size: 1, Encoding: btf.Bool}
	Char = &btf.Int{Name: "char", Size: 1, Encoding: btf.Char}
)

// Array is of n elements.
func Array(of Type, n int) *btf.Array {
	return &btf.Array{Index: U32, Type: of, Nelems: uint32(n)}
}

// Field is a member by name; anonymous without one.
type Field struct {
	Name string
	Type Type
	Tags []string
}

// NewStruct lays fields out one after the other, without padding.
func NewStruct(name string, fields ...Field) *Struct {
	s := &btf.Struct{Name: name}
	for _, f := range fields {
		s.Members = append(s.Members, btf.Member{Name: f.Name, Type: f.Type, Offset: btf.Bits(8 * s.Size), Tags: f.Tags})
		s.Size += uint32(Sizeof(f.Type))
	}
	return s
}

// NewUnion puts all fields at the same place.
func NewUnion(name string, fields ...Field) *btf.Union {
	u := &btf.Union{Name: name}
	for _, f := range fields {
		u.Members = append(u.Members, btf.Member{Name: f.Name, Type: f.Type, Tags: f.Tags})
		u.Size = max(u.Size, uint32(Sizeof(f.Type)))
	}
	return u
}

// Histogram is a struct declared with HISTOGRAM(low, high, sub) of bpf/include/histogram.h.
func Histogram(low, high, sub int) *Struct {
	return NewStruct("histogram",
		Field{Name: "sum", Type: U64},
		Field{Name: "slots", Type: Array(U64, (high-low)<<sub+2), Tags: []string{fmt.Sprintf("histogram min=%d max=%d sub=%d", low, high, sub)}})
}

// Enum is one of 4 bytes, unsigned.
func Enum(name string, values map[string]uint64) *btf.Enum {
	e := &btf.Enum{Name: name, Size: 4}
	for k, v := range values {
		e.Values = append(e.Values, btf.EnumValue{Name: k, Value: v})
	}
	return e
}

// ProcessKey and Header are the structs of bpf/include/task.h and event.h, Blob that of a record's variable part.
var (
	ProcessKey = NewStruct("process_key",
		Field{Name: "start", Type: U64}, Field{Name: "pid", Type: U32}, Field{Name: "unused", Type: U32},
		Field{Name: "comm", Type: Array(Char, 16)})
	Header = NewStruct("event_header",
		Field{Name: "time", Type: U64}, Field{Name: "id", Type: U32}, Field{Name: "size", Type: U32})
	Blob = NewStruct("blob", Field{Name: "offset", Type: U16}, Field{Name: "length", Type: U16})
)

// Sizeof is a type's size in bytes. It panics for a type that has none.
func Sizeof(t Type) int {
	n, err := btf.Sizeof(t)
	if err != nil {
		panic(err)
	}
	return n
}

// EventsOf reads ids and record structs of all of a spec's events out of its object. Nothing is loaded.
func EventsOf(spec *probe.Spec) (ids map[string]uint32, structs map[string]*Struct, err error) {
	object, err := fs.ReadFile(spec.FS, spec.Object)
	if err != nil {
		return nil, nil, err
	}
	collection, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, nil, err
	}
	ids, structs = make(map[string]uint32), make(map[string]*Struct)
	for name, e := range spec.Events {
		var s *btf.Struct
		if err := collection.Types.TypeByName(e.Type, &s); err != nil {
			return nil, nil, fmt.Errorf("event %s: %w", name, err)
		}
		structs[name] = s
		id, err := enumerator(collection.Types, e.ID)
		if err != nil {
			return nil, nil, fmt.Errorf("event %s: %w", name, err)
		}
		ids[name] = id
	}
	return ids, structs, nil
}

func enumerator(types *btf.Spec, name string) (uint32, error) {
	for t, err := range types.All() {
		if err != nil {
			return 0, err
		}
		e, ok := t.(*btf.Enum)
		if !ok {
			continue
		}
		for _, v := range e.Values {
			if v.Name == name {
				return uint32(v.Value), nil
			}
		}
	}
	return 0, fmt.Errorf("no enumerator %s", name)
}
