// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/test/capability"
	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// tryTimeout is what one try may take.
const tryTimeout = time.Minute

// tryCommand makes the program observe the configuration that is its argument, in JSON.
const tryCommand = "try"

func try(config string) error {
	var values map[string]any
	if err := json.Unmarshal([]byte(config), &values); err != nil {
		return err
	}
	o, err := observe(values)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(o)
}

// trier observes a configuration with just these capabilities.
type trier func(set []string, config map[string]any) (observation, error)

// tryWith is one, in a process of the user nobody.
func tryWith(set []string, config map[string]any) (o observation, err error) {
	b, err := json.Marshal(config)
	if err != nil {
		return o, err
	}
	capabilities, err := capability.Numbers(set)
	if err != nil {
		return o, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), tryTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", tryCommand, string(b))
	cmd.Dir, cmd.SysProcAttr = "/", unprivileged(capabilities...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) } // which tells what it was doing
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return o, fmt.Errorf("with %s: %w: %s", strings.Join(set, " "), err, complaint.String())
	}
	return o, json.Unmarshal(out.Bytes(), &o)
}

// privileges finds the smallest set of capabilities for each probe, as it is by default and with all that it has; tries what is lost when one of all
// those is missing; and runs the probes' own tests with the set for everything.
func privileges(plan *outcome.Plan, s setting, tell func(outcome.Line)) error {
	specs, err := probe.Builtin(bpf.Probes)
	if err != nil {
		return err
	}
	_, permitted, err := capability.Current()
	if err != nil {
		return err
	}
	everything, err := search(specs, permitted.Names(), tryWith, tell)
	return errors.Join(err, unprivilegedSuites(plan, s, everything, tell))
}

// search tells of the smallest sets, in the order of the probes' names, and returns those for everything.
func search(specs map[string]*probe.Spec, all []string, try trier, tell func(outcome.Line)) (everything map[string][]string, err error) {
	var errs []error
	everything = make(map[string][]string)
	needs := make(map[string][]string)
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		for _, what := range []string{outcome.Defaults, outcome.Everything} {
			var config map[string]any
			if what == outcome.Everything {
				config = allOf(specs[name])
			}
			p, err := smallest(all, alone(name, config), try)
			if err != nil {
				errs = append(errs, fmt.Errorf("privileges of %s: %w", name, err))
				continue
			}
			p.Probe, p.What = name, what
			needs[name] = append(needs[name], p.Capabilities...)
			if what == outcome.Everything {
				everything[name] = p.Capabilities
			}
			tell(outcome.Line{Privileges: p})
		}
	}
	return everything, errors.Join(append(errs, oneMissing(specs, needs, try))...)
}

// alone is a receiver's configuration with one probe. One that sees packets sees those of the loopback.
func alone(name string, config map[string]any) map[string]any {
	return map[string]any{"collection_interval": "1h", "probes": map[string]any{name: withInterface(name, config)}}
}

func withInterface(name string, config map[string]any) map[string]any {
	with := map[string]any{"interfaces": []any{"lo"}}
	maps.Copy(with, config)
	if _, err := configuration(map[string]any{"probes": map[string]any{name: with}}); err != nil {
		return config // it sees none
	}
	return with
}

// allOf enables all that a probe has.
func allOf(spec *probe.Spec) map[string]any {
	metrics, events := make(map[string]any), make(map[string]any)
	on := map[string]any{"enabled": true}
	for name := range spec.Metrics {
		metrics[name] = on
	}
	for name := range spec.Events {
		events[name] = on
	}
	return map[string]any{"metrics": metrics, "events": events}
}

// smallest searches. A set is enough when nothing is missed with it, in words or in data, that there is with all. What is missing with all,
// because the kernel lacks something, is noted.
func smallest(all []string, config map[string]any, try trier) (*outcome.Privileges, error) {
	whole, err := try(all, config)
	if err != nil {
		return nil, err
	}
	switch never := whole.Complaints; {
	case len(whole.Data) > 0:
	case len(never) > 0:
		return &outcome.Privileges{Never: never}, nil
	default:
		return nil, errors.New("with all capabilities no data arrived")
	}
	enough := func(set []string) (bool, observation, error) {
		o, err := try(set, config)
		o.Complaints = beyond(whole, o)
		o.Warnings = slices.DeleteFunc(o.Warnings, func(s string) bool { return slices.Contains(whole.Warnings, s) })
		// One that names a right is about what the right would give on top, and is told in the table.
		baseless := slices.ContainsFunc(o.Warnings, func(s string) bool { return !strings.Contains(s, "CAP_") })
		return len(o.Complaints) == 0 && !baseless && contains(o.Data, whole.Data), o, err
	}
	set, err := asTold(all, enough)
	if err != nil {
		return nil, err
	}
	_, last, err := enough(set)
	if err != nil {
		return nil, err
	}
	for {
		p := &outcome.Privileges{Capabilities: set, Without: make(map[string]string), Never: whole.Complaints}
		for _, name := range p.Capabilities {
			less := without(set, name)
			ok, o, err := enough(less)
			if err != nil {
				return nil, err
			}
			if ok {
				set, last = less, o
				continue
			}
			p.Without[name] = strings.Join(o.Complaints, "; ")
			if len(o.Complaints) != 1 || !strings.Contains(o.Complaints[0], name) {
				return nil, fmt.Errorf("without %s, it does not say so in one sentence: %q", name, o.Complaints)
			}
		}
		if len(set) == len(p.Capabilities) {
			p.Warned = last.Warnings
			return p, nil // each is needed
		}
	}
}

