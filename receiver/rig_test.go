// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"go.yaml.in/yaml/v3"

	ebpfreceiver "github.com/ebpfreceiver/ebpfreceiver/receiver"
	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/metadata"
	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/metadatatest"
)

// rig is one receiver with everything around it that a test may look at or exchange before start.
type rig struct {
	t       *testing.T
	factory receiver.Factory
	cfg     component.Config
	set     receiver.Settings

	// Consumers; nil for a signal without a pipeline.
	metrics consumer.Metrics
	logs    consumer.Logs

	host      *statusHost
	messages  *observer.ObservedLogs // from level info
	telemetry *componenttest.Telemetry

	components []component.Component
}

// newRig reads a configuration as it stands below "ebpf:". Its tick is far away unless it says otherwise.
func newRig(t *testing.T, config string) *rig {
	t.Helper()
	r := &rig{
		t: t, factory: ebpfreceiver.NewFactory(),
		metrics: new(consumertest.MetricsSink), logs: new(consumertest.LogsSink),
		host: &statusHost{Host: componenttest.NewNopHost()}, telemetry: componenttest.NewTelemetry(),
	}
	r.configure(config)
	r.set = metadatatest.NewSettings(r.telemetry)
	r.set.ID = component.NewID(metadata.Type)
	core, messages := observer.New(zapcore.InfoLevel)
	r.set.Logger, r.messages = zap.New(core), messages
	t.Cleanup(func() { require.NoError(t, r.telemetry.Shutdown(context.Background())) })
	return r
}

// configure replaces the configuration.
func (r *rig) configure(config string) {
	r.t.Helper()
	var values map[string]any
	require.NoError(r.t, yaml.Unmarshal([]byte(config), &values))
	for key, value := range map[string]any{"collection_interval": "1h", "cgroup_hierarchy": "v2"} {
		if _, ok := values[key]; !ok {
			values[key] = value
		}
	}
	r.cfg = r.factory.CreateDefaultConfig()
	require.NoError(r.t, confmap.NewFromStringMap(values).Unmarshal(r.cfg))
	require.NoError(r.t, r.cfg.(*ebpfreceiver.Config).Validate())
}

// create makes the components, as the Collector does before it starts any.
func (r *rig) create() {
	r.t.Helper()
	r.components = nil
	if r.metrics != nil {
		c, err := r.factory.CreateMetrics(r.t.Context(), r.set, r.cfg, r.metrics)
		require.NoError(r.t, err)
		r.components = append(r.components, c)
	}
	if r.logs != nil {
		c, err := r.factory.CreateLogs(r.t.Context(), r.set, r.cfg, r.logs)
		require.NoError(r.t, err)
		r.components = append(r.components, c)
	}
}

// tryStart returns the first error of Start, after which the Collector does not start the others.
func (r *rig) tryStart(ctx context.Context) error {
	r.t.Helper()
	r.create()
	for _, c := range r.components {
		if err := c.Start(ctx, r.host); err != nil {
			return err
		}
	}
	return nil
}

// start runs the receiver, which is to have everything that it asks for, until the test ends or stop.
func (r *rig) start() {
	r.t.Helper()
	require.NoError(r.t, r.tryStart(r.t.Context()))
	for _, e := range r.host.reported() {
		require.NoError(r.t, e.Err())
	}
	r.t.Cleanup(func() { _ = r.shutdown(context.Background()) })
}

// shutdown ends all components, and returns the first error.
func (r *rig) shutdown(ctx context.Context) (err error) {
	for _, c := range r.components {
		if e := c.Shutdown(ctx); e != nil && err == nil {
			err = e
		}
	}
	r.components = nil
	return err
}

func (r *rig) stop() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	require.NoError(r.t, r.shutdown(ctx))
}

// errorsLogged are the messages at level error or above.
func (r *rig) errorsLogged() []observer.LoggedEntry {
	return r.messages.Filter(func(e observer.LoggedEntry) bool { return e.Level >= zapcore.ErrorLevel }).All()
}

// account is what the receiver's telemetry says of a probe's events: by event and outcome, "" for what has no event.
func (r *rig) account() map[string]map[string]int64 {
	r.t.Helper()
	m, err := r.telemetry.GetMetric("otelcol_receiver_ebpf_events")
	require.NoError(r.t, err)
	account := make(map[string]map[string]int64)
	for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
		event, _ := p.Attributes.Value("event")
		outcome, _ := p.Attributes.Value("outcome")
		if account[event.AsString()] == nil {
			account[event.AsString()] = make(map[string]int64)
		}
		account[event.AsString()][outcome.AsString()] += p.Value
	}
	return account
}

// settled waits until an account balances, and returns it: everything that was produced became something.
func (r *rig) settled() map[string]map[string]int64 {
	r.t.Helper()
	var account map[string]map[string]int64
	require.EventuallyWithT(r.t, func(t *assert.CollectT) {
		account = r.account()
		var submitted, handled int64
		for event, a := range account {
			assert.Equal(t, a["produced"], a["submitted"]+a["dropped"]+a["filtered"]+a["limited"], "%s in the kernel: %v", event, a)
			submitted += a["submitted"]
			handled += a["delivered"] + a["refused"] + a["undecodable"]
		}
		assert.Equal(t, submitted, handled, "in the Collector: %v", account)
	}, eventually, poll)
	return account
}

// statusHost keeps what a component reports of itself.
type statusHost struct {
	component.Host

	mu     sync.Mutex
	events []*componentstatus.Event
}

// Report implements [componentstatus.Reporter].
func (h *statusHost) Report(e *componentstatus.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
}

func (h *statusHost) reported() []*componentstatus.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.events
}

// How long a test waits for what has to happen, and how often it looks.
const (
	eventually = 20 * time.Second
	poll       = 20 * time.Millisecond
)
