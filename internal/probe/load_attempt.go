// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/ebpfreceiver/ebpfreceiver/internal/ring"
	"github.com/ebpfreceiver/ebpfreceiver/internal/snapshot"
)

// ProgramError says that the kernel did not take a program.
type ProgramError struct {
	Program string
	// Doing is "load" or "attach".
	Doing string
	// Err is the reason; a [*ebpf.VerifierError] has the verifier's log.
	Err error
}

func (e *ProgramError) Error() string {
	if e.Doing == doingLoad { // which the reason says
		return fmt.Sprintf("program %s: %v", e.Program, e.Err)
	}
	return fmt.Sprintf("program %s: %s: %v", e.Program, e.Doing, e.Err)
}

func (e *ProgramError) Unwrap() error { return e.Err }

const (
	doingLoad   = "load"
	doingAttach = "attach"
)

// attempt loads a plan. Either it succeeds, or it tells which candidates failed, or nothing can be done.
func (l *loader) attempt(p *plan) (_ *Probe, failed map[candidateID]error, err error) {
	o := l.object.copy()
	filters := filterKeys(l.spec, o, p.events)
	l.sizeMaps(p, o, len(filters))
	if err := setVariables(l.spec, o, p, l.settings, l.env); err != nil {
		return nil, nil, err
	}
	for _, name := range sortedKeys(l.numbers) {
		if err := setInteger(o.Variables[name], l.numbers[name]); err != nil {
			return nil, nil, fmt.Errorf("enumerator %s: %w", l.spec.Enumerators[name], err)
		}
	}
	fillSections(p, o)

	probe := &Probe{
		Spec: l.spec, Settings: l.settings, Missing: p.missing, Without: p.optional, AddressNames: addressNames(l.spec, l.settings),
		EventIDs: make(map[string]uint32), EventTypes: make(map[string]*btf.Struct),
		maps: make(map[string]*ebpf.Map), inner: make(map[string][2]*ebpf.Map),
		refused: l.env.Kernel.Refused, env: l.env,
	}
	defer func() {
		if err != nil || failed != nil {
			_ = probe.Close()
		}
	}()
	if failed = l.loadMaps(p, o, probe); len(failed) > 0 {
		return nil, failed, nil
	}
	if failed = l.loadPrograms(p, o, probe); len(failed) > 0 {
		return nil, failed, nil
	}
	if err := l.openTables(p, o, probe); err != nil {
		return nil, nil, err
	}
	if err := l.openEvents(p, o, probe, filters); err != nil {
		return nil, nil, err
	}
	l.describe(p, probe)
	return probe, nil, nil
}

// loadMaps creates the maps that the plan's programs use. A map that can not be created fails the candidates that use it.
func (l *loader) loadMaps(p *plan, o *object, probe *Probe) map[candidateID]error {
	for _, name := range sortedKeys(p.maps) {
		spec, ok := o.Maps[name]
		if !ok {
			continue
		}
		m, err := l.createMap(name, spec)
		if err == nil {
			probe.maps[name] = m
			if isSwapped(spec) {
				probe.inner[name], err = l.createInner(name, m, spec.InnerMap)
			}
			if err == nil {
				err = l.fillCIDRs(name, m)
			}
		}
		if err != nil {
			failed := make(map[candidateID]error)
			for role, i := range p.chosen {
				candidate := l.spec.Programs[role].Candidates[i]
				if slices.ContainsFunc(candidate.Programs, func(program string) bool {
					return slices.Contains(l.object.references[program], name)
				}) {
					failed[candidateID{role, i}] = candidateError(candidate, err)
				}
			}
			return failed
		}
	}
	return nil
}

// loadPrograms loads each program for itself, so that one that fails is known by name, and tries whether those attach that
// often do not.
func (l *loader) loadPrograms(p *plan, o *object, probe *Probe) map[candidateID]error {
	failed := make(map[candidateID]error)
	fail := func(name, doing string, err error) {
		for _, id := range l.users(p, name) {
			if failed[id] == nil {
				failed[id] = &ProgramError{Program: name, Doing: doing, Err: err}
			}
		}
	}
	for _, name := range p.programs {
		spec := o.Programs[name]
		loaded := &loadedProgram{name: name, spec: hookOnly(spec)}
		var err error
		if spec.Type == ebpf.SocketFilter {
			loaded.instances = l.newInstances(name, spec, o, probe.maps)
			loaded.Program, err = loaded.instances.load(typical) // which tells whether the kernel takes it
		} else {
			loaded.Program, err = l.loadProgram(name, spec, o, probe.maps)
		}
		if err != nil {
			fail(name, doingLoad, err)
			continue
		}
		probe.programs = append(probe.programs, loaded)
		if !attachMayFail(spec) {
			continue
		}
		trial, err := attach(loaded.Program, spec, nil)
		if err != nil {
			fail(name, doingAttach, l.env.Kernel.Refused("attach program "+name, err))
			continue
		}
		_ = trial.Close() // it is attached again by Attach
	}
	return failed
}

