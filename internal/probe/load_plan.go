// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
)

// plan is what to load, as far as it is known before trying.
type plan struct {
	// metrics and events that are enabled and not missing.
	metrics map[string]MetricSettings
	events  map[string]EventSettings
	// missing metrics and events, with the reason.
	missing map[string]error
	// optional things that the chosen candidates go without, with the reason.
	optional map[string]error
	// chosen candidates, by role.
	chosen map[string]int
	// programs of the chosen candidates: roles by name, programs as they are listed.
	programs []string
	// maps that the programs use.
	maps map[string]bool
}

// RoleError says why none of a role's candidates could be taken.
type RoleError struct {
	Role string
	// Errs has one reason for each candidate.
	Errs []error
}

// Error is about capabilities alone where they are all that a candidate lacks: with them, nobody would hear of what the kernel has not for the others.
func (e *RoleError) Error() string {
	var texts, capabilities []string
	for _, err := range e.Errs {
		texts = append(texts, err.Error())
		if lackedCapability(err) != "" {
			capabilities = append(capabilities, err.Error())
		}
	}
	if len(capabilities) > 0 {
		texts = capabilities
	}
	return fmt.Sprintf("role %s: %s", e.Role, strings.Join(texts, "; or "))
}

func (e *RoleError) Unwrap() []error { return e.Errs }

// ErrNotFilled is why a metric is missing whose map no program writes that this kernel can do.
var ErrNotFilled = errors.New("no program that this kernel can do fills its map")

// plan chooses candidates. A role that has none makes what it is for go missing, which may make other roles unnecessary:
// so it goes on until nothing changes.
func (l *loader) plan() *plan {
	p := &plan{
		metrics: maps.Clone(l.settings.Metrics),
		events:  maps.Clone(l.settings.Events),
		missing: make(map[string]error),
	}
	for {
		p.chosen, p.optional = make(map[string]int), make(map[string]error)
		before := len(p.missing)
		for _, name := range sortedKeys(l.spec.Programs) {
			l.choose(p, name)
		}
		if len(p.missing) == before {
			l.collect(p)
		}
		if len(p.missing) == before {
			return p
		}
	}
}

// choose takes the first candidate of a role that is not excluded.
func (l *loader) choose(p *plan, name string) {
	role := l.spec.Programs[name]
	if !p.needs(role) {
		return
	}
	why := &RoleError{Role: name}
	for i, candidate := range role.Candidates {
		id := candidateID{name, i}
		err, known := l.excluded[id]
		if !known {
			err = l.check(candidate)
			l.excluded[id] = err
		}
		if err == nil {
			p.chosen[name] = i
			return
		}
		why.Errs = append(why.Errs, err)
	}
	if role.Optional != "" {
		p.optional[role.Optional] = why
		return
	}
	for _, target := range p.targets(role) {
		p.drop(target, why)
	}
}

// targets are what is enabled, not missing, and needs the role.
func (p *plan) targets(role Role) []string {
	var targets []string
	is := func(name string) bool { return slices.Contains(role.For, name) }
	for name, m := range p.metrics {
		if len(role.For) == 0 || is(name) || slices.ContainsFunc(m.Attributes, is) {
			targets = append(targets, name)
		}
	}
	for name := range p.events {
		if len(role.For) == 0 || is(name) {
			targets = append(targets, name)
		}
	}
	return targets
}

func (p *plan) needs(role Role) bool { return len(p.targets(role)) > 0 }

func (p *plan) drop(name string, why error) {
	delete(p.metrics, name)
	delete(p.events, name)
	p.missing[name] = why
}

// collect lists the programs and maps of the chosen candidates, and drops metrics that they do not fill.
func (l *loader) collect(p *plan) {
	p.programs, p.maps = nil, make(map[string]bool)
	for _, name := range sortedKeys(p.chosen) {
		for _, program := range l.spec.Programs[name].Candidates[p.chosen[name]].Programs {
			if slices.Contains(p.programs, program) {
				continue
			}
			p.programs = append(p.programs, program)
			for _, m := range l.object.references[program] {
				p.maps[m] = true
			}
		}
	}
	for _, name := range sortedKeys(p.metrics) {
		if !p.maps[l.spec.Metrics[name].Map] {
			p.drop(name, ErrNotFilled)
		}
	}
	for _, name := range sortedKeys(p.events) {
		if !p.maps[l.spec.Events[name].Ring] {
			p.drop(name, ErrNotFilled)
		}
	}
}

// check tells what speaks against a candidate, without loading anything of it.
func (l *loader) check(candidate Candidate) error {
	for _, requirement := range candidate.Requires {
		if err := l.env.Kernel.Require(requirement); err != nil {
			return candidateError(candidate, err)
		}
	}
	for _, name := range candidate.Programs {
		program := l.object.Programs[name]
		if !canAttach(program) {
			return candidateError(candidate, &HookError{Program: name, Hook: program.SectionName})
		}
		if err := refusal(l.env.Kernel.CheckProgram(program)); err != nil {
			return candidateError(candidate, err)
		}
		for _, m := range l.object.references[name] {
			spec, ok := l.object.Maps[m]
			if !ok {
				continue // the library's own, which it resolves when it loads the program
			}
			if err := refusal(l.env.Kernel.CheckMap(spec)); err != nil {
				return candidateError(candidate, err)
			}
		}
	}
	return nil
}

// refusal keeps the errors that are answers. That a check could not be made is none: loading will tell.
func refusal(err error) error {
	var permission *kernel.PermissionError
	if errors.Is(err, kernel.ErrNotSupported) || errors.As(err, &permission) {
		return err
	}
	return nil
}

func candidateError(candidate Candidate, err error) error {
	return fmt.Errorf("%s: %w", strings.Join(candidate.Programs, "+"), err)
}

// users are the chosen candidates that have the program.
func (l *loader) users(p *plan, program string) []candidateID {
	var ids []candidateID
	for name, i := range p.chosen {
		if slices.Contains(l.spec.Programs[name].Candidates[i].Programs, program) {
			ids = append(ids, candidateID{name, i})
		}
	}
	return ids
}
