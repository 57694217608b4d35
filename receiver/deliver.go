// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.uber.org/zap"
)

// The pauses between two attempts to deliver grow from the first to the last.
const (
	firstPause = 10 * time.Millisecond
	lastPause  = time.Second
)

// maxPatience is how long a payload is offered to a consumer that refuses it for now. Meanwhile the kernel goes on counting,
// and its ring fills; what the ring has no room for is counted there.
const maxPatience = 30 * time.Second

// deliver hands data over until the consumer takes it or refuses it for good, until patience is over, or until ctx
// ends. The error is the consumer's last, or that of ctx when the consumer was not called.
func deliver(ctx context.Context, patience time.Duration, consume func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	deadline := time.Now().Add(patience)
	pause := firstPause
	for {
		err := guard(ctx, consume)
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

// panicError is what a consumer panicked with.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("the next consumer panicked: %v", e.value) }

// guard turns a consumer's panic into a refusal for good: what has become of the data is not known, and a second time it may
// well panic again. The other pipelines of the Collector go on.
func guard(ctx context.Context, consume func(context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = consumererror.NewPermanent(&panicError{value: v, stack: debug.Stack()})
		}
	}()
	return consume(ctx)
}

// refusals tells the log when a consumer begins to refuse data, and when it takes data again.
type refusals struct {
	logger *zap.Logger
	// refused for good since it began; began is zero while data is taken.
	refused int
	began   time.Time
}

// note takes the outcome of a delivery of n items, which are none if they will be offered again.
func (r *refusals) note(n int, err error) {
	switch {
	case err != nil && r.began.IsZero():
		r.began = time.Now()
		fields := []zap.Field{zap.Error(err)}
		var panicked *panicError
		if errors.As(err, &panicked) {
			fields = append(fields, zap.ByteString("stack", panicked.stack))
		}
		r.logger.Warn("the next consumer refuses data", fields...)
		r.refused += n
	case err != nil:
		r.refused += n
	case !r.began.IsZero():
		r.logger.Info("the next consumer takes data again", zap.Int("refused", r.refused), zap.Duration("after", time.Since(r.began)))
		r.refused, r.began = 0, time.Time{}
	}
}