func (l *loader) loadProgram(name string, spec *ebpf.ProgramSpec, o *object, loaded map[string]*ebpf.Map) (*ebpf.Program, error) {
	coll := &ebpf.CollectionSpec{
		Maps:      make(map[string]*ebpf.MapSpec),
		Programs:  map[string]*ebpf.ProgramSpec{name: spec},
		Types:     o.Types,
		ByteOrder: o.ByteOrder,
	}
	replacements := make(map[string]*ebpf.Map)
	for _, m := range o.references[name] {
		if loaded[m] != nil {
			coll.Maps[m], replacements[m] = o.Maps[m], loaded[m]
		}
	}
	options := ebpf.CollectionOptions{MapReplacements: replacements, Cache: l.env.Kernel.Cache()}
	if l.env.VerifierStatistics {
		options.Programs.LogLevel = ebpf.LogLevelStats
	}
	c, err := ebpf.NewCollectionWithOptions(coll, options)
	if err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner // without the program's name, which a ProgramError has
		}
		return nil, l.env.Kernel.NotLoaded(spec, err)
	}
	program := c.Programs[name]
	delete(c.Programs, name)
	closeMaps(c.Maps) // descriptors of its own
	return program, nil
}

// hookOnly is what attaching needs of a program's spec: not its instructions.
func hookOnly(spec *ebpf.ProgramSpec) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Name: spec.Name, Type: spec.Type, AttachType: spec.AttachType, AttachTo: spec.AttachTo, SectionName: spec.SectionName,
	}
}

// openTables makes the enabled metrics' maps readable.
func (l *loader) openTables(p *plan, o *object, probe *Probe) error {
	tables := l.tables(p)
	for _, name := range sortedKeys(tables) {
		m, spec := probe.maps[name], o.Maps[name]
		if m == nil || len(tables[name].metrics) == 0 {
			continue
		}
		// The types as they are in the object: the key may have been cut.
		types := row(l.object.Maps[name])
		t := &Table{
			Map: name, Key: types.Key, Value: types.Value, KeySize: int(row(spec).KeySize), Metrics: tables[name].metrics,
		}
		var err error
		if isSwapped(spec) {
			t.Table, err = snapshot.NewSwapped(m, probe.inner[name], probe.maps[overflowMap(name)])
		} else {
			t.Table, err = snapshot.NewPlain(m)
		}
		if err != nil {
			return fmt.Errorf("read map %s: %w", name, err)
		}
		probe.Tables = append(probe.Tables, t)
	}
	return nil
}

// openEvents makes the ring readable and fills the filters.
func (l *loader) openEvents(p *plan, o *object, probe *Probe, filters []filterKey) error {
	ringName := ""
	for _, name := range sortedKeys(p.events) {
		event := l.spec.Events[name]
		probe.EventIDs[name] = uint32(o.enumerators[event.ID])
		probe.EventTypes[name] = l.object.record(event.Type)
		ringName = event.Ring
	}
	if ringName == "" {
		return nil
	}
	if len(filters) > 0 && probe.maps[eventFiltersMap] == nil {
		return errors.New("the object has no filters: include event.h and call event_begin")
	}
	for _, key := range filters {
		if err := probe.maps[eventFiltersMap].Put(key, uint8(1)); err != nil {
			return fmt.Errorf("fill map %s: %w", eventFiltersMap, err)
		}
	}
	reader, err := ring.NewReader(probe.maps[ringName])
	if err != nil {
		return fmt.Errorf("read ring buffer %s: %w", ringName, err)
	}
	probe.Ring = reader
	return nil
}

// describe lists what became of every program of the roles that were looked at.
func (l *loader) describe(p *plan, probe *Probe) {
	loaded := make(map[string]*loadedProgram)
	for _, program := range probe.programs {
		loaded[program.name] = program
	}
	for _, role := range sortedKeys(l.spec.Programs) {
		chosen, taken := p.chosen[role]
		for i, candidate := range l.spec.Programs[role].Candidates {
			for _, name := range candidate.Programs {
				info := ProgramInfo{
					Role: role, Candidate: i, Name: name, Hook: l.object.Programs[name].SectionName,
					Taken: taken && chosen == i, Err: l.excluded[candidateID{role, i}],
				}
				if info.Taken {
					info.Instructions = loaded[name].instructions()
				}
				probe.Programs = append(probe.Programs, info)
			}
		}
	}
}
