// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
)

// oneMetric is what runqlat counts, and nothing else.
const oneMetric = `
probes:
  cpu:
    metrics:
      container.cpu.time: { enabled: false }
      ebpf.cpu.context_switches: { enabled: false }
`

// runQueue holds our programs for run-queue latency against those of runqlat, both attached at once under the same
// scheduling. What runs first on a switch finds the task's memory cold, so who is attached first changes from round to round.
func runQueue(ctx context.Context, r *run) error {
	on, err := statistics()
	if err != nil {
		return err
	}
	defer on.Close()
	for _, c := range []struct {
		what, config string
		bar          float64
	}{
		{"one metric", oneMetric, 0.5},
		{"default metrics", "probes: { cpu: }", 0},
	} {
		if err := r.besideRunqlat(ctx, c.what, c.config, c.bar); err != nil {
			return err
		}
	}
	return nil
}

// round is what one round of scheduling cost.
type round struct {
	ours, theirs costs
	empty        cost
}

func (r *run) besideRunqlat(ctx context.Context, what, config string, bar float64) error {
	rounds := 8
	if r.quick {
		rounds = 2
	}
	var ours, theirs, ratios, oursRound, theirsRound, roundRatios, floor []float64
	for i := range rounds {
		got, err := r.schedulingRound(ctx, config, i%2 == 0)
		if errors.Is(err, errNoPeer) {
			r.note("runqlat is not installed (Debian: libbpf-tools): nothing to hold the run queue against")
			return nil
		}
		if err != nil {
			return err
		}
		our, their := find(got.ours, "switch_"), find(got.theirs, "sched_switch")
		ours, theirs = append(ours, our.perRun()), append(theirs, their.perRun())
		ratios = append(ratios, our.perRun()/their.perRun())
		// All programs of each, in units of switches: runqlat also works at each wakeup, we also at each birth.
		a, b := got.ours.total()/float64(our.runs), got.theirs.total()/float64(their.runs)
		oursRound, theirsRound = append(oursRound, a), append(theirsRound, b)
		roundRatios = append(roundRatios, a/b)
		floor = append(floor, got.empty.perRun())
	}
	r.add(figure{
		area: "run queue", what: "sched_switch, " + what, ours: median(ours), unit: "ns/run",
		beside: "runqlat", theirs: median(theirs), ratio: median(ratios), bar: bar,
	})
	r.add(figure{
		area: "run queue", what: "all programs for one switch, " + what, ours: median(oursRound), unit: "ns",
		beside: "runqlat", theirs: median(theirsRound), ratio: median(roundRatios), bar: bar,
	})
	r.add(figure{
		area: "run queue", what: "sched_switch, " + what, ours: median(ours), unit: "ns/run", beside: "empty program", theirs: median(floor),
	})
	return nil
}

// find is the program whose name begins with a prefix.
func find(c costs, prefix string) cost {
	for name, v := range c {
		if strings.HasPrefix(name, prefix) {
			return v
		}
	}
	return cost{}
}

// schedulingRound attaches both, in the order that oursFirst says, and measures some seconds of scheduling.
func (r *run) schedulingRound(ctx context.Context, config string, oursFirst bool) (_ round, err error) {
	var got round
	e, err := newEmpty()
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	var rec *receiving
	var other *peer
	start := []func() error{
		func() (err error) { rec, err = receive(ctx, config); return err },
		func() (err error) { other, err = startPeer(ctx, 3, "runqlat", "3600", "1"); return err },
	}
	if !oursFirst {
		start[0], start[1] = start[1], start[0]
	}
	defer func() {
		if rec != nil {
			err = errors.Join(err, rec.close())
		}
		if other != nil {
			err = errors.Join(err, other.stop())
		}
	}()
	for _, s := range start {
		if err := s(); err != nil {
			return got, err
		}
	}
	own, err := programsOf(os.Getpid())
	if err != nil {
		return got, err
	}
	defer closePrograms(maps.Values(own))
	// This process also holds what it looks at, and the empty one.
	delete(own, "empty")
	for name := range other.programs {
		delete(own, name)
	}

	load, err := r.startChild(ctx, "schedule")
	if err != nil {
		return got, err
	}
	pause(ctx, 200*time.Millisecond)
	read := func() (round, error) {
		ours, err := costsOf(own)
		if err != nil {
			return round{}, err
		}
		theirs, err := costsOf(other.programs)
		if err != nil {
			return round{}, err
		}
		none, err := costsOf(map[string]*ebpf.Program{"empty": e.program})
		return round{ours, theirs, none["empty"]}, err
	}
	before, err := read()
	if err != nil {
		return got, err
	}
	pause(ctx, 1500*time.Millisecond)
	after, err := read()
	if err != nil {
		return got, err
	}
	if _, err := load.end(); err != nil {
		return got, err
	}
	return round{after.ours.minus(before.ours), after.theirs.minus(before.theirs), after.empty.minus(before.empty)}, ctx.Err()
}

// pause is a measured time, not a wait for something.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
