// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"runtime"
	"time"
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
		return rec.close, nil
	}
}

// inTurns measures a load with nothing attached and with each of some, by turns, so that a machine which others use as well is equally busy for all of
// them. The results have nothing first: the medians of what was measured, and of its ratios to that with nothing in the same round.
func inTurns(ctx context.Context, rounds int, load func() (float64, error), attachments ...attachment) (took, ratios []float64, err error) {
	all := make([][]float64, 1+len(attachments))
	for round := range rounds {
		for i := range all {
			which := (round + i) % len(all)
			var v float64
			if which == 0 {
				v, err = load()
			} else {
				v, err = loadWith(ctx, attachments[which-1], load)
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

func loadWith(ctx context.Context, attach attachment, load func() (float64, error)) (took float64, err error) {
	detach, err := attach()
	if err != nil {
		return 0, err
	}
	defer func() {
		if e := detach(); err == nil {
			err = e
		}
	}()
	// What its start has left behind is not what is measured, nor its first collection.
	runtime.GC()
	pause(ctx, 200*time.Millisecond)
	return load()
}
