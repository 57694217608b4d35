// SPDX-License-Identifier: Apache-2.0

// Package layouttest makes BTF types for tests, with the layout that a C compiler gives them.
package layouttest

import (
	"bytes"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// Types of C.
var (
	U8   = &btf.Int{Name: "u8", Size: 1}
	U16  = &btf.Int{Name: "u16", Size: 2}
	U32  = &btf.Int{Name: "u32", Size: 4}
	U64  = &btf.Int{Name: "u64", Size: 8}
	S8   = &btf.Int{Name: "s8", Size: 1, Encoding: btf.Signed}
	S16  = &btf.Int{Name: "s16", Size: 2, Encoding: btf.Signed}
	S32  = &btf.Int{Name: "s32", Size: 4, Encoding: btf.Signed}
	S64  = &btf.Int{Name: "s64", Size: 8, Encoding: btf.Signed}
	Bool = &btf.Int{Name: "bool", Size: 1, Encoding: btf.Bool}
	Char = &btf.Int{Name: "char", Size: 1, Encoding: btf.Signed}
)

// Types of bpf/include.
var (
	Header     = Struct("event_header", M("time", U64), M("id", U32), M("size", U32))
	Blob       = Struct("blob", M("offset", U16), M("length", U16))
	ProcessKey = Struct("process_key", M("start", U64), M("pid", U32), M("unused", U32), M("comm", Array(Char, 16)))
)

// Array is an array of n elements.
func Array(element btf.Type, n int) btf.Type {
	return &btf.Array{Index: U32, Type: element, Nelems: uint32(n)}
}

// M is a member of a struct or union; one without a name is anonymous.
func M(name string, t btf.Type, tags ...string) btf.Member {
	return btf.Member{Name: name, Type: t, Tags: tags}
}

// Struct puts members one after the other, each where its alignment wants it.
func Struct(name string, members ...btf.Member) *btf.Struct {
	s := &btf.Struct{Name: name}
	largest := uint32(1)
	for _, m := range members {
		align := alignment(m.Type)
		s.Size = (s.Size + align - 1) / align * align
		m.Offset = btf.Bits(s.Size * 8)
		s.Members = append(s.Members, m)
		s.Size += sizeOf(m.Type)
		largest = max(largest, align)
	}
	s.Size = (s.Size + largest - 1) / largest * largest
	return s
}

// Union puts all members at its start.
func Union(name string, members ...btf.Member) *btf.Union {
	u := &btf.Union{Name: name, Members: members}
	for _, m := range members {
		u.Size = max(u.Size, sizeOf(m.Type))
	}
	return u
}

// Histogram is what HISTOGRAM(min, max, sub) of bpf/include/histogram.h declares.
func Histogram(name string, lowest, highest, sub int) *btf.Struct {
	slots := (highest-lowest)<<sub + 2
	tag := fmt.Sprintf("histogram min=%d max=%d sub=%d", lowest, highest, sub)
	return Struct(name, M("sum", U64), M("slots", Array(U64, slots), tag))
}

func sizeOf(t btf.Type) uint32 {
	size, err := btf.Sizeof(t)
	if err != nil {
		panic(err) // a mistake of the test
	}
	return uint32(size)
}

func alignment(t btf.Type) uint32 {
	largest := uint32(1)
	var members []btf.Member
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Array:
		return alignment(t.Type)
	case *btf.Struct:
		members = t.Members
	case *btf.Union:
		members = t.Members
	default:
		return sizeOf(t)
	}
	for _, m := range members {
		largest = max(largest, alignment(m.Type))
	}
	return largest
}

// Object is the BTF of a compiled object.
type Object struct {
	types *btf.Spec
}

// NewObject reads an ELF file.
func NewObject(elf []byte) (*Object, error) {
	types, err := btf.LoadSpecFromReader(bytes.NewReader(elf))
	if err != nil {
		return nil, fmt.Errorf("read the object's BTF: %w", err)
	}
	return &Object{types: types}, nil
}

// Struct is the struct of that name.
func (o *Object) Struct(name string) (s *btf.Struct, err error) {
	if err = o.types.TypeByName(name, &s); err != nil {
		return nil, fmt.Errorf("find struct %s: %w", name, err)
	}
	return s, nil
}

// Enumerator is the value of an enumerator of an enum.
func (o *Object) Enumerator(enum, name string) (uint64, error) {
	var e *btf.Enum
	if err := o.types.TypeByName(enum, &e); err != nil {
		return 0, fmt.Errorf("find enum %s: %w", enum, err)
	}
	for _, v := range e.Values {
		if v.Name == name {
			return v.Value, nil
		}
	}
	return 0, fmt.Errorf("enum %s has no %s", enum, name)
}

// Structs by name, for packages that do not know BTF.
type Structs = map[string]*btf.Struct
