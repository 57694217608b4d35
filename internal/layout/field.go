// SPDX-License-Identifier: Apache-2.0

// Package layout turns BTF types into columns: where a field lies in a raw map key, map value or
// ring-buffer record, and how its bytes become attributes and numbers.
package layout

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// Type is a BTF type, so that the OpenTelemetry half can name one.
type Type = btf.Type

// Field is one member of a BTF type.
type Field struct {
	// Path is the dotted path by which it was found.
	Path string
	// Offset and Size are in bytes, from the start of the outermost type.
	Offset, Size int
	// Type is the member's type, typedefs and qualifiers kept.
	Type Type
	// Tags are the member's BTF declaration tags.
	Tags []string
}

// FieldError says that a type has no field of that path.
type FieldError struct {
	Type, Path string
	// Valid are the fields that exist where the path left the type.
	Valid []string
}

func (e *FieldError) Error() string {
	if len(e.Valid) == 0 {
		return fmt.Sprintf("%s has no field %q: it has no fields", e.Type, e.Path)
	}
	return fmt.Sprintf("%s has no field %q; it has %s", e.Type, e.Path, strings.Join(e.Valid, ", "))
}

// FieldOf finds a member by its dotted path; members of anonymous structs and unions are found as in C. "." is the type
// itself. Bit fields are refused. The error is a [*FieldError] when there is no such field.
func FieldOf(t Type, path string) (Field, error) {
	f := Field{Path: path, Type: t}
	size, err := btf.Sizeof(t)
	if err != nil {
		return Field{}, fmt.Errorf("size of %s: %w", typeName(t), err)
	}
	f.Size = size
	if path == "." {
		return f, nil
	}
	for name := range strings.SplitSeq(path, ".") {
		m, offset, ok := member(f.Type, name, 0)
		if !ok {
			return Field{}, &FieldError{Type: typeName(t), Path: path, Valid: memberNames(f.Type, 0)}
		}
		if m.BitfieldSize != 0 {
			return Field{}, fmt.Errorf("field %q of %s is a bit field", path, typeName(t))
		}
		f.Offset += offset
		f.Type, f.Tags = m.Type, m.Tags
	}
	if f.Size, err = btf.Sizeof(f.Type); err != nil {
		return Field{}, fmt.Errorf("size of field %q of %s: %w", path, typeName(t), err)
	}
	if f.Offset+f.Size > size {
		return Field{}, fmt.Errorf("field %q of %s ends at byte %d of %d", path, typeName(t), f.Offset+f.Size, size)
	}
	return f, nil
}

// maxNesting bounds anonymous structs within structs: objects come from users too.
const maxNesting = 8

func members(t Type) []btf.Member {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		return t.Members
	case *btf.Union:
		return t.Members
	}
	return nil
}

func member(t Type, name string, depth int) (btf.Member, int, bool) {
	if depth > maxNesting || name == "" {
		return btf.Member{}, 0, false
	}
	for _, m := range members(t) {
		if m.Name == name {
			return m, int(m.Offset.Bytes()), true
		}
		if m.Name != "" {
			continue
		}
		if inner, offset, ok := member(m.Type, name, depth+1); ok {
			return inner, int(m.Offset.Bytes()) + offset, true
		}
	}
	return btf.Member{}, 0, false
}

func memberNames(t Type, depth int) []string {
	var names []string
	if depth > maxNesting {
		return nil
	}
	for _, m := range members(t) {
		if m.Name == "" {
			names = append(names, memberNames(m.Type, depth+1)...)
			continue
		}
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names
}

// Leaves are the members of a type that have none themselves, those of anonymous types and all members of a union
// included. A type without members is its own leaf.
func Leaves(t Type) ([]Field, error) {
	f, err := FieldOf(t, ".")
	if err != nil {
		return nil, err
	}
	return leaves(nil, f, 0)
}

func leaves(list []Field, f Field, depth int) ([]Field, error) {
	inner := members(f.Type)
	if len(inner) == 0 {
		return append(list, f), nil
	}
	if depth > maxNesting {
		return nil, fmt.Errorf("%s is nested too deeply", f.describe())
	}
	for _, m := range inner {
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			return nil, fmt.Errorf("size of member %q of %s: %w", m.Name, typeName(f.Type), err)
		}
		child := Field{Path: m.Name, Offset: f.Offset + int(m.Offset.Bytes()), Size: size, Type: m.Type, Tags: m.Tags}
		if list, err = leaves(list, child, depth+1); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// describe names a field in messages.
func (f Field) describe() string {
	if f.Path == "." {
		return "the whole " + typeName(f.Type)
	}
	return fmt.Sprintf("field %q", f.Path)
}

func typeName(t Type) string {
	if name := t.TypeName(); name != "" {
		return name
	}
	return fmt.Sprintf("%T", t)
}
