// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command bench measures what the receiver costs, each figure beside a peer's or beside the least that the work can cost,
// in the same run. It needs root; run it with `make bench`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// area is a part of the run.
type area struct {
	name    string
	measure func(context.Context, *run) error
}

// areas in the order of the tables. The last is the one that nothing else should run beside.
var areas = []area{
	{"run-queue", runQueue},
	{"snapshot", snapshots},
	{"events", events},
	{"exec", execPath},
	{"flow", flows},
	{"tcp", connections},
	{"udp", datagrams},
	{"idle", idle},
}

// options are the command's flags.
type options struct {
	areas     string
	emitBench string
	collector string
	docs      string
	record    bool
	quick     bool
}

// run is one run of the command.
type run struct {
	options

	self    string // the path of this program
	figures []figure
	notes   []string
}

func main() {
	// Workloads are this same program, in processes of their own.
	if len(os.Args) > 2 && os.Args[1] == childFlag {
		if err := child(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var o options
	var names []string
	for _, a := range areas {
		names = append(names, a.name)
	}
	flag.StringVar(&o.areas, "areas", strings.Join(names, ","), "what to measure, of these, separated by commas")
	flag.StringVar(&o.emitBench, "emit", "", "the test binary of receiver/internal/emit, for snapshot and events")
	flag.StringVar(&o.collector, "collector", "", "the built Collector, for idle")
	flag.StringVar(&o.docs, "docs", "", "the Markdown file that the tables go into")
	flag.BoolVar(&o.record, "record", false, "write the tables into the file")
	flag.BoolVar(&o.quick, "quick", false, "a short run, whose figures are worth little")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := bench(ctx, o, names); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func bench(ctx context.Context, o options, known []string) error {
	if os.Geteuid() != 0 {
		return errors.New("attaching programs needs root: run `make bench` with sudo")
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	r := &run{options: o, self: self}
	wanted := strings.Split(o.areas, ",")
	for _, name := range wanted {
		if !slices.Contains(known, name) {
			return fmt.Errorf("no area %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	started := time.Now()
	for _, a := range areas {
		if !slices.Contains(wanted, a.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s ...\n", a.name)
		begin := time.Now()
		if err := a.measure(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %.0f s\n", a.name, time.Since(begin).Seconds())
	}
	return r.finish(started)
}
