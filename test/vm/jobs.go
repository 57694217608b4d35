// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// job is one run: a kernel in an environment.
type job struct {
	title string
	// long ones are begun first, so that none is left alone at the end.
	long bool
	// run returns nil when there is no result.
	run    func(context.Context) (*result, error)
	result *result
}

// runJobs runs some at a time, until all have run or one could not; the long ones first.
func runJobs(ctx context.Context, jobs []*job, atOnce int, run func(*job) error) error {
	queue := make(chan *job, len(jobs))
	for _, long := range []bool{true, false} {
		for _, j := range jobs {
			if j.long == long {
				queue <- j
			}
		}
	}
	close(queue)
	var workers sync.WaitGroup
	var mu sync.Mutex
	var broken error
	for range max(atOnce, 1) {
		workers.Go(func() {
			for j := range queue {
				mu.Lock()
				stop := broken != nil || ctx.Err() != nil
				mu.Unlock()
				if stop {
					return
				}
				if err := run(j); err != nil {
					mu.Lock()
					broken = errors.Join(broken, fmt.Errorf("%s: %w", j.title, err))
					mu.Unlock()
				}
			}
		})
	}
	workers.Wait()
	return broken
}
