// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/metadata"
)

// countingInstance counts what is called, and reports a status at Start.
type countingInstance struct {
	starts, shutdowns  atomic.Int32
	hasMetrics, hasLog bool
	host               component.Host
	event              *componentstatus.Event
	err                error
}

func (i *countingInstance) setMetrics(consumer.Metrics) { i.hasMetrics = true }
func (i *countingInstance) setLogs(consumer.Logs)       { i.hasLog = true }

func (i *countingInstance) Start(_ context.Context, host component.Host) error {
	i.starts.Add(1)
	i.host = host
	if i.event != nil {
		componentstatus.ReportStatus(host, i.event)
	}
	return i.err
}

func (i *countingInstance) Shutdown(context.Context) error {
	i.shutdowns.Add(1)
	return nil
}

// reportingHost remembers the status events of one pipeline's component.
type reportingHost struct {
	component.Host
	events []*componentstatus.Event
}

func newReportingHost() *reportingHost { return &reportingHost{Host: componenttest.NewNopHost()} }

func (h *reportingHost) Report(e *componentstatus.Event) { h.events = append(h.events, e) }

// testFactory makes a factory whose instances are taken from a list, in order.
func testFactory(instances ...*countingInstance) *factory {
	next := 0
	return &factory{shared: newSharedSet(func(receiver.Settings, *Config) (instance, error) {
		i := instances[next]
		next++
		return i, nil
	})}
}

