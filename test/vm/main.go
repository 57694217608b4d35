// SPDX-License-Identifier: Apache-2.0

// Command vm is the kernel matrix: it runs the tests that attach programs on each of Debian's kernels, in emulated machines that need no
// rights, and on the kernel that is running. It writes docs/kernels.md, and fails when a test fails, when a test or a program runs on no
// kernel, when a guest's kernel complains, or when anything became worse. It is run from the module's root by `make test-kernels`.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
)

// docsFile is where the tables are kept.
const docsFile = "docs/kernels.md"

// allTests selects those that attach programs.
const allTests = "^TestKernel"

// mostJobs is how many machines run at a time where nobody asks for more.
const mostJobs = 4

// options are the command's flags.
type options struct {
	kernels, environments, packages, run string
	parameters, keep                     string
	jobs, processors                     int
	pin, docs, accept, verbose           bool
}

func main() {
	var o options
	flag.StringVar(&o.kernels, "kernels", "", "only those kernels whose name (\"6.1 arm64\", \"host amd64\") this regular expression matches")
	flag.StringVar(&o.environments, "environments", "", "only those environments; \"whole\" is the one with everything")
	flag.StringVar(&o.packages, "packages", "", "only the tests of those packages")
	flag.StringVar(&o.run, "run", allTests, "only those tests, as go test -run has it")
	flag.StringVar(&o.parameters, "parameters", "", "more parameters for the kernels, such as loglevel=8")
	flag.IntVar(&o.jobs, "jobs", min(runtime.NumCPU(), mostJobs), "how many machines run at a time; each wants 3 GiB and one CPU")
	flag.IntVar(&o.processors, "processors", 2, "each machine's")
	flag.StringVar(&o.keep, "keep", "", "a file of results: those of earlier runs are taken from it if they are of the same binaries, and those of this one, or of its -packages, take their place")
	flag.BoolVar(&o.docs, "docs", false, "write "+docsFile+" and "+privilegesFile+", each after a run of all that it is about, and "+passedFile)
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

// whole tells whether the results are of all of the matrix in some of its environments, so that something can be said of these.
func (o options) whole(results []*result, of func(environment) bool) bool {
	if o.packages != "" || o.run != allTests {
		return false
	}
	pins, err := loadPins(pinsFile)
	if err != nil {
		return false
	}
	packages, err := kernelPackages(".")
	if err != nil {
		return false
	}
	there := make(map[[2]string]bool)
	for _, r := range results {
		there[[2]string{r.Column, r.Environment}] = r.complete(packages)
	}
	planned := false
	for _, p := range pins {
		for _, e := range environments {
			if p.Name == userland || !of(e) || !e.on(p.String()) {
				continue
			}
			if planned = true; !there[[2]string{p.String(), e.name}] {
				return false
			}
		}
	}
	return planned && (there[[2]string{"host " + hostArch, ""}] || !of(environments[0]))
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
	if err := m.recall(ctx); err != nil {
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
