// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"context"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
)

// The pauses between two attempts to deliver grow from the first to the last.
const (
	firstPause = 10 * time.Millisecond
	lastPause  = time.Second
)

// deliver hands data over until the consumer takes it or refuses it for good, until patience is over, or until ctx
// ends. The error is the consumer's last.
func deliver(ctx context.Context, patience time.Duration, consume func(context.Context) error) error {
	deadline := time.Now().Add(patience)
	pause := firstPause
	for {
		err := consume(ctx)
		if err == nil || consumererror.IsPermanent(err) || ctx.Err() != nil || !time.Now().Add(pause).Before(deadline) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
		pause = min(2*pause, lastPause)
	}
}
