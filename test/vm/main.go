// SPDX-License-Identifier: Apache-2.0

// Command vm is the kernel matrix: it runs every test that attaches programs on each of Debian's kernels, in emulated machines that need no
// rights, and on the kernel that is running. It writes docs/kernels.md, and fails when a test fails, when a test or a program runs on no
// kernel, or when that page became worse. It is run from the module's root by `make test-kernels`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// options are the command's flags.
type options struct {
	kernels, environments, packages, run string
	docs                                 string
	pin, accept                          bool
}

func main() {
	var o options
	flag.StringVar(&o.kernels, "kernels", "", "only those kernels whose name (\"6.1 arm64\", \"host amd64\") this regular expression matches")
	flag.StringVar(&o.environments, "environments", "", "only those environments; \"whole\" is the one with everything")
	flag.StringVar(&o.packages, "packages", "", "only the tests of those packages")
	flag.StringVar(&o.run, "run", "^TestKernel", "only those tests, as go test -run has it")
	flag.StringVar(&o.docs, "docs", "docs/kernels.md", "where the tables are kept")
	flag.BoolVar(&o.pin, "pin", false, "pin the suites' current packages, and run nothing")
	flag.BoolVar(&o.accept, "accept", false, "write the tables although they became worse")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "test-kernels:", err)
		os.Exit(1)
	}
}

// partial tells whether some of the matrix is left out, so that nothing can be said of the whole.
func (o options) partial() bool {
	return o.kernels != "" || o.environments != "" || o.packages != "" || o.run != "^TestKernel"
}

func run(ctx context.Context, o options, out, log io.Writer) error {
	pins, err := loadPins(pinsFile)
	if err != nil {
		return err
	}
	fetch, err := newFetcher(log)
	if err != nil {
		return err
	}
	if o.pin {
		return renew(ctx, fetch, pins)
	}
	m, err := newMatrix(o, fetch, pins, log)
	if err != nil {
		return err
	}
	defer os.RemoveAll(m.work)
	if err := m.runAll(ctx); err != nil {
		return err
	}
	return judge(o, m.results, out)
}

// renew pins what the suites have now.
func renew(ctx context.Context, fetch *fetcher, pins []pin) error {
	for i := range pins {
		if err := fetch.update(ctx, pins[i]); err != nil {
			return err
		}
		if err := fetch.current(ctx, &pins[i]); err != nil {
			return err
		}
	}
	return repin(pinsFile, pins)
}

// matrix is all runs.
type matrix struct {
	options
	fetch    *fetcher
	pins     []pin
	log      io.Writer
	work     string
	packages []string
	built    map[string]binaries // by architecture
	results  []*result
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
	m := &matrix{options: o, fetch: fetch, pins: pins, log: log, built: make(map[string]binaries)}
	for _, pkg := range all {
		if matches(o.packages, pkg) {
			m.packages = append(m.packages, pkg)
		}
	}
	m.work, err = os.MkdirTemp("", "test-kernels-")
	return m, err
}

func matches(expression, s string) bool { return regexp.MustCompile(expression).MatchString(s) }

func (m *matrix) runAll(ctx context.Context) error {
	for i := range m.pins {
		p := &m.pins[i]
		if p.Name == userland || !matches(m.kernels, p.String()) {
			continue
		}
		vmlinuz, err := m.fetch.get(ctx, p)
		if err != nil {
			return err
		}
		for _, e := range environments {
			if !matches(m.environments, e.title()) {
				continue
			}
			if err := m.guest(ctx, *p, vmlinuz, e); err != nil {
				return err
			}
		}
	}
	host := "host " + hostArch
	if matches(m.kernels, host) && matches(m.environments, whole) {
		if !canBeRoot(ctx) {
			fmt.Fprintf(m.log, "%s: left out, for it needs root\n", host)
			return nil
		}
		programs, err := m.programs(ctx, hostArch)
		if err != nil {
			return err
		}
		fmt.Fprintf(m.log, "%s\n", host)
		m.add(runHost(ctx, m.work, programs, m.packages, m.run, m.log))
	}
	return ctx.Err()
}