func (f *factory) both(t *testing.T, cfg *Config) (metrics receiver.Metrics, logs receiver.Logs) {
	t.Helper()
	set := receivertest.NewNopSettings(metadata.Type)
	metrics, err := f.createMetrics(t.Context(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	logs, err = f.createLogs(t.Context(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	return metrics, logs
}

func TestSharedBySignals(t *testing.T) {
	one := &countingInstance{}
	metrics, logs := testFactory(one).both(t, &Config{})
	assert.True(t, one.hasMetrics)
	assert.True(t, one.hasLog)
	for _, c := range []component.Component{metrics, logs} {
		require.NoError(t, c.Start(t.Context(), componenttest.NewNopHost()))
	}
	assert.EqualValues(t, 1, one.starts.Load())

	require.NoError(t, metrics.Shutdown(t.Context()))
	assert.EqualValues(t, 1, one.shutdowns.Load(), "the first Shutdown ends it: no consumer is called after its receiver's")
	require.NoError(t, logs.Shutdown(t.Context()))
	require.NoError(t, logs.Shutdown(t.Context()))
	assert.EqualValues(t, 1, one.shutdowns.Load())
}

func TestSharedNotByConfigurations(t *testing.T) {
	one, two := &countingInstance{}, &countingInstance{}
	f := testFactory(one, two)
	metrics, _ := f.both(t, &Config{})
	logs, _ := f.both(t, &Config{})
	require.NoError(t, metrics.Start(t.Context(), componenttest.NewNopHost()))
	assert.EqualValues(t, 1, one.starts.Load())
	assert.Zero(t, two.starts.Load())
	require.NoError(t, metrics.Shutdown(t.Context()))
	require.NoError(t, logs.Shutdown(t.Context()))
	assert.Empty(t, f.shared.byConfig)
}

func TestSharedAgainAfterShutdown(t *testing.T) {
	one, two := &countingInstance{}, &countingInstance{}
	f, cfg := testFactory(one, two), &Config{}
	metrics, logs := f.both(t, cfg)
	require.NoError(t, metrics.Shutdown(t.Context()))
	again, _ := f.both(t, cfg)
	require.NoError(t, logs.Shutdown(t.Context()), "the late one of the old pair")
	assert.Len(t, f.shared.byConfig, 1, "must not remove its successor")
	require.NoError(t, again.Start(t.Context(), componenttest.NewNopHost()))
	assert.Zero(t, one.starts.Load())
	assert.EqualValues(t, 1, two.starts.Load())
	require.NoError(t, again.Shutdown(t.Context()))
}

func TestSharedShutdownWithoutStart(t *testing.T) {
	one := &countingInstance{}
	metrics, logs := testFactory(one).both(t, &Config{})
	require.NoError(t, logs.Shutdown(t.Context()))
	assert.EqualValues(t, 1, one.shutdowns.Load())
	require.NoError(t, metrics.Start(t.Context(), componenttest.NewNopHost()))
	assert.Zero(t, one.starts.Load(), "it has ended")
}

func TestSharedFailedStart(t *testing.T) {
	one := &countingInstance{err: errors.New("no")}
	metrics, logs := testFactory(one).both(t, &Config{})
	require.ErrorIs(t, metrics.Start(t.Context(), componenttest.NewNopHost()), one.err)
	require.ErrorIs(t, logs.Start(t.Context(), componenttest.NewNopHost()), one.err)
	assert.EqualValues(t, 1, one.starts.Load())
	require.NoError(t, logs.Shutdown(t.Context()))
	assert.EqualValues(t, 1, one.shutdowns.Load())
}

func TestSharedFailedCreate(t *testing.T) {
	no := errors.New("no")
	f := &factory{shared: newSharedSet(func(receiver.Settings, *Config) (instance, error) { return nil, no })}
	_, err := f.createMetrics(t.Context(), receivertest.NewNopSettings(metadata.Type), &Config{}, consumertest.NewNop())
	require.ErrorIs(t, err, no)
	_, err = f.createLogs(t.Context(), receivertest.NewNopSettings(metadata.Type), &Config{}, consumertest.NewNop())
	require.ErrorIs(t, err, no)
	assert.Empty(t, f.shared.byConfig)
}

func TestSharedStatus(t *testing.T) {
	first := componentstatus.NewRecoverableErrorEvent(errors.New("one probe is missing"))
	one := &countingInstance{event: first}
	metrics, logs := testFactory(one).both(t, &Config{})
	a, b := newReportingHost(), newReportingHost()
	require.NoError(t, metrics.Start(t.Context(), a))
	require.NoError(t, logs.Start(t.Context(), b))
	assert.Equal(t, []*componentstatus.Event{first}, a.events)
	assert.Equal(t, []*componentstatus.Event{first}, b.events, "who starts later learns of it too")

	second := componentstatus.NewEvent(componentstatus.StatusOK)
	componentstatus.ReportStatus(one.host, second)
	assert.Equal(t, []*componentstatus.Event{first, second}, a.events)
	assert.Equal(t, []*componentstatus.Event{first, second}, b.events)

	require.NoError(t, metrics.Shutdown(t.Context()))
	componentstatus.ReportStatus(one.host, first)
	assert.Len(t, a.events, 2, "nothing is reported while it stops")
}

// For the race detector: many components come and go at once, and half of them share.
func TestSharedConcurrently(t *testing.T) {
	var created, ended atomic.Int32
	set := newSharedSet(func(receiver.Settings, *Config) (instance, error) {
		created.Add(1)
		return &endingInstance{ended: &ended}, nil
	})
	f := &factory{shared: set}
	configs := []*Config{{}, {}, {}, {}}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			s, err := f.shared.get(receivertest.NewNopSettings(metadata.Type), configs[i%len(configs)])
			if assert.NoError(t, err) {
				assert.NoError(t, s.Start(t.Context(), newReportingHost()))
				assert.NoError(t, s.Shutdown(t.Context()))
			}
		})
	}
	wg.Wait()
	assert.Equal(t, created.Load(), ended.Load())
	assert.Empty(t, set.byConfig)
}

type endingInstance struct{ ended *atomic.Int32 }

func (*endingInstance) setMetrics(consumer.Metrics) {}
func (*endingInstance) setLogs(consumer.Logs)       {}

func (*endingInstance) Start(_ context.Context, host component.Host) error {
	componentstatus.ReportStatus(host, componentstatus.NewEvent(componentstatus.StatusOK))
	return nil
}

func (i *endingInstance) Shutdown(context.Context) error {
	i.ended.Add(1)
	return nil
}