// beyond are the complaints of one that are not of the whole.
func beyond(whole, o observation) []string {
	return slices.DeleteFunc(slices.Clone(o.Complaints), func(s string) bool {
		return slices.ContainsFunc(whole.Complaints, func(known string) bool { return reason(known) == reason(s) })
	})
}

// reason is the part of a complaint that tells why, without what is missing for it: that may have two reasons, and is told of once.
func reason(complaint string) string {
	_, why, ok := strings.Cut(complaint, " not available: ")
	if !ok {
		return complaint
	}
	return why
}

// asTold begins with no capability and grants what the receiver says is missing, until nothing is; where that leads to nothing, all.
func asTold(all []string, enough func([]string) (bool, observation, error)) ([]string, error) {
	var set []string
	for {
		ok, o, err := enough(set)
		if ok || err != nil {
			return set, err
		}
		told := strings.ReplaceAll(strings.Join(o.Complaints, " "), "(or CAP_SYS_ADMIN)", "")
		more := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !slices.Contains(set, name) && !strings.Contains(told, name) })
		if len(more) == len(set) {
			return all, nil
		}
		set = more
	}
}

func without(set []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(set), func(s string) bool { return s == name })
}

// contains tells whether all of some are there.
func contains(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// oneMissing takes one capability after another away from a receiver with all probes: those that do not need it must not notice, and each of the others
// has to say so in one sentence, or the receiver for all of them.
func oneMissing(specs map[string]*probe.Spec, needs map[string][]string, try trier) error {
	probes := make(map[string]any)
	union := make(map[string]bool)
	for name, spec := range specs {
		probes[name] = withInterface(name, allOf(spec))
		for _, c := range needs[name] {
			union[c] = true
		}
	}
	config := map[string]any{"collection_interval": "1h", "probes": probes}
	all := slices.Sorted(maps.Keys(union))
	whole, err := try(all, config)
	if err != nil {
		return err
	}
	var errs []error
	for _, missing := range all {
		o, err := try(without(all, missing), config)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, said(slices.Sorted(maps.Keys(specs)), needs, missing, beyond(whole, o)))
		for _, name := range slices.Sorted(maps.Keys(specs)) {
			if slices.Contains(needs[name], missing) {
				continue
			}
			spec := specs[name]
			for _, data := range whole.Data {
				_, metric := spec.Metrics[data]
				_, event := spec.Events[data]
				if (metric || event) && !slices.Contains(o.Data, data) {
					errs = append(errs, fmt.Errorf("%s needs no %s, and without it %s does not arrive: %q", name, missing, data, o.Complaints))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// said holds complaints against what is missing: each names it, and there is one for each probe that needs it. One that names no probe is for all.
func said(probes []string, needs map[string][]string, missing string, complaints []string) error {
	var errs []error
	count := make(map[string]int)
	for _, c := range complaints {
		if !strings.Contains(c, missing) {
			errs = append(errs, fmt.Errorf("without %s, something else is said to be missing: %q", missing, c))
		}
		of := ""
		if match := probeOf.FindStringSubmatch(c); match != nil {
			of = match[1]
		}
		count[of]++
	}
	for _, name := range probes {
		n, want := count[name]+count[""], 0
		if slices.Contains(needs[name], missing) {
			want = 1
		}
		if n != want {
			errs = append(errs, fmt.Errorf("without %s, %s tells of it in %d sentences, and not in %d: %q", missing, name, n, want, complaints))
		}
	}
	return errors.Join(errs...)
}

// probeOf is how a complaint of one probe begins.
var probeOf = regexp.MustCompile(`^(?:attach )?probe (\w+): `)
