// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// attachment is something that is there until detach is called.
type attachment func() (detach func() error, err error)

// receiverOf is a receiver in this process, with a configuration as for [receive].
func receiverOf(ctx context.Context, config string) attachment {
	return func() (func() error, error) {
		rec, err := receive(ctx, config)
		if err != nil {
			return nil, err
		}
		// What its start has left behind is not what is measured, nor its first collection.
		runtime.GC()
		pause(ctx, 200*time.Millisecond)
		return rec.close, nil
	}
}

// atTracepoints is programs at their tracepoints. Nothing is loaded, so that a turn may be short.
func atTracepoints(ctx context.Context, programs []*ebpf.Program) attachment {
	return func() (func() error, error) {
		var links []link.Link
		detach := func() error {
			var errs []error
			for _, l := range links {
				errs = append(errs, l.Close())
			}
			return errors.Join(errs...)
		}
		for _, p := range programs {
			l, err := link.AttachTracing(link.TracingOptions{Program: p})
			if err != nil {
				return nil, errors.Join(fmt.Errorf("attach %s: %w", p, err), detach())
			}
			links = append(links, l)
		}
		pause(ctx, 30*time.Millisecond)
		return detach, nil
	}
}

// tracingPrograms are those that a receiver has at tracepoints, with what it has told them. The receiver is not there any more.
func tracingPrograms(ctx context.Context, config string) (programs []*ebpf.Program, unload func(), err error) {
	rec, err := receive(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	if programs, err = tracingProgramsOf(os.Getpid()); err != nil {
		return nil, nil, errors.Join(err, rec.close())
	}
	unload = func() { closePrograms(slices.Values(programs)) }
	if err := rec.close(); err != nil {
		unload()
		return nil, nil, err
	}
	return programs, unload, nil
}

// inTurns measures a load with nothing attached and with each of some, by turns, so that a machine which others use as well is equally busy for all of
// them. The results have nothing first: the medians of what was measured, and of its ratios to that with nothing in the same round.
func inTurns(rounds int, load func() (float64, error), attachments ...attachment) (took, ratios []float64, err error) {
	all := make([][]float64, 1+len(attachments))
	for round := range rounds {
		for i := range all {
			which := (round + i) % len(all)
			var v float64
			if which == 0 {
				v, err = load()
			} else {
				v, err = loadWith(attachments[which-1], load)
			}
			if err != nil {
				return nil, nil, err
			}
			all[which] = append(all[which], v)
		}
	}
	for _, values := range all {
		relative := make([]float64, rounds)
		for i, v := range values {
			relative[i] = v / all[0][i]
		}
		took, ratios = append(took, median(values)), append(ratios, median(relative))
	}
	return took, ratios, nil
}

func loadWith(attach attachment, load func() (float64, error)) (took float64, err error) {
	detach, err := attach()
	if err != nil {
		return 0, err
	}
	defer func() {
		if e := detach(); err == nil {
			err = e
		}
	}()
	return load()
}
