// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
)

// objectChecker holds an object against its spec and collects what does not fit.
type objectChecker struct {
	spec     *Spec
	object   *object
	problems []error
}

// checkObject returns all that the spec names and the object has not, or has in another shape.
func checkObject(spec *Spec, o *object) []error {
	c := &objectChecker{spec: spec, object: o}
	c.programs()
	c.packets()
	c.iterators()
	c.conduct()
	c.maps()
	c.variables()
	c.metrics()
	c.events()
	return c.problems
}

func (c *objectChecker) add(where string, err error) {
	c.problems = append(c.problems, fmt.Errorf("%s: %w", where, err))
}

func (c *objectChecker) addf(where, format string, args ...any) {
	c.add(where, fmt.Errorf(format, args...))
}

func (c *objectChecker) programs() {
	for _, name := range sortedKeys(c.spec.Programs) {
		for i, candidate := range c.spec.Programs[name].Candidates {
			for _, program := range candidate.Programs {
				if _, ok := c.object.Programs[program]; !ok {
					where := fmt.Sprintf("programs.%s.candidates[%d].programs", name, i)
					c.add(where, Unknown("program", program, slices.Collect(maps.Keys(c.object.Programs))))
				}
			}
		}
	}
}

// packets checks what bpf/include/packet.h brings.
func (c *objectChecker) packets() {
	for name, program := range c.object.Programs {
		if program.Type == ebpf.SocketFilter && !c.spec.Packets {
			c.addf("program "+name, "a socket filter in a probe that does not say `packets: true`")
		}
	}
	if !c.spec.Packets {
		return
	}
	if v, ok := c.object.Variables[attachmentVariable]; !ok || v.Size() != attachmentSize || !v.Constant() {
		c.addf("packets", "the object has no constant %s of %d bytes: include packet.h", attachmentVariable, attachmentSize)
	} else if m := c.object.Maps[v.SectionName]; len(c.sectionVariables(v.SectionName)) != 1 || m == nil {
		c.addf("packets", "%s is not alone in its section", attachmentVariable)
	}
	if _, ok := c.object.Variables[packetFilterVariable]; !ok {
		c.addf("packets", "the object has no %s: include packet.h", packetFilterVariable)
	}
}

func (c *objectChecker) sectionVariables(section string) []string {
	var names []string
	for name, v := range c.object.Variables {
		if v.SectionName == section {
			names = append(names, name)
		}
	}
	return names
}

// iterators checks that those over a map's elements have a map, and no others.
func (c *objectChecker) iterators() {
	for _, name := range sortedKeys(c.object.Programs) {
		m, named := c.spec.Iterate[name]
		where := "iterate." + name
		switch over := overElements(c.object.Programs[name]); {
		case over && !named:
			c.addf(where, "missing: it goes over the elements of a map")
		case named && !over:
			c.addf(where, "program %s does not go over the elements of a map: its section is neither iter/bpf_map_elem nor iter/bpf_sk_storage_map", name)
		case named && c.object.Maps[m] == nil:
			c.add(where, Unknown("map", m, slices.Collect(maps.Keys(c.object.Maps))))
		}
	}
}

// mapTypes are those that a probe may have. Two instances of a probe share nothing, so that nothing is pinned; and none of
// these makes the kernel do something to a packet or a process.
var mapTypes = []ebpf.MapType{
	ebpf.Hash, ebpf.Array, ebpf.PerCPUHash, ebpf.PerCPUArray, ebpf.StackTrace, ebpf.LRUHash, ebpf.LRUCPUHash, ebpf.LPMTrie,
	ebpf.ArrayOfMaps, ebpf.Queue, ebpf.Stack, ebpf.SkStorage, ebpf.RingBuf, ebpf.InodeStorage, ebpf.TaskStorage,
	ebpf.BloomFilter, ebpf.CgroupStorage, ebpf.PerfEventArray,
}

func (c *objectChecker) maps() {
	for _, name := range sortedKeys(c.object.Maps) {
		m, where := c.object.Maps[name], "map "+name
		if m.Pinning != ebpf.PinNone {
			c.addf(where, "it is pinned, so that two instances of the probe would share it")
		}
		if !slices.Contains(mapTypes, m.Type) {
			c.addf(where, "maps of type %s are not supported", m.Type)
		}
		if isSwapped(m) {
			c.swapped(name, m)
		}
	}
}

