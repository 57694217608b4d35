// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"maps"
	"os"
	"strconv"
	"strings"
)

// processProbe is the probe with what it does by default: the events exec and exit, and two metrics.
const processProbe = "probes: { process: }"

// execPath measures what the life of a process costs with the probe: the programs' own time beside execsnoop's, and how much
// longer fork, exec and exit of /bin/true take.
func execPath(ctx context.Context, r *run) error {
	if err := r.execPrograms(ctx); err != nil {
		return err
	}
	return r.execDelay(ctx)
}

func (r *run) execPrograms(ctx context.Context) (err error) {
	on, err := statistics()
	if err != nil {
		return err
	}
	defer on.Close()
	rec, err := receive(ctx, processProbe)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rec.close()) }()
	own, err := programsOf(os.Getpid())
	if err != nil {
		return err
	}
	defer closePrograms(maps.Values(own))
	other, err := startPeer(ctx, 2, "execsnoop")
	switch {
	case errors.Is(err, errNoPeer):
		r.note("execsnoop is not installed (Debian: libbpf-tools): the process probe stands alone")
		other = new(peer)
	case err != nil:
		return err
	default:
		defer func() { err = errors.Join(err, other.stop()) }()
	}
	var exec, snoop, ratios, life []float64
	for range 5 {
		before, err := costsOf(own)
		if err != nil {
			return err
		}
		theirsBefore, err := costsOf(other.programs)
		if err != nil {
			return err
		}
		if _, err := r.spawned(ctx, 500); err != nil {
			return err
		}
		after, err := costsOf(own)
		if err != nil {
			return err
		}
		theirsAfter, err := costsOf(other.programs)
		if err != nil {
			return err
		}
		ours := after.minus(before)
		execs := ours["process_exec"]
		exec = append(exec, execs.perRun())
		life = append(life, ours.total()/float64(execs.runs))
		if other.programs != nil {
			theirs := theirsAfter.minus(theirsBefore).total() / float64(execs.runs)
			snoop = append(snoop, theirs)
			ratios = append(ratios, execs.perRun()/theirs)
		}
	}
	f := figure{area: "exec", what: "program on an exec", ours: median(exec), unit: "ns/exec"}
	if len(snoop) > 0 {
		f.beside, f.theirs, f.ratio = "execsnoop", median(snoop), median(ratios)
	}
	r.add(f)
	r.add(figure{area: "exec", what: "all programs for fork, exec and exit", ours: median(life), unit: "ns/process"})
	return nil
}

// spawned is how long one fork, exec and exit took, in ns: the lower quartile of n.
func (r *run) spawned(ctx context.Context, n int) (float64, error) {
	p, err := r.startChild(ctx, "spawn", strconv.Itoa(n))
	if err != nil {
		return 0, err
	}
	text, err := p.stdout.ReadString('\n')
	if err != nil {
		return 0, errors.Join(err, p.cmd.Wait())
	}
	if _, err := p.end(); err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(text), 64)
}

// execDelay takes turns: nothing attached, the probe, execsnoop.
func (r *run) execDelay(ctx context.Context) error {
	rounds := 8
	if r.quick {
		rounds = 2
	}
	const n = 300
	var bare, ours, theirs, ratios, theirRatios []float64
	for range rounds {
		without, err := r.spawned(ctx, n)
		if err != nil {
			return err
		}
		with, err := r.spawnedBesideOurs(ctx, n)
		if err != nil {
			return err
		}
		bare, ours = append(bare, without), append(ours, with)
		ratios = append(ratios, with/without)
		snoop, err := r.spawnedBesideExecsnoop(ctx, n)
		if errors.Is(err, errNoPeer) {
			continue
		}
		if err != nil {
			return err
		}
		theirs, theirRatios = append(theirs, snoop), append(theirRatios, snoop/without)
	}
	for _, list := range [][]float64{bare, ours, theirs} {
		for i := range list {
			list[i] /= 1000
		}
	}
	r.add(figure{
		area: "exec", what: "fork, exec and exit of /bin/true", ours: median(ours), unit: "µs",
		beside: "without the probe", theirs: median(bare), ratio: median(ratios),
	})
	if len(theirs) > 0 {
		r.add(figure{
			area: "exec", what: "the same with execsnoop", ours: median(theirs), unit: "µs",
			beside: "without it", theirs: median(bare), ratio: median(theirRatios),
		})
	}
	return nil
}

func (r *run) spawnedBesideOurs(ctx context.Context, n int) (took float64, err error) {
	rec, err := receive(ctx, processProbe)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rec.close()) }()
	return r.spawned(ctx, n)
}

func (r *run) spawnedBesideExecsnoop(ctx context.Context, n int) (took float64, err error) {
	other, err := startPeer(ctx, 2, "execsnoop")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, other.stop()) }()
	return r.spawned(ctx, n)
}
