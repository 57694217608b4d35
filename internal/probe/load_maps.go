// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// tableSpec is what is known of a map that becomes metrics.
type tableSpec struct {
	metrics []string // enabled and available ones, sorted
	rows    uint32   // bound
}

// tables are the maps that any metric of the spec reads, by name; those without metrics feed nothing that is enabled.
func (l *loader) tables(p *plan) map[string]*tableSpec {
	tables := make(map[string]*tableSpec)
	for _, name := range sortedKeys(l.spec.Metrics) {
		m := l.spec.Metrics[name].Map
		if tables[m] == nil {
			tables[m] = &tableSpec{rows: 1}
		}
		settings, enabled := p.metrics[name]
		if !enabled {
			continue
		}
		t := tables[m]
		t.metrics = append(t.metrics, name)
		bound := settings.MaxSeries
		if bound <= 0 {
			bound = l.settings.MaxSeries
		}
		if bound <= 0 {
			bound = DefaultMaxSeries
		}
		t.rows = max(t.rows, uint32(bound))
	}
	return tables
}

// fillSections puts the variables into the data sections.
func fillSections(p *plan, o *object) {
	for name, m := range o.Maps {
		if p.maps[name] && !isSwapped(m) {
			fillSection(m, name, o.Variables)
		}
	}
}

// sizeMaps turns the object's maps into those that the user asked for.
func (l *loader) sizeMaps(p *plan, o *object, filters int) {
	allocates := l.env.Kernel.AllocatesInPrograms()
	tables, sizes := l.tables(p), l.sizes()
	for name, m := range o.Maps {
		if !p.maps[name] {
			continue
		}
		if t, ok := tables[name]; ok {
			l.prepareTable(name, row(m), t, p.metrics, allocates)
		} else {
			setAllocation(m, false, allocates)
		}
		switch {
		case m.Type == ebpf.RingBuf && len(p.events) > 0:
			m.MaxEntries = uint32(l.settings.RingSize)
		case m.Type == ebpf.RingBuf:
			m.MaxEntries = uint32(os.Getpagesize()) // the least that the kernel allows
		case name == eventFiltersMap:
			m.MaxEntries = uint32(max(filters, 1))
		case isSwapped(m):
			m.Contents = nil
		case sizes[name] > 0:
			m.MaxEntries = sizes[name]
		}
	}
}

// sizes are the numbers of entries of the maps of which the user decides it.
func (l *loader) sizes() map[string]uint32 {
	sizes := make(map[string]uint32)
	for name, option := range l.spec.Options {
		switch v := l.settings.Options[name].(type) {
		case int64:
			if option.Type == OptionEntries {
				sizes[option.Map] = uint32(v)
				sizes[option.Map+slotsSuffix] = slotSets(v)
			}
		case []CIDR:
			sizes[option.Map] = uint32(max(len(stood(v)), 1))
		}
	}
	return sizes
}

func (l *loader) prepareTable(name string, m *ebpf.MapSpec, t *tableSpec, enabled map[string]MetricSettings, allocates bool) {
	switch m.Type {
	case ebpf.Hash, ebpf.PerCPUHash:
		m.MaxEntries = t.rows
		pruneKey(m, keyFields(l.spec, name, enabled))
	case ebpf.Array, ebpf.PerCPUArray:
		if len(t.metrics) == 0 {
			m.MaxEntries = 1
		}
	}
	setAllocation(m, true, allocates)
}

// largeRow is the size of a value from which on a table takes its memory row by row, in bytes: that of a small histogram.
const largeRow = 256

// setAllocation decides whether a hash has its memory from the start or takes it row by row. Programs may be called where the
// ordinary allocator would deadlock, so that rows are allocated only where the kernel has an allocator for programs. A table of
// histograms then uses it, and one of per-CPU values: thousands of them, on every CPU, are a lot of memory to hold for rows that never come.
// What is told apart by many keys at a time should not be per CPU: the kernel keeps few pages for per-CPU values that are made in a hurry, and a row
// that can not be made is counted as overflow.
func setAllocation(m *ebpf.MapSpec, table, allocates bool) {
	if m.Type != ebpf.Hash && m.Type != ebpf.PerCPUHash {
		return
	}
	switch {
	case !allocates:
		m.Flags &^= unix.BPF_F_NO_PREALLOC
	case table && (m.Type == ebpf.PerCPUHash || m.ValueSize >= largeRow):
		m.Flags |= unix.BPF_F_NO_PREALLOC
	}
}

// fillSection puts the variables of a data section into its map's contents.
func fillSection(m *ebpf.MapSpec, name string, variables map[string]*ebpf.VariableSpec) {
	if len(m.Contents) != 1 {
		return
	}
	content, ok := m.Contents[0].Value.([]byte)
	if !ok {
		return
	}
	data := append([]byte(nil), content...) // the object's copies share it
	for _, v := range variables {
		if v.SectionName == name && uint64(v.Offset)+uint64(len(v.Value)) <= uint64(len(data)) {
			copy(data[v.Offset:], v.Value)
		}
	}
	m.Contents = []ebpf.MapKV{{Key: m.Contents[0].Key, Value: data}}
}

// createMap creates one map. Its error names the map.
func (l *loader) createMap(name string, m *ebpf.MapSpec) (*ebpf.Map, error) {
	if isSwapped(m) && l.env.Kernel.Require("func/array_map_meta_equal") == nil {
		// An inner map is made as a template, for the time of this call. Kernels that compare only arrays by their number of
		// entries let it be small.
		m = m.Copy()
		m.InnerMap.MaxEntries = 1
	}
	// Not ebpf.NewMap: only a collection gives data sections the flags that it later compares them with.
	coll, err := ebpf.NewCollectionWithOptions(
		&ebpf.CollectionSpec{Maps: map[string]*ebpf.MapSpec{name: m}},
		ebpf.CollectionOptions{Cache: l.env.Kernel.Cache()},
	)
	if err != nil {
		return nil, l.env.Kernel.Refused("create map "+name, err)
	}
	return coll.Maps[name], nil
}

// createInner creates the two inner maps of a swapped map, and puts the first into the slot.
func (l *loader) createInner(name string, outer *ebpf.Map, m *ebpf.MapSpec) (inner [2]*ebpf.Map, err error) {
	refused := func(err error) error {
		return l.env.Kernel.Refused("create map "+name, fmt.Errorf("create inner map of %s: %w", name, err))
	}
	for i := range inner {
		if inner[i], err = ebpf.NewMap(m); err != nil {
			closeAll(inner[:i])
			return inner, refused(err)
		}
	}
	if err := outer.Put(uint32(0), inner[0]); err != nil {
		closeAll(inner[:])
		return inner, refused(err)
	}
	return inner, nil
}

func closeAll(list []*ebpf.Map) {
	for _, m := range list {
		_ = m.Close() // a descriptor
	}
}

// closeMaps closes what is there.
func closeMaps(all map[string]*ebpf.Map) {
	for _, m := range all {
		_ = m.Close() // a descriptor
	}
}