// swapped checks the shape that SWAPPED_MAP gives.
func (c *objectChecker) swapped(name string, m *ebpf.MapSpec) {
	where := "map " + name
	switch {
	case m.InnerMap == nil:
		c.addf(where, "an array of maps without an inner map: declare it with SWAPPED_MAP")
		return
	case m.MaxEntries != 1:
		c.addf(where, "an array of %d maps, where SWAPPED_MAP has 1", m.MaxEntries)
	case m.InnerMap.Type != ebpf.Hash && m.InnerMap.Type != ebpf.PerCPUHash:
		c.addf(where, "a swapped map is a HASH or a PERCPU_HASH, not a %s", m.InnerMap.Type)
	}
	overflow, ok := c.object.Maps[overflowMap(name)]
	switch {
	case !ok:
		c.addf(where, "there is no %s for what does not fit: declare it with SWAPPED_MAP", overflowMap(name))
	case overflow.Type != ebpf.PerCPUArray || overflow.MaxEntries != 1 || overflow.ValueSize != m.InnerMap.ValueSize:
		c.addf("map "+overflowMap(name), "it is not one per-CPU cell of %d bytes", m.InnerMap.ValueSize)
	}
}

func (c *objectChecker) variables() {
	for _, name := range sortedKeys(c.spec.Options) {
		option := c.spec.Options[name]
		size := uint32(0)
		if option.Type == OptionBool || option.Type == OptionCIDRs {
			size = 1
		}
		if option.Variable != "" {
			c.variable("options."+name+".variable", option.Variable, size)
		}
		if option.Map != "" {
			c.optionMap("options."+name+".map", option)
		}
	}
	for _, name := range sortedKeys(c.spec.Enumerators) {
		c.variable("enumerators."+name, name, 0)
	}
	for _, name := range sortedKeys(c.spec.Dimensions) {
		if v := c.spec.Dimensions[name].Variable; v != "" {
			c.variable("dimensions."+name+".variable", v, 1)
		}
	}
	for _, name := range sortedKeys(c.spec.Metrics) {
		if v := c.spec.Metrics[name].Variable; v != "" {
			c.variable("metrics."+name+".variable", v, 1)
		}
	}
}

// variable checks a constant that is set before loading; size 0 is any integer's.
func (c *objectChecker) variable(where, name string, size uint32) {
	v, ok := c.object.Variables[name]
	if !ok {
		c.add(where, Unknown("variable", name, slices.Collect(maps.Keys(c.object.Variables))))
		return
	}
	switch have := v.Size(); {
	case !v.Constant():
		c.addf(where, "variable %s is not `const volatile`", name)
	case size != 0 && have != size:
		c.addf(where, "variable %s has %d bytes, where %d are wanted", name, have, size)
	case have != 1 && have != 2 && have != 4 && have != 8:
		c.addf(where, "variable %s has %d bytes, which is no integer", name, have)
	}
}

// optionMap checks a map that an option fills, or gives its size.
func (c *objectChecker) optionMap(where string, option Option) {
	m, ok := c.object.Maps[option.Map]
	switch {
	case !ok:
		c.add(where, Unknown("map", option.Map, slices.Collect(maps.Keys(c.object.Maps))))
	case option.Type == OptionCIDRs && (m.Type != ebpf.LPMTrie || m.KeySize != cidrKeySize || m.ValueSize != cidrValueSize):
		c.addf(where, "map %s is not an LPM_TRIE with keys of %d and values of %d bytes", option.Map, cidrKeySize, cidrValueSize)
	case option.Type == OptionEntries && m.Type != ebpf.Hash && m.Type != ebpf.LRUHash && m.Type != ebpf.PerCPUHash:
		c.addf(where, "map %s is a %s, the size of which is not the user's to choose", option.Map, m.Type)
	}
}

// tableTypes are the maps that can become metrics. An LRU hash is none: it forgets without a trace.
var tableTypes = []ebpf.MapType{ebpf.Hash, ebpf.Array, ebpf.PerCPUHash, ebpf.PerCPUArray, ebpf.ArrayOfMaps}

func (c *objectChecker) metrics() {
	for _, name := range sortedKeys(c.spec.Metrics) {
		metric, where := c.spec.Metrics[name], "metrics."+name
		m, ok := c.object.Maps[metric.Map]
		if !ok {
			c.add(where+".map", Unknown("map", metric.Map, slices.Collect(maps.Keys(c.object.Maps))))
			continue
		}
		if !slices.Contains(tableTypes, m.Type) {
			c.addf(where+".map", "map %s is a %s, which can not become a metric", metric.Map, m.Type)
			continue
		}
		if row(m) == nil {
			continue // said before
		}
		c.columns(where, metric, row(m))
		if row(m).Value == nil {
			continue // said before
		}
		if metric.Value != "" {
			c.summed(where+".value", m, metric, metric.Value)
		}
		for i, point := range metric.Points {
			c.summed(fmt.Sprintf("%s.points[%d].value", where, i), m, metric, point.Value)
		}
	}
}