// programs compiles for an architecture, once.
func (m *matrix) programs(ctx context.Context, arch string) (binaries, error) {
	if b, ok := m.built[arch]; ok {
		return b, nil
	}
	fmt.Fprintf(m.log, "compiling the tests for %s\n", arch)
	packages := m.packages
	if slices.ContainsFunc(environments, func(e environment) bool { return e.name != "" }) {
		packages = append([]string{environmentPackage}, packages...)
	}
	b, err := build(ctx, arch, packages, m.work)
	m.built[arch] = b
	return b, err
}

func (m *matrix) guest(ctx context.Context, p pin, vmlinuz string, e environment) error {
	root, err := m.root(ctx, p.Arch)
	if err != nil {
		return err
	}
	programs, err := m.programs(ctx, p.Arch)
	if err != nil {
		return err
	}
	packages, tests := m.packages, m.run
	if e.name != "" {
		packages = []string{environmentPackage}
	}
	began := time.Now()
	fmt.Fprintf(m.log, "%s, %s\n", p, e.title())
	m.add(runGuest(ctx, p, vmlinuz, root, m.work, programs, plan(e.name, packages, tests), e.parameters, m.log))
	fmt.Fprintf(m.log, "    %s\n", time.Since(began).Round(time.Second))
	return ctx.Err()
}

// root are the folders that make a guest's root together.
func (m *matrix) root(ctx context.Context, arch string) ([]string, error) {
	var dirs []string
	for i := range m.pins {
		if m.pins[i].Name != userland || m.pins[i].Arch != arch {
			continue
		}
		dir, err := m.fetch.get(ctx, &m.pins[i])
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("%s has no %s for %s", pinsFile, userland, arch)
	}
	return dirs, nil
}

func (m *matrix) add(r *result) { m.results = append(m.results, r) }

// judge prints the tables, and decides.
func judge(o options, results []*result, out io.Writer) error {
	if len(results) == 0 {
		return errors.New("no kernel is selected")
	}
	if _, err := io.WriteString(out, document(results)); err != nil {
		return err
	}
	var problems []string
	for _, r := range results {
		for _, f := range r.failures() {
			title := environment{name: r.Environment}.title()
			problems = append(problems, fmt.Sprintf("%s, %s: %s", r.Column, title, f))
		}
	}
	if !o.partial() {
		problems = append(problems, nowhere(results)...)
	}
	if len(problems) > 0 {
		return fmt.Errorf("failed:\n%s", strings.Join(problems, "\n"))
	}
	if o.partial() {
		return nil // the page is of all kernels
	}
	var kept []*result
	for _, r := range results {
		if r.Suite != "" {
			kept = append(kept, r) // the host is another one everywhere
		}
	}
	text := document(kept)
	before, err := os.ReadFile(o.docs)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if list := worse(string(before), text); len(list) > 0 && !o.accept {
		return fmt.Errorf("%s became worse:\n%s\nKERNELFLAGS=-accept takes it as it is", o.docs, strings.Join(list, "\n"))
	}
	return os.WriteFile(o.docs, []byte(text), 0o644)
}

// nowhere lists the tests that were skipped, and the programs that were not taken, on every kernel.
func nowhere(results []*result) []string {
	ran, taken := make(map[string]bool), make(map[string]bool)
	var tests, programs []string
	for _, r := range results {
		for _, t := range r.Tests {
			name := t.Package + " " + t.Name
			if _, ok := ran[name]; !ok {
				tests = append(tests, name)
			}
			ran[name] = ran[name] || t.Result != outcome.Skipped
		}
		for _, p := range r.Programs {
			name := p.Probe + " " + p.Name
			if _, ok := taken[name]; !ok {
				programs = append(programs, name)
			}
			taken[name] = taken[name] || p.Taken
		}
	}
	var list []string
	for _, name := range tests {
		if !ran[name] {
			list = append(list, name+" is skipped on every kernel")
		}
	}
	for _, name := range programs {
		if !taken[name] {
			list = append(list, name+" is taken on no kernel")
		}
	}
	return list
}
