// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"sync"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// matrix is all runs.
type matrix struct {
	options
	fetch *fetcher
	pins  []pin
	log   io.Writer
	work  string
	// packages are those that are selected; all of them are compiled when results are kept, which are compared with them.
	packages, all []string

	mu      sync.Mutex          // of all below, and of keep's file
	built   map[string]binaries // by architecture
	results []*result
}

func newMatrix(o options, fetch *fetcher, pins []pin, log io.Writer) (*matrix, error) {
	for _, expression := range []string{o.kernels, o.environments, o.packages} {
		if _, err := regexp.Compile(expression); err != nil {
			return nil, err
		}
	}
	all, err := kernelPackages(".")
	if err != nil {
		return nil, err
	}
	m := &matrix{options: o, fetch: fetch, pins: pins, log: log, all: all, built: make(map[string]binaries)}
	for _, pkg := range all {
		if matches(o.packages, pkg) && matches(o.environments, whole) {
			m.packages = append(m.packages, pkg)
		}
	}
	m.work, err = os.MkdirTemp("", "test-kernels-")
	return m, err
}

func matches(expression, s string) bool { return regexp.MustCompile(expression).MatchString(s) }

func (m *matrix) runAll(ctx context.Context) error {
	jobs, err := m.guests(ctx)
	if err != nil {
		return err
	}
	jobs = append(jobs, m.host()...)
	err = runJobs(ctx, jobs, m.jobs, func(j *job) error {
		r, err := j.run(ctx)
		if err != nil || r == nil {
			return err
		}
		j.result = r
		return m.note(r)
	})
	for _, j := range jobs {
		if j.result != nil {
			m.results = append(m.results, j.result)
		}
	}
	return errors.Join(err, ctx.Err())
}

// guests are the jobs in virtual machines, with all that they need from the network.
func (m *matrix) guests(ctx context.Context) ([]*job, error) {
	var jobs []*job
	for i := range m.pins {
		p := &m.pins[i]
		if p.Name == userland || !matches(m.kernels, p.String()) || slices.ContainsFunc(m.pins[:i], p.isOf) {
			continue
		}
		files, err := m.folders(ctx, p.isOf)
		if err != nil {
			return nil, err
		}
		root, err := m.folders(ctx, pin{Name: userland, Arch: p.Arch}.isOf)
		if err != nil {
			return nil, err
		}
		for _, e := range environments {
			if matches(m.environments, e.title()) && e.on(p.String()) {
				title := p.String() + ", " + e.title()
				jobs = append(jobs, &job{title: title, long: e.name == "", run: func(ctx context.Context) (*result, error) {
					return m.guest(ctx, *p, guestFiles{kernel: files, root: root}, e, title)
				}})
			}
		}
	}
	return jobs, nil
}

// guest runs one kernel in one environment.
func (m *matrix) guest(ctx context.Context, p pin, files guestFiles, e environment, title string) (r *result, err error) {
	if files.programs, err = m.programs(ctx, p.Arch); err != nil {
		return nil, err
	}
	tell := newProgress(m.log, title, m.verbose)
	todo := plan(e, packagesOn(p.String(), m.packages), m.options.run)
	attempt := func(todo outcome.Plan) *result {
		return runGuest(ctx, p, files, m.work, todo, e.parameters+" "+m.parameters, m.processors, tell)
	}
	// Before it runs: the files may be others afterwards.
	sums, err := m.made(files.programs, p.String(), e, packagesIn(todo))
	if err != nil {
		return nil, err
	}
	r = attempt(todo)
	r.Made = sums
	if failed, ok := again(r, todo); ok && ctx.Err() == nil {
		tell.print("runs again what failed")
		r.amend(attempt(failed))
	}
	tell.print("ended")
	return r, ctx.Err()
}

// host are the jobs on the kernel that is running: the tests, and the search for privileges.
func (m *matrix) host() []*job {
	var jobs []*job
	host := "host " + hostArch
	for _, e := range environments {
		if e.name != "" && e.name != privileges || !e.on(host) || !matches(m.environments, e.title()) || !matches(m.kernels, host) {
			continue
		}
		title := host + ", " + e.title()
		jobs = append(jobs, &job{title: title, long: e.name == "", run: func(ctx context.Context) (*result, error) {
			tell := newProgress(m.log, title, m.verbose)
			if !canBeRoot(ctx) {
				tell.print("left out, for it needs root")
				return nil, nil
			}
			programs, err := m.programs(ctx, hostArch)
			if err != nil {
				return nil, err
			}
			todo := plan(e, packagesOn(host, m.packages), m.options.run)
			sums, err := m.made(programs, host, e, packagesIn(todo))
			if err != nil {
				return nil, err
			}
			r := runHost(ctx, m.work, programs, todo, tell)
			r.Made = sums
			tell.print("ended")
			return r, ctx.Err()
		}})
	}
	return jobs
}

// programs compiles for an architecture, once.
func (m *matrix) programs(ctx context.Context, arch string) (binaries, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b, ok := m.built[arch]; ok {
		return b, nil
	}
	tell := newProgress(m.log, "tests for "+arch, m.verbose)
	tell.print("compiling")
	packages := append([]string{environmentPackage}, m.packages...)
	if m.keep != "" {
		packages = append(packages, m.all...)
	}
	if matches(m.environments, privileges) {
		packages = append(packages, probePackages()...)
	}
	slices.Sort(packages)
	b, err := build(ctx, arch, slices.Compact(packages), m.work)
	if err == nil {
		tell.print("compiled")
		m.built[arch] = b
	}
	return b, err
}

// folders have what is taken of some pins.
func (m *matrix) folders(ctx context.Context, wanted func(pin) bool) ([]string, error) {
	var dirs []string
	for i := range m.pins {
		if !wanted(m.pins[i]) {
			continue
		}
		dir, err := m.fetch.get(ctx, &m.pins[i])
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("%s lacks a kernel or a %s", pinsFile, userland)
	}
	return dirs, nil
}
