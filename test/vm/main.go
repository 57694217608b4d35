// SPDX-License-Identifier: Apache-2.0

// Command vm is the kernel matrix: it runs every test that attaches programs on each of Debian's kernels, in emulated machines that need no
// rights, and on the kernel that is running. It writes docs/kernels.md, and fails when a test fails, when a test or a program runs on no
// kernel, or when that page became worse. It is run from the module's root by `make test-kernels`.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// docsFile is where the tables are kept.
const docsFile = "docs/kernels.md"

// allTests selects those that attach programs.
const allTests = "^TestKernel"

// options are the command's flags.
type options struct {
	kernels, environments, packages, run string
	parameters, keep                     string
	pin, docs, accept, verbose           bool
}

func main() {
	var o options
	flag.StringVar(&o.kernels, "kernels", "", "only those kernels whose name (\"6.1 arm64\", \"host amd64\") this regular expression matches")
	flag.StringVar(&o.environments, "environments", "", "only those environments; \"whole\" is the one with everything")
	flag.StringVar(&o.packages, "packages", "", "only the tests of those packages")
	flag.StringVar(&o.run, "run", allTests, "only those tests, as go test -run has it")
	flag.StringVar(&o.parameters, "parameters", "", "more parameters for the kernels, such as loglevel=8")
	flag.StringVar(&o.keep, "keep", "", "a file of results: those of earlier runs are taken from it, and those of this one are added")
	flag.BoolVar(&o.docs, "docs", false, "write "+docsFile+" and "+privilegesFile+", after a run of the whole matrix")
	flag.BoolVar(&o.verbose, "v", false, "tell of each test and program as it happens")
	flag.BoolVar(&o.pin, "pin", false, "pin the suites' current packages, and run nothing")
	flag.BoolVar(&o.accept, "accept", false, "write the tables although they became worse, or tests failed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "test-kernels:", err)
		os.Exit(1)
	}
}

// whole tells whether the results are of all of the matrix, so that something can be said of it.
func (o options) whole(results []*result) bool {
	if o.packages != "" || o.run != allTests {
		return false
	}
	pins, err := loadPins(pinsFile)
	if err != nil {
		return false
	}
	there := make(map[[2]string]bool)
	for _, r := range results {
		there[[2]string{r.Column, r.Environment}] = true
	}
	for _, p := range pins {
		for _, e := range environments {
			if p.Name != userland && matches(e.kernels, p.String()) && !there[[2]string{p.String(), e.name}] {
				return false
			}
		}
	}
	return there[[2]string{"host " + hostArch, ""}]
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
	if err := m.recall(); err != nil {
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
		if p.Name == userland || !matches(m.kernels, p.String()) || slices.ContainsFunc(m.pins[:i], p.isOf) {
			continue
		}
		files, err := m.folders(ctx, p.isOf)
		if err != nil {
			return err
		}
		for _, e := range environments {
			if !matches(m.environments, e.title()) || !matches(e.kernels, p.String()) {
				continue
			}
			if err := m.guest(ctx, m.pins[i], files, e); err != nil {
				return err
			}
		}
	}
	return errors.Join(m.host(ctx), ctx.Err())
}

