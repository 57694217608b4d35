// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"context"
	"errors"
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
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace/noop"
	"go.yaml.in/yaml/v3"

	hostkernel "github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	ebpfreceiver "github.com/ebpfreceiver/ebpfreceiver/receiver"
)

// How long a test waits for what has to happen, and how often it looks.
const (
	patience = 2 * time.Minute
	poll     = 10 * time.Millisecond
)

// rig is a receiver in this process, with what its telemetry says.
type rig struct {
	t          testing.TB
	telemetry  *componenttest.Telemetry
	components []component.Component
}

// start runs a receiver with a configuration as it would stand below "ebpf:". A nil consumer stands for a signal without a pipeline. Nothing
// that the configuration asks for may be missing.
func start(t testing.TB, config string, metrics consumer.Metrics, logs consumer.Logs) *rig {
	t.Helper()
	r := &rig{t: t, telemetry: componenttest.NewTelemetry()}
	t.Cleanup(func() { _ = r.telemetry.Shutdown(context.Background()) })
	t.Cleanup(func() { _ = r.shutdown(context.Background()) })
	r.start(config, metrics, logs)
	return r
}

// start runs a receiver after [rig.stop] has ended the one before, with the same telemetry.
func (r *rig) start(config string, metrics consumer.Metrics, logs consumer.Logs) {
	r.t.Helper()
	set := r.telemetry.NewTelemetrySettings()
	set.TracerProvider = noop.NewTracerProvider() // that of the tests keeps every span
	var err error
	r.components, err = create(r.t.Context(), set, config, metrics, logs)
	require.NoError(r.t, err)
	host := &strictHost{Host: componenttest.NewNopHost()}
	for _, c := range r.components {
		require.NoError(r.t, c.Start(r.t.Context(), host))
	}
	require.NoError(r.t, host.err())
}

// create makes the components of a receiver.
func create(ctx context.Context, set component.TelemetrySettings, config string, metrics consumer.Metrics, logs consumer.Logs) ([]component.Component, error) {
	var values map[string]any
	if err := yaml.Unmarshal([]byte(config), &values); err != nil {
		return nil, err
	}
	if _, ok := values["cgroup_hierarchy"]; !ok {
		values["cgroup_hierarchy"] = "v2"
	}
	factory := ebpfreceiver.NewFactory()
	cfg := factory.CreateDefaultConfig()
	if err := confmap.NewFromStringMap(values).Unmarshal(cfg); err != nil {
		return nil, err
	}
	if err := cfg.(*ebpfreceiver.Config).Validate(); err != nil {
		return nil, err
	}
	settings := receivertest.NewNopSettings(factory.Type())
	settings.TelemetrySettings = set
	var components []component.Component
	if metrics != nil {
		c, err := factory.CreateMetrics(ctx, settings, cfg, metrics)
		if err != nil {
			return nil, err
		}
		components = append(components, c)
	}
	if logs != nil {
		c, err := factory.CreateLogs(ctx, settings, cfg, logs)
		if err != nil {
			return nil, err
		}
		components = append(components, c)
	}
	return components, nil
}

// socketProbes are tcp and udp, in the configuration of probes, where the kernel has all of them: since Linux 5.12 and 6.3.
func socketProbes(t testing.TB) (config string) {
	t.Helper()
	host := hostkernel.New(hostkernel.Options{})
	for probe, needs := range map[string]string{"tcp: { max_sockets: 1000 }": "func/bpf_sk_storage_get_tracing", "udp:": "args/sock_send_length:3"} {
		err := host.Require(needs)
		if err == nil {
			config += "  " + probe + "\n"
			continue
		}
		require.ErrorIs(t, err, hostkernel.ErrNotSupported)
	}
	return config
}

func (r *rig) shutdown(ctx context.Context) error {
	var errs []error
	for _, c := range r.components {
		errs = append(errs, c.Shutdown(ctx))
	}
	r.components = nil
	return errors.Join(errs...)
}

// stop ends the receiver, which delivers what it has.
func (r *rig) stop() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(r.t, r.shutdown(ctx))
}

// number adds up one of the receiver's own metrics, over all series that pass, of which there has to be one.
func (r *rig) number(name string, pass func(get func(key string) string) bool) (sum int64) {
	r.t.Helper()
	m, err := r.telemetry.GetMetric(name)
	require.NoError(r.t, err)
	found := false
	for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
		get := func(key string) string {
			v, _ := p.Attributes.Value(attribute.Key(key))
			return v.AsString()
		}
		if pass(get) {
			sum, found = sum+p.Value, true
		}
	}
	require.True(r.t, found, "nothing of %s passes", name)
	return sum
}

// account is what became of the events of one type, by outcome.
type account map[string]int64

// atRest holds it to what docs/reliability.md promises: all that was produced became something.
func (a account) atRest(t assert.TestingT, event string) {
	assert.Equal(t, a["produced"], a["submitted"]+a["dropped"]+a["filtered"]+a["limited"], "%s in the kernel: %v", event, a)
	assert.Equal(t, a["submitted"], a["delivered"]+a["refused"], "%s in the Collector: %v", event, a)
}

// accounts of a probe's events, by event; undecodable records belong to none.
func (r *rig) accounts() map[string]account {
	r.t.Helper()
	m, err := r.telemetry.GetMetric("otelcol_receiver_ebpf_events")
	require.NoError(r.t, err)
	all := make(map[string]account)
	for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
		event, _ := p.Attributes.Value("event")
		outcome, _ := p.Attributes.Value("outcome")
		if all[event.AsString()] == nil {
			all[event.AsString()] = make(account)
		}
		all[event.AsString()][outcome.AsString()] += p.Value
	}
	return all
}

// settled waits until every account balances: all that was produced became something.
func (r *rig) settled() map[string]account {
	r.t.Helper()
	var all map[string]account
	require.EventuallyWithT(r.t, func(t *assert.CollectT) {
		all = r.accounts()
		for event, a := range all {
			if event == "" {
				assert.Zero(t, a["undecodable"])
				continue
			}
			a.atRest(t, event)
		}
	}, patience, poll)
	return all
}

// strictHost keeps what a receiver reports of itself.
type strictHost struct {
	component.Host

	mu       sync.Mutex
	reported []error
}

// Report implements [componentstatus.Reporter].
func (h *strictHost) Report(e *componentstatus.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reported = append(h.reported, e.Err())
}

func (h *strictHost) err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(h.reported...)
}

// logRecords calls fn for each record.
func logRecords(ld plog.Logs, fn func(plog.LogRecord)) {
	for _, rl := range ld.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			for _, r := range sl.LogRecords().All() {
				fn(r)
			}
		}
	}
}

// numberPoints calls fn for each data point of a metric.
func numberPoints(md pmetric.Metrics, name string, fn func(pmetric.NumberDataPoint)) {
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				if m.Name() == name {
					for _, p := range m.Sum().DataPoints().All() {
						fn(p)
					}
				}
			}
		}
	}
}

// logsFunc is a consumer that changes nothing.
func logsFunc(t testing.TB, fn consumer.ConsumeLogsFunc) consumer.Logs {
	t.Helper()
	c, err := consumer.NewLogs(fn)
	require.NoError(t, err)
	return c
}

func metricsFunc(t testing.TB, fn consumer.ConsumeMetricsFunc) consumer.Metrics {
	t.Helper()
	c, err := consumer.NewMetrics(fn)
	require.NoError(t, err)
	return c
}

// nothing takes data and forgets it.
var nothing = consumertest.NewNop()
