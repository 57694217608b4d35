// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// maxObject bounds the size of an object that is read, in bytes. Ours have less than 100 KiB.
const maxObject = 16 << 20

// ObjectError says that a probe's object is broken, or lacks what its spec names.
type ObjectError struct {
	// Path of the object, as the spec's path is.
	Path string
	// Problems, all that were found.
	Problems []error
}

func (e *ObjectError) Error() string {
	if len(e.Problems) == 1 {
		return e.Path + ": " + e.Problems[0].Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d problems", e.Path, len(e.Problems))
	for _, problem := range e.Problems {
		b.WriteString("\n\t")
		b.WriteString(problem.Error())
	}
	return b.String()
}

func (e *ObjectError) Unwrap() []error { return e.Problems }

// object is a probe's compiled half, read and held against its spec. It has touched no kernel.
type object struct {
	*ebpf.CollectionSpec
	// enumerators of all enumerations, by name.
	enumerators map[string]uint64
	// references are the maps that each program uses, sorted.
	references map[string][]string
}

// CheckObject reads the probe's object and holds it against the spec: everything that the spec names exists in it. The
// error is an [*ObjectError] with all that does not. It touches no kernel.
func CheckObject(spec *Spec) error {
	_, err := openObject(spec)
	return err
}

// openObject reads and checks the object that the spec names.
func openObject(spec *Spec) (*object, error) {
	broken := func(err error) (*object, error) {
		return nil, &ObjectError{Path: objectPath(spec), Problems: []error{err}}
	}
	f, err := spec.FS.Open(spec.Object)
	if err != nil {
		return broken(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxObject+1))
	if err != nil {
		return broken(fmt.Errorf("read the object: %w", err))
	}
	if len(data) > maxObject {
		return broken(fmt.Errorf("the object has more than %d bytes", maxObject))
	}
	return parseObject(spec, data)
}

func objectPath(spec *Spec) string {
	if i := strings.LastIndexByte(spec.Path, '/'); i >= 0 {
		return spec.Path[:i+1] + spec.Object
	}
	return spec.Object
}

// parseObject never panics: an object may come from anywhere, and its parsers are not ours.
func parseObject(spec *Spec, data []byte) (o *object, err error) {
	defer func() {
		if r := recover(); r != nil {
			o, err = nil, &ObjectError{Path: objectPath(spec), Problems: []error{fmt.Errorf("broken object: %v", r)}}
		}
	}()
	if err := checkSections(data); err != nil {
		return nil, &ObjectError{Path: objectPath(spec), Problems: []error{fmt.Errorf("read the object: %w", err)}}
	}
	coll, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(data))
	if err != nil {
		return nil, &ObjectError{Path: objectPath(spec), Problems: []error{fmt.Errorf("read the object: %w", err)}}
	}
	if coll.Types == nil {
		return nil, &ObjectError{Path: objectPath(spec), Problems: []error{errors.New("it has no type information: compile with -g")}}
	}
	o = &object{CollectionSpec: coll, enumerators: make(map[string]uint64), references: make(map[string][]string)}
	for t, err := range coll.Types.All() {
		if err != nil {
			return nil, &ObjectError{Path: objectPath(spec), Problems: []error{fmt.Errorf("read its types: %w", err)}}
		}
		if enum, ok := t.(*btf.Enum); ok {
			for _, v := range enum.Values {
				o.enumerators[v.Name] = v.Value
			}
		}
	}
	for _, m := range coll.Maps {
		if m.InnerMap != nil {
			m.InnerMap.Key, m.InnerMap.Value = o.complete(m.InnerMap.Key), o.complete(m.InnerMap.Value)
		}
	}
	for name, program := range coll.Programs {
		o.references[name] = mapReferences(program)
	}
	if problems := checkObject(spec, o); len(problems) > 0 {
		return nil, &ObjectError{Path: objectPath(spec), Problems: problems}
	}
	return o, nil
}

// checkSections refuses sections that would become much larger in memory than they are in the file: a few bytes could ask for
// more than there is, which no recover() survives.
func checkSections(data []byte) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it is empty or cut short: %w", err)
	}
	if err != nil {
		return err
	}
	total := uint64(0)
	for _, section := range f.Sections {
		if section.Flags&elf.SHF_COMPRESSED != 0 {
			return fmt.Errorf("section %q is compressed, which is not supported", section.Name)
		}
		if section.Type == elf.SHT_NULL {
			continue
		}
		if section.Size > maxObject || total+section.Size > 2*maxObject {
			return fmt.Errorf("section %q makes it larger than %d bytes", section.Name, maxObject)
		}
		total += section.Size
	}
	return nil
}

// complete finds the struct of which clang left just the name, as it does for types that are only named behind a map in a map.
func (o *object) complete(t btf.Type) btf.Type {
	if t == nil {
		return nil
	}
	if forward, ok := btf.UnderlyingType(t).(*btf.Fwd); ok {
		var whole *btf.Struct
		if err := o.Types.TypeByName(forward.Name, &whole); err == nil {
			return whole
		}
	}
	return t
}

// mapReferences are the maps that a program's instructions load, with those of the functions that it calls.
func mapReferences(program *ebpf.ProgramSpec) []string {
	var names []string
	for i := range program.Instructions {
		if ins := &program.Instructions[i]; ins.IsLoadFromMap() && ins.Reference() != "" {
			names = append(names, ins.Reference())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// copy is what one attempt at loading may change.
func (o *object) copy() *object {
	c := *o
	c.CollectionSpec = o.CollectionSpec.Copy()
	return &c
}

// isSwapped tells an array of maps, whose inner maps take turns, from a plain map.
func isSwapped(m *ebpf.MapSpec) bool { return m.Type == ebpf.ArrayOfMaps }

// overflowMap is the name of the cell that takes what a swapped map can not.
func overflowMap(name string) string { return name + "_overflow" }

// row is the map that has the rows of a table: an inner one of a swapped map.
func row(m *ebpf.MapSpec) *ebpf.MapSpec {
	if isSwapped(m) {
		return m.InnerMap
	}
	return m
}
