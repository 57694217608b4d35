// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/emit"
)

// probeState is what a probe's self-telemetry says of it.
type probeState string

const (
	stateAttached probeState = "attached"
	stateDegraded probeState = "degraded"
	stateFailed   probeState = "failed"
)

// runningProbe is a probe that is attached.
type runningProbe struct {
	*probe.Probe
	resolved resolvedProbe
	outcomes outcomes
	// tables make metrics of the probe's Tables, and overflows count the snapshots in which more came than the limits allow.
	tables    []*emit.Table
	overflows []atomic.Int64
	// records makes log records of what is in the ring; nil when no event is wanted.
	records *emit.Logs
}

// load resolves the configuration, and loads and attaches its probes. The first error is what can not be had here, in
// one sentence each; the second is what ends Start.
func (r *ebpfReceiver) load(ctx context.Context) (missing, fatal error) {
	builtin, err := probe.Builtin(bpf.Probes)
	if err != nil {
		return nil, fmt.Errorf("reading the built-in probes: %w", err)
	}
	var resolved []resolvedProbe
	var mistakes, errs []error
	for _, name := range r.cfg.probeNames() {
		spec, err := r.cfg.spec(name, builtin)
		if c := r.cfg.Probes[name]; err != nil && c.Path != "" && !c.Required {
			// What is wrong in a user's folder costs that probe: the folder is no part of the configuration.
			r.states[name] = stateFailed
			errs = append(errs, err)
			continue
		}
		if err == nil {
			var p resolvedProbe
			if p, err = r.cfg.resolve(name, spec); err == nil {
				resolved = append(resolved, p)
				continue
			}
		}
		mistakes = append(mistakes, err)
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}

	k := r.newKernel()
	defer k.Release()
	if err := k.Missing(); err != nil {
		return r.nothing(resolved, append(errs, err))
	}
	env, err := r.environment(k)
	if err != nil {
		return r.nothing(resolved, append(errs, err))
	}
	errs = append(errs, r.host.nameless)
	r.builder = r.newBuilder(resolved)
	owners := make(map[string]string)
	for _, p := range resolved {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := claim(owners, p)
		if err != nil {
			r.states[p.Name] = stateFailed
		} else {
			err = r.attach(p, env)
			if r.states[p.Name] == stateFailed {
				maps.DeleteFunc(owners, func(_, owner string) bool { return owner == p.Name })
			}
		}
		if err != nil && p.Required {
			return nil, err
		}
		errs = append(errs, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch {
	case len(r.probes) == 0:
		errs = append(errs, r.host.names.close()) // nobody asks for them
	case r.cfg.ProgramStatistics:
		r.statistics, err = k.EnableRunStatistics()
		errs = append(errs, err)
	}
	return errors.Join(errs...), nil
}

// claim makes a probe the owner of its metrics and events: two that make the same would make the same series.
func claim(owners map[string]string, p resolvedProbe) error {
	names := append(slices.Sorted(maps.Keys(p.Settings.Metrics)), slices.Sorted(maps.Keys(p.Settings.Events))...)
	for _, name := range names {
		if owner, ok := owners[name]; ok {
			return fmt.Errorf("probe %s: %s comes from the probe %s already", p.Name, name, owner)
		}
	}
	for _, name := range names {
		owners[name] = p.Name
	}
	return nil
}

// nothing is the outcome when nothing can be had at all: fatal when a probe was required.
func (r *ebpfReceiver) nothing(resolved []resolvedProbe, errs []error) (missing, fatal error) {
	missing = errors.Join(errs...)
	for _, p := range resolved {
		r.states[p.Name] = stateFailed
		if p.Required {
			fatal = missing
		}
	}
	return missing, fatal
}

// environment is what all probes need to know of the host.
func (r *ebpfReceiver) environment(k *kernel.Kernel) (probe.Environment, error) {
	host, err := newHostIdentity(r.cfg)
	if err != nil {
		return probe.Environment{}, err
	}
	r.host = host
	env := probe.Environment{Kernel: k, Logger: r.logger, Root: r.cfg.RootPath, CgroupController: -1, CgroupID: host.cgroups.IDOf}
	h := host.cgroups.Hierarchy()
	r.logger.Debug("containers are found by their cgroups",
		zap.Int("version", h.Version), zap.String("controller", h.Controller), zap.String("mount", h.Mount), zap.String("reason", h.Reason))
	if h.Version == 1 {
		index, err := k.Enumerator("cgroup_subsys_id", h.Controller+"_cgrp_id")
		if err != nil {
			return probe.Environment{}, fmt.Errorf("finding the cgroup controller: %w", err)
		}
		env.CgroupController = int32(index)
	}
	if host.names, err = watchCgroups(host.cgroups, env); err != nil {
		r.logger.Info("containers that end before they are looked up will have no name", zap.Error(err))
	}
	return env, nil
}

// attach brings one probe into the kernel. The error tells what of it is missing; with a part of it there, the probe
// runs all the same.
func (r *ebpfReceiver) attach(resolved resolvedProbe, env probe.Environment) error {
	r.states[resolved.Name] = stateFailed
	// A signal that no pipeline wants is not collected.
	if r.metrics == nil {
		resolved.Settings.Metrics = nil
	}
	if r.logs == nil {
		resolved.Settings.Events = nil
	}
	p, err := probe.Load(resolved.Spec, resolved.Settings, env)
	if errors.Is(err, probe.ErrNothingEnabled) {
		delete(r.states, resolved.Name)
		return nil
	}
	var broken *probe.ObjectError
	if errors.As(err, &broken) {
		err = fmt.Errorf("probe %s: %w", resolved.Name, err) // which names only the file
	}
	if err != nil {
		return err
	}
	running, err := r.prepare(p, resolved)
	if err != nil {
		return errors.Join(fmt.Errorf("probe %s: %w", resolved.Name, err), p.Close())
	}
	if resolved.Spec.Packets {
		r.host.packets = append(r.host.packets, p)
	}
	if err := p.Attach(); err != nil {
		return errors.Join(err, p.Close())
	}
	r.probes = append(r.probes, running)
	for _, program := range p.Programs {
		r.logger.Debug("program", zap.String("probe", resolved.Name), zap.String("role", program.Role), zap.String("program", program.Name),
			zap.String("hook", program.Hook), zap.Bool("taken", program.Taken), zap.Error(program.Err))
	}
	err = errors.Join(probe.Unavailable(resolved.Name, p.Missing), unattached(resolved.Name, p))
	if err == nil {
		r.states[resolved.Name] = stateAttached
	} else {
		r.states[resolved.Name] = stateDegraded
	}
	return err
}

// unattached says which interfaces a probe should see the packets of, and does not.
func unattached(name string, p *probe.Probe) error {
	f := p.Interfaces()
	if f == nil {
		return nil
	}
	missing := make(map[string]error)
	attachments := f.Attachments()
	for _, a := range attachments {
		if a.Err != nil {
			missing["interface "+a.Name] = a.Err
		}
	}
	errs := []error{probe.Unavailable(name, missing)}
	if len(attachments) == 0 {
		errs = append(errs, fmt.Errorf("probe %s: no network interface is what the configuration asks for; one that comes will be attached", name))
	}
	for _, err := range f.Limits() {
		errs = append(errs, fmt.Errorf("probe %s: %w", name, err))
	}
	return errors.Join(errs...)
}

// prepare makes what turns a probe's maps and records into data. The error tells which fields are not what its spec takes them for:
// that is known before anything of the probe runs, and a mistake in a user's probe does not end the others.
func (r *ebpfReceiver) prepare(p *probe.Probe, resolved resolvedProbe) (*runningProbe, error) {
	running := &runningProbe{Probe: p, resolved: resolved, outcomes: newOutcomes(p), overflows: make([]atomic.Int64, len(p.Tables))}
	var errs []error
	for _, t := range p.Tables {
		table, err := emit.NewTable(r.builder, t, p, resolved.SeriesTTL)
		errs = append(errs, err)
		running.tables = append(running.tables, table)
	}
	if p.Ring != nil {
		var err error
		running.records, err = emit.NewLogs(r.logsOptions(resolved), p)
		errs = append(errs, err)
	}
	return running, errors.Join(errs...)
}
