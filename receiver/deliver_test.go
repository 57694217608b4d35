// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumererror"
)

var errRefused = errors.New("refused")

func TestDeliver(t *testing.T) {
	permanent := consumererror.NewPermanent(errRefused)
	for name, test := range map[string]struct {
		outcomes []error // of each attempt; the last one repeats
		patience time.Duration
		want     error
		calls    int
	}{
		"taken":                  {outcomes: []error{nil}, patience: time.Minute, calls: 1},
		"taken at last":          {outcomes: []error{errRefused, errRefused, nil}, patience: time.Minute, calls: 3},
		"refused for good":       {outcomes: []error{permanent}, patience: time.Minute, want: errRefused, calls: 1},
		"refused for good later": {outcomes: []error{errRefused, permanent}, patience: time.Minute, want: errRefused, calls: 2},
		"no patience":            {outcomes: []error{errRefused}, want: errRefused, calls: 1},
		// After 10, 20 and 40 ms; 80 more would be too late.
		"patience ends": {outcomes: []error{errRefused}, patience: 140 * time.Millisecond, want: errRefused, calls: 4},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			err := deliver(t.Context(), test.patience, func(context.Context) error {
				calls++
				return test.outcomes[min(calls, len(test.outcomes))-1]
			})
			assert.ErrorIs(t, err, test.want)
			assert.LessOrEqual(t, calls, test.calls)
			if name != "patience ends" { // a busy machine may make less of it
				assert.Equal(t, test.calls, calls)
			}
		})
	}
}

func TestDeliverEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err := deliver(ctx, time.Hour, func(context.Context) error {
		if calls++; calls == 3 {
			cancel()
		}
		return errRefused
	})
	require.ErrorIs(t, err, errRefused, "the consumer's own words")
	assert.Equal(t, 3, calls)

	err = deliver(ctx, time.Hour, func(context.Context) error { calls++; return nil })
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 3, calls, "no consumer is called once the context has ended")
}

func TestDeliverSurvivesAPanic(t *testing.T) {
	calls := 0
	err := deliver(t.Context(), time.Hour, func(context.Context) error {
		calls++
		panic("a bug")
	})
	assert.Equal(t, 1, calls, "it would panic again")
	assert.True(t, consumererror.IsPermanent(err))
	require.ErrorContains(t, err, "the next consumer panicked: a bug")
	var panicked *panicError
	require.ErrorAs(t, err, &panicked)
	assert.Contains(t, string(panicked.stack), "TestDeliverSurvivesAPanic")
}
