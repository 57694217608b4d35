// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package rows makes a swapped map full of rows, for benchmarks of snapshots: flows, each told by five fields, with a
// counter of bytes.
package rows

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/internal/snapshot"
)

// Table is a swapped map as a probe has it, with a way to fill it.
type Table struct {
	// Probe and Table are what package emit takes.
	Probe *probe.Probe
	Table *probe.Table

	outer *ebpf.Map
	inner [2]*ebpf.Map
	ids   [2]ebpf.MapID
	// What Fill writes, and where Drain reads to.
	keys, keysOut     []key
	values, valuesOut []value
}

// New makes a map of n rows. Two of the five attributes are addresses as text, or all are numbers.
func New(n int, addresses bool) (_ *Table, err error) {
	t := &Table{
		keys: keys(n, addresses), keysOut: make([]key, n),
		values: make([]value, n), valuesOut: make([]value, n),
	}
	for i := range t.values {
		t.values[i][0] = uint64(i) + 1
	}
	defer func() {
		if err != nil {
			_ = t.Close() // the other error is why
		}
	}()
	spec := &ebpf.MapSpec{Name: "bench_rows", Type: ebpf.Hash, KeySize: keySize, ValueSize: valueSize, MaxEntries: uint32(n)}
	for i := range t.inner {
		if t.inner[i], err = ebpf.NewMap(spec); err != nil {
			return nil, fmt.Errorf("create a map of %d rows: %w", n, err)
		}
		info, err := t.inner[i].Info()
		if err != nil {
			return nil, fmt.Errorf("get the map's id: %w", err)
		}
		t.ids[i], _ = info.ID()
	}
	t.outer, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "bench_swapped", Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: spec,
	})
	if err != nil {
		return nil, fmt.Errorf("create an array of maps: %w", err)
	}
	source, err := snapshot.NewSwapped(t.outer, t.inner, nil)
	if err != nil {
		return nil, err
	}
	keyType, valueType := types(addresses)
	t.Table = &probe.Table{
		Map: "rows", Table: source, Key: keyType, Value: valueType, KeySize: keySize, Metrics: []string{Metric},
	}
	t.Probe = &probe.Probe{Spec: declare(addresses), Tables: []*probe.Table{t.Table}}
	t.Probe.Settings.MaxSeries = n
	t.Probe.Settings.Metrics = map[string]probe.MetricSettings{Metric: {Attributes: Attributes}}
	return t, nil
}

// Close gives the maps back.
func (t *Table) Close() error {
	var errs []error
	if t.Table != nil {
		errs = append(errs, t.Table.Close())
	}
	for _, m := range []*ebpf.Map{t.outer, t.inner[0], t.inner[1]} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

// active is the map that a program would write now.
func (t *Table) active() (*ebpf.Map, error) {
	var id ebpf.MapID
	if err := t.outer.Lookup(uint32(0), &id); err != nil {
		return nil, fmt.Errorf("look up the slot: %w", err)
	}
	for i := range t.ids {
		if t.ids[i] == id {
			return t.inner[i], nil
		}
	}
	return nil, fmt.Errorf("the slot has map %d, which is none of these", id)
}

// Fill writes all rows, as programs would have.
func (t *Table) Fill() error {
	m, err := t.active()
	if err != nil {
		return err
	}
	if n, err := m.BatchUpdate(t.keys, t.values, nil); err != nil || n != len(t.keys) {
		return fmt.Errorf("wrote %d of %d rows: %w", n, len(t.keys), err)
	}
	return nil
}

// Drain is the floor of a snapshot: it reads and clears all rows with BPF_MAP_LOOKUP_AND_DELETE_BATCH as cilium/ebpf has it, into
// buffers with room for all of them, and looks at none. It returns their number.
func (t *Table) Drain() (int, error) {
	m, err := t.active()
	if err != nil {
		return 0, err
	}
	total := 0
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookupAndDelete(&cursor, t.keysOut, t.valuesOut, nil)
		total += n
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return total, nil
		}
		if err != nil {
			return total, fmt.Errorf("read and clear the map: %w", err)
		}
	}
}