func (c *objectChecker) columns(where string, metric Metric, m *ebpf.MapSpec) {
	if m.Value == nil || m.Key == nil {
		c.addf(where+".map", "map %s has no types: declare it with __type(key, ...) and __type(value, ...)", metric.Map)
		return
	}
	if metric.Value != "" {
		c.field(where+".value", m.Value, metric.Value)
	}
	for i, point := range metric.Points {
		c.field(fmt.Sprintf("%s.points[%d].value", where, i), m.Value, point.Value)
	}
	for _, name := range sortedKeys(metric.Attributes) {
		if dimension, ok := c.spec.Dimensions[name]; ok {
			c.field(where+".attributes."+name, m.Key, dimension.Field)
		}
	}
}

func (c *objectChecker) field(where string, t btf.Type, path string) {
	if _, err := layout.FieldOf(t, path); err != nil {
		c.add(where, err)
	}
}

// maxEventTypes is EVENT_TYPES_MAX of bpf/include/event.h.
const maxEventTypes = 16

func (c *objectChecker) events() {
	if len(c.spec.Events) == 0 {
		return
	}
	c.eventSupport()
	ring, ids := "", make(map[uint64]string)
	for _, name := range sortedKeys(c.spec.Events) {
		event, where := c.spec.Events[name], "events."+name
		if m, ok := c.object.Maps[event.Ring]; !ok {
			c.add(where+".ring", Unknown("map", event.Ring, slices.Collect(maps.Keys(c.object.Maps))))
		} else if m.Type != ebpf.RingBuf {
			c.addf(where+".ring", "map %s is a %s and not a RINGBUF", event.Ring, m.Type)
		}
		if ring == "" {
			ring = event.Ring
		} else if ring != event.Ring {
			c.addf(where+".ring", "%s is a second ring buffer: a probe has one, here %s", event.Ring, ring)
		}
		id, ok := c.object.enumerators[event.ID]
		switch {
		case !ok:
			c.add(where+".id", fmt.Errorf("%w (%w)", Unknown("enumerator", event.ID, slices.Collect(maps.Keys(c.object.enumerators))), errNotInBTF))
		case id >= maxEventTypes:
			c.addf(where+".id", "%s is %d, where the last is %d", event.ID, id, maxEventTypes-1)
		case ids[id] != "":
			c.addf(where+".id", "%s is %d, as that of %s is", event.ID, id, ids[id])
		default:
			ids[id] = name
		}
		c.record(where, event)
	}
}

// eventSupport checks what bpf/include/event.h brings.
func (c *objectChecker) eventSupport() {
	if v, ok := c.object.Variables[eventConfigVariable]; !ok {
		c.addf("events", "the object has no %s: include event.h", eventConfigVariable)
	} else if v.Size() != maxEventTypes*eventConfigSize {
		c.addf("events", "%s has %d bytes, where %d are wanted", eventConfigVariable, v.Size(), maxEventTypes*eventConfigSize)
	}
	if m, ok := c.object.Maps[eventStatsMap]; !ok {
		c.addf("events", "the object has no map %s: include event.h", eventStatsMap)
	} else if m.Type != ebpf.PerCPUArray || m.ValueSize != eventStatsSize || m.MaxEntries < maxEventTypes {
		c.addf("events", "map %s is not %d per-CPU cells of %d bytes", eventStatsMap, maxEventTypes, eventStatsSize)
	}
	if m, ok := c.object.Maps[eventFiltersMap]; ok && (m.Type != ebpf.Hash || m.KeySize != eventFilterKeySize || m.ValueSize != 1) {
		c.addf("events", "map %s is not a hash of %d-byte keys", eventFiltersMap, eventFilterKeySize)
	}
}

var errNotInBTF = errors.New("the BTF has only types that something global has")

var errNoHeader = errors.New("its first member is not a struct event_header")

func (c *objectChecker) record(where string, event Event) {
	record := c.object.record(event.Type)
	if record == nil {
		c.add(where+".type", fmt.Errorf("%w (%w)", Unknown("struct", event.Type, c.object.structs()), errNotInBTF))
		return
	}
	if len(record.Members) == 0 || record.Members[0].Type.TypeName() != "event_header" {
		c.addf(where+".type", "struct %s: %w", event.Type, errNoHeader)
	}
	for _, name := range sortedKeys(event.Attributes) {
		c.field(where+".attributes."+name, record, event.Attributes[name].Field)
	}
}

// record finds the struct of an event's records, nil when there is none.
func (o *object) record(name string) *btf.Struct {
	var t *btf.Struct
	if err := o.Types.TypeByName(name, &t); err != nil {
		return nil
	}
	return t
}

// structs are the names of all structs that are records: those that start with an event_header.
func (o *object) structs() []string {
	var names []string
	for t, err := range o.Types.All() {
		if err != nil {
			return names
		}
		s, ok := t.(*btf.Struct)
		if ok && len(s.Members) > 0 && s.Members[0].Type.TypeName() == "event_header" {
			names = append(names, s.Name)
		}
	}
	return names
}
