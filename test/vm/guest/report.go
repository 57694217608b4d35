// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// report loads and attaches each probe with all that it has, and tells what became of its programs.
func report(tell func(outcome.Line)) error {
	specs, err := probe.Builtin(bpf.Probes)
	if err != nil {
		return err
	}
	k := kernel.New(kernel.Options{})
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		if err := reportProbe(specs[name], k, tell); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func reportProbe(spec *probe.Spec, k *kernel.Kernel, tell func(outcome.Line)) error {
	settings, err := everything(spec)
	if err != nil {
		return err
	}
	unsupported := func(err error) bool { return errors.Is(err, kernel.ErrNotSupported) }
	p, err := probe.Load(spec, settings, environmentOf(k))
	if err != nil {
		tell(outcome.Line{Missing: &outcome.Missing{Probe: spec.Name, Why: explain(err), Unsupported: unsupported(err)}})
		return nil
	}
	defer p.Close()
	if !slices.ContainsFunc(p.Programs, func(info probe.ProgramInfo) bool { return info.Instructions > 0 }) {
		if err := count(p.Programs, spec, settings, k); err != nil {
			return fmt.Errorf("load %s for its instructions: %w", spec.Name, err)
		}
	}
	if err := p.Attach(); err != nil {
		tell(outcome.Line{Missing: &outcome.Missing{Probe: spec.Name, Why: explain(err)}})
		return nil
	}
	if err := p.Collect(context.Background()); err != nil {
		return fmt.Errorf("collect %s: %w", spec.Name, err)
	}
	for _, info := range p.Programs {
		program := &outcome.Program{
			Probe: spec.Name, Name: info.Name, Hook: info.Hook, Role: info.Role, Candidate: info.Candidate,
			Taken: info.Taken, Instructions: info.Instructions,
		}
		if info.Err != nil {
			program.Why, program.Unsupported = explain(info.Err), unsupported(info.Err)
		}
		tell(outcome.Line{Program: program})
	}
	for _, name := range slices.Sorted(maps.Keys(p.Missing)) {
		why := p.Missing[name]
		tell(outcome.Line{Missing: &outcome.Missing{Probe: spec.Name, Name: name, Why: explain(why), Unsupported: unsupported(why)}})
	}
	if err := p.Close(); err != nil {
		return fmt.Errorf("close %s: %w", spec.Name, err)
	}
	return nil
}

func environmentOf(k *kernel.Kernel) probe.Environment {
	return probe.Environment{Kernel: k, CgroupController: -1}
}

// count loads a probe another time on a kernel that does not keep the numbers of instructions, for the verifier's statistics. What the verifier says of
// programs that it refuses is of the first time.
func count(programs []probe.ProgramInfo, spec *probe.Spec, settings probe.Settings, k *kernel.Kernel) error {
	env := environmentOf(k)
	env.VerifierStatistics = true
	p, err := probe.Load(spec, settings, env)
	if err != nil {
		return err
	}
	// Both times, the programs are listed in the spec's order.
	for i := range programs {
		programs[i].Instructions = p.Programs[i].Instructions
	}
	return p.Close()
}

// everything enables all metrics with all their attributes, and all events.
func everything(spec *probe.Spec) (probe.Settings, error) {
	settings, err := spec.Resolve(probe.Config{})
	if err != nil {
		return settings, err
	}
	settings.Metrics = make(map[string]probe.MetricSettings)
	for name, metric := range spec.Metrics {
		settings.Metrics[name] = probe.MetricSettings{Attributes: slices.Sorted(maps.Keys(metric.Attributes))}
	}
	settings.Events = make(map[string]probe.EventSettings)
	for name := range spec.Events {
		settings.Events[name] = probe.EventSettings{}
	}
	return settings, nil
}

// explain has the verifier's log where there is one.
func explain(err error) string {
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		return fmt.Sprintf("%v\n%+v", err, verifier)
	}
	return err.Error()
}
