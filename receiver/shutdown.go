// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// flushTimeout is how long Shutdown lets consumers take the last data when its own context has no deadline.
	flushTimeout = 5 * time.Second
	// noticeShare is the part of the time that is kept for consumers to notice that theirs is over, and maxNotice the most of it.
	noticeShare = 4
	maxNotice   = time.Second
	// minNotice is what our own loops need to notice it, when there is no time at all.
	minNotice = 3 * pollInterval
)

// Shutdown stops the programs first, then delivers what they counted and recorded until then. When consumers take longer than
// ctx, or [flushTimeout] where it has no deadline, the rest is given up and counted as refused, and the error says so. A
// consumer that does not return by then is left behind; it is not called again. Nothing stays in the kernel in any case.
func (r *ebpfReceiver) Shutdown(ctx context.Context) error {
	var errs []error
	for _, p := range r.probes {
		errs = append(errs, p.Detach())
	}
	close(r.stop)
	errs = append(errs, r.wait(ctx), r.release())
	return errors.Join(errs...)
}

// wait for the loops, as long as Shutdown may.
func (r *ebpfReceiver) wait(ctx context.Context) error {
	defer r.cancel()
	if len(r.loops) == 0 {
		return nil
	}
	end, ok := ctx.Deadline()
	if !ok {
		end = time.Now().Add(flushTimeout)
	}
	notice := min(maxNotice, time.Until(end)/noticeShare)
	flush, cancel := context.WithDeadline(ctx, end.Add(-notice))
	defer cancel()
	done := make(chan struct{})
	go func() {
		r.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-flush.Done():
	}
	r.cancel()
	select {
	case <-done:
		return fmt.Errorf("the last data was not delivered in time: %w", flush.Err())
	case <-time.After(max(notice, minNotice)):
		return fmt.Errorf("a consumer did not return in time, and the last data is lost: %w", flush.Err())
	}
}

// release gives back everything that Start took. It may be called again.
func (r *ebpfReceiver) release() error {
	if r.released {
		return nil
	}
	r.released = true
	r.telemetry.Shutdown() // waits for callbacks that run
	var errs []error
	for _, p := range r.probes {
		errs = append(errs, p.Close())
	}
	if r.statistics != nil {
		errs = append(errs, r.statistics.Close())
	}
	if r.host != nil {
		errs = append(errs, r.host.close())
	}
	return errors.Join(errs...)
}
