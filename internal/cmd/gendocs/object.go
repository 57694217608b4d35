// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

// object is what a probe's compiled object says of itself.
type object struct {
	// programs by name.
	programs map[string]program
	// kinds of the attributes of each event, by event and attribute. A container's is missing.
	kinds map[string]map[string]kind
}

// program is one program of an object.
type program struct {
	// hook is its ELF section: "tp_btf/sched_switch".
	hook string
	// maps that it uses, by their type: "task_storage". Hashes and arrays, which every kernel has, are left out.
	maps []string
	// helpers of the kernel that it calls.
	helpers []string
}

// kind is an attribute's type.
type kind string

const (
	kindString  kind = "string"
	kindInt     kind = "int"
	kindDouble  kind = "double"
	kindBool    kind = "boolean"
	kindBytes   kind = "bytes"
	kindStrings kind = "string[]"
)

// readObject reads the ELF file. It touches no kernel.
func readObject(spec *probe.Spec) (*object, error) {
	elf, err := fs.ReadFile(spec.FS, spec.Object)
	if err != nil {
		return nil, err
	}
	collection, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(elf))
	if err != nil {
		return nil, err
	}
	o := &object{programs: make(map[string]program), kinds: make(map[string]map[string]kind)}
	for _, name := range programNames(spec) {
		p, ok := collection.Programs[name]
		if !ok {
			return nil, fmt.Errorf("%s: %w", spec.Path, probe.Unknown("program", name, slices.Collect(maps.Keys(collection.Programs))))
		}
		o.programs[name] = describeProgram(p, collection.Maps)
	}
	for name, event := range spec.Events {
		if o.kinds[name], err = kinds(event, collection.Types); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", spec.Path, name, err)
		}
	}
	return o, nil
}

func programNames(spec *probe.Spec) []string {
	names := make(map[string]bool)
	for _, role := range spec.Programs {
		for _, candidate := range role.Candidates {
			for _, name := range candidate.Programs {
				names[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// commonMaps are the types that every kernel with typed tracepoints has.
var commonMaps = []ebpf.MapType{
	ebpf.Array, ebpf.ArrayOfMaps, ebpf.Hash, ebpf.HashOfMaps, ebpf.LRUHash, ebpf.PerCPUArray, ebpf.PerCPUHash,
}

func describeProgram(p *ebpf.ProgramSpec, specs map[string]*ebpf.MapSpec) program {
	mapTypes, helpers := make(map[string]bool), make(map[string]bool)
	for _, instruction := range p.Instructions {
		if m, ok := specs[instruction.Reference()]; ok && instruction.IsLoadFromMap() && !slices.Contains(commonMaps, m.Type) {
			mapTypes[mapTypeName(m.Type)] = true
		}
		if instruction.IsBuiltinCall() {
			helper := asm.BuiltinFunc(instruction.Constant)
			helpers["bpf_"+snake(strings.TrimPrefix(helper.String(), "Fn"))] = true
		}
	}
	return program{hook: p.SectionName, maps: slices.Sorted(maps.Keys(mapTypes)), helpers: slices.Sorted(maps.Keys(helpers))}
}

// mapTypeName is the kernel's name, without BPF_MAP_TYPE_ and in lower case, as a spec's requires has it.
func mapTypeName(t ebpf.MapType) string {
	switch t {
	case ebpf.RingBuf:
		return "ringbuf"
	case ebpf.LPMTrie:
		return "lpm_trie"
	}
	return snake(t.String())
}

// snake turns TaskStorage into task_storage.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 && !unicode.IsUpper(rune(name[i-1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// kinds decodes a record of zeros, which tells the types that the attributes really get.
func kinds(event probe.Event, types *btf.Spec) (map[string]kind, error) {
	var record *btf.Struct
	if err := types.TypeByName(event.Type, &record); err != nil {
		return nil, err
	}
	sink := make(kindSink)
	for name, attribute := range event.Attributes {
		field, err := layout.FieldOf(record, attribute.Field)
		if err != nil {
			return nil, err
		}
		column, err := layout.NewColumn(name, field, layout.Options{
			As: attribute.As, Values: attribute.Values, Scale: attribute.Scale, Names: noNames{},
		})
		if err != nil {
			return nil, err
		}
		if column.Entity != layout.Attribute {
			continue
		}
		if err := column.Append(sink, make([]byte, record.Size)); err != nil {
			return nil, err
		}
	}
	return sink, nil
}

// kindSink keeps the type of each attribute that is put.
type kindSink map[string]kind

var _ layout.Sink = kindSink(nil)

func (s kindSink) PutStr(key, _ string)            { s[key] = kindString }
func (s kindSink) PutInt(key string, _ int64)      { s[key] = kindInt }
func (s kindSink) PutDouble(key string, _ float64) { s[key] = kindDouble }
func (s kindSink) PutBool(key string, _ bool)      { s[key] = kindBool }
func (s kindSink) PutBytes(key string, _ []byte)   { s[key] = kindBytes }
func (s kindSink) PutStrs(key string, _ []string)  { s[key] = kindStrings }

// noNames stands in for a host.
type noNames struct{}

var _ layout.Names = noNames{}

func (noNames) CgroupPath(uint64) string        { return "" }
func (noNames) Device(uint32) string            { return "" }
func (noNames) Interface(uint32, uint32) string { return "" }
func (noNames) Owner(netip.Addr) uint64         { return 0 }
func (noNames) Symbol(uint64) string            { return "" }
func (noNames) Syscall(int64) string            { return "" }
func (noNames) User(uint32) string              { return "" }
func (noNames) Wall(uint64) time.Time           { return time.Time{} }