// host runs what the kernel that is running can do: the tests, and the search for privileges.
func (m *matrix) host(ctx context.Context) error {
	host := "host " + hostArch
	for _, e := range environments {
		if e.name != "" && e.name != privileges || !matches(m.environments, e.title()) || !matches(m.kernels, host) {
			continue
		}
		fmt.Fprintf(m.log, "%s, %s\n", host, e.title())
		if !canBeRoot(ctx) {
			fmt.Fprintln(m.log, "    left out, for it needs root")
			continue
		}
		programs, err := m.programs(ctx, hostArch)
		if err != nil {
			return err
		}
		tell := newProgress(m.log, m.verbose)
		if err := m.add(runHost(ctx, m.work, programs, plan(e, packagesOn(host, m.packages), m.run), tell)); err != nil {
			return err
		}
		tell.print("ended")
	}
	return nil
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

// guest runs one kernel, which is in some of files, in one environment.
func (m *matrix) guest(ctx context.Context, p pin, files []string, e environment) error {
	root, err := m.folders(ctx, pin{Name: userland, Arch: p.Arch}.isOf)
	if err != nil {
		return err
	}
	programs, err := m.programs(ctx, p.Arch)
	if err != nil {
		return err
	}
	fmt.Fprintf(m.log, "%s, %s\n", p, e.title())
	tell := newProgress(m.log, m.verbose)
	todo := plan(e, packagesOn(p.String(), m.packages), m.run)
	r := runGuest(ctx, p, guestFiles{kernel: files, root: root, programs: programs}, m.work, todo, e.parameters+" "+m.parameters, tell)
	tell.print("ended")
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return m.add(r)
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

// add notes a result, and keeps it for the next run, whatever becomes of this one.
func (m *matrix) add(r *result) error {
	m.results = append(m.results, r)
	if m.keep == "" {
		return nil
	}
	kept, err := m.kept()
	if err != nil {
		return err
	}
	kept[r.Column+", "+r.Environment] = r
	b, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return os.WriteFile(m.keep, b, 0o644)
}

// kept are the results of this run and of earlier ones.
func (m *matrix) kept() (map[string]*result, error) {
	kept := make(map[string]*result)
	b, err := os.ReadFile(m.keep)
	if errors.Is(err, os.ErrNotExist) {
		return kept, nil
	}
	if err != nil {
		return nil, err
	}
	return kept, json.Unmarshal(b, &kept)
}

// recall puts the kept results in the place of this run's, which are among them, in the matrix's order.
func (m *matrix) recall() error {
	if m.keep == "" {
		return nil
	}
	kept, err := m.kept()
	if err != nil {
		return err
	}
	var columns []string
	for _, p := range m.pins {
		if !slices.Contains(columns, p.String()) {
			columns = append(columns, p.String())
		}
	}
	m.results = nil
	for _, column := range append(columns, "host "+hostArch) {
		for _, e := range environments {
			if r, ok := kept[column+", "+e.name]; ok {
				m.results = append(m.results, r)
			}
		}
	}
	return nil
}

// judge prints the tables, and decides.
func judge(o options, results []*result, out io.Writer) error {
	if len(results) == 0 {
		return errors.New("no kernel is selected")
	}
	if _, err := io.WriteString(out, document(results)+"\n"+privilegesDocument(results)); err != nil {
		return err
	}
	var problems []string
	for _, r := range results {
		for _, f := range r.failures() {
			title := environment{name: r.Environment}.title()
			problems = append(problems, fmt.Sprintf("%s, %s: %s", r.Column, title, f))
		}
	}
	if o.whole(results) {
		problems = append(problems, nowhere(results)...)
	}
	var failed error
	if len(problems) > 0 {
		failed = fmt.Errorf("failed:\n%s", strings.Join(problems, "\n"))
	}
	if failed != nil && !o.accept {
		return failed
	}
	if o.run != allTests {
		return failed // the page is of all tests
	}
	return errors.Join(failed, compare(o, results))
}

// compare holds the results against the page, and renews it when that is wanted.
func compare(o options, results []*result) error {
	var kept []*result
	for _, r := range results {
		if r.Suite != "" {
			kept = append(kept, r) // the host is another one everywhere
		}
	}
	pages := map[string]string{docsFile: document(kept), privilegesFile: privilegesDocument(kept)}
	var list []string
	for file, text := range pages {
		before, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, place := range worse(string(before), text, kept) {
			list = append(list, file+": "+place)
		}
	}
	if slices.Sort(list); len(list) > 0 && !o.accept {
		return fmt.Errorf("worse than before:\n%s\nKERNELFLAGS='-docs -accept' takes it as it is", strings.Join(list, "\n"))
	}
	switch {
	case !o.docs:
		return nil
	case !o.whole(results):
		return fmt.Errorf("%s and %s are written after a run of the whole matrix only", docsFile, privilegesFile)
	}
	for file, text := range pages {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
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
