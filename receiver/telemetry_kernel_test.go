// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.yaml.in/yaml/v3"

	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/metadatatest"
	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// declared are the attributes of each metric of the receiver's own that metadata.yaml declares, sorted.
func declared(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../metadata.yaml")
	require.NoError(t, err)
	var metadata struct {
		Telemetry struct {
			Metrics map[string]struct {
				Attributes []string `yaml:"attributes"`
			} `yaml:"metrics"`
		} `yaml:"telemetry"`
	}
	require.NoError(t, yaml.Unmarshal(text, &metadata))
	found := make(map[string][]string)
	for name, m := range metadata.Telemetry.Metrics {
		slices.Sort(m.Attributes)
		found["otelcol_"+name] = m.Attributes
	}
	return found
}

// observed are the attributes that each metric of the receiver's own has, sorted.
func (r *rig) observed() map[string][]string {
	r.t.Helper()
	var rm metricdata.ResourceMetrics
	require.NoError(r.t, r.telemetry.Reader.Collect(context.Background(), &rm))
	found := make(map[string]map[string]bool)
	note := func(name string, set attribute.Set) {
		for _, kv := range set.ToSlice() {
			found[name][string(kv.Key)] = true
		}
	}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			if !strings.HasPrefix(m.Name, "otelcol_receiver_ebpf_") {
				continue
			}
			found[m.Name] = make(map[string]bool)
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					note(m.Name, p.Attributes)
				}
			case metricdata.Sum[float64]:
				for _, p := range data.DataPoints {
					note(m.Name, p.Attributes)
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					note(m.Name, p.Attributes)
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					note(m.Name, p.Attributes)
				}
			}
		}
	}
	sorted := make(map[string][]string)
	for name, set := range found {
		sorted[name] = slices.Sorted(maps.Keys(set))
	}
	return sorted
}

func TestKernelEveryOwnMetricIsObserved(t *testing.T) {
	kernel.NeedRoot(t)
	c := kernel.NewCgroup(t)
	r := newRig(t, fmt.Sprintf(`
collection_interval: 100ms
program_statistics: true
probes:
  cpu:
  flow: { interfaces: [lo] }
  process: { ring_size: 64KiB, events: { ebpf.process.exec: { filter: { cgroups: [%s] } } } }
`, c.Path))
	network := kernel.NewNetwork(t)
	network.Do(r.start)
	run(t, c, 0, 5)
	require.EventuallyWithT(t, func(t *assert.CollectT) { assert.Equal(t, declared(r.t), r.observed()) }, eventually, poll)

	ignore := []metricdatatest.Option{metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars()}
	metadatatest.AssertEqualReceiverEbpfRingSize(t, r.telemetry, []metricdata.DataPoint[int64]{{
		Attributes: attribute.NewSet(attribute.String("probe", "process"), attribute.String("ring", "events")), Value: 64 << 10,
	}}, ignore...)
	var states []metricdata.DataPoint[int64]
	for _, probe := range []string{"cpu", "flow", "process"} {
		for state, v := range map[string]int64{"attached": 1, "degraded": 0, "failed": 0} {
			states = append(states, metricdata.DataPoint[int64]{
				Attributes: attribute.NewSet(attribute.String("probe", probe), attribute.String("state", state)), Value: v,
			})
		}
	}
	metadatatest.AssertEqualReceiverEbpfProbeStatus(t, r.telemetry, states, ignore...)
	metadatatest.AssertEqualReceiverEbpfInterfaceAttached(t, r.telemetry, []metricdata.DataPoint[int64]{{
		Attributes: attribute.NewSet(attribute.String("probe", "flow"), attribute.String("interface", "lo"),
			attribute.Int64("network_namespace", network.Inode())), Value: 1,
	}}, ignore...)

	r.stop()
	for name := range r.observed() {
		assert.Contains(t, []string{"otelcol_receiver_ebpf_snapshot_duration", "otelcol_receiver_ebpf_snapshot_rows"}, name,
			"after Shutdown, nothing is asked of the kernel")
	}
	assert.Empty(t, r.errorsLogged())
}

func TestKernelProgramStatistics(t *testing.T) {
	kernel.NeedRoot(t)
	const descriptor = "anon_inode:bpf-stats"
	for _, on := range []bool{false, true} {
		t.Run(fmt.Sprint(on), func(t *testing.T) {
			c := kernel.NewCgroup(t)
			r := newRig(t, fmt.Sprintf("program_statistics: %v\nprobes: { process: }", on))
			r.start()
			assert.Equal(t, on, kernel.Held(t).Descriptors[descriptor] == 1)
			run(t, c, 0, 20)
			if on {
				assert.GreaterOrEqual(t, r.sum("otelcol_receiver_ebpf_program_runs"), int64(60), "a fork, an exec and an exit of 20 processes")
			}
			r.stop()
			assert.Zero(t, kernel.Held(t).Descriptors[descriptor])
		})
	}
}

// Telemetry may be read at any time, also while the receiver comes and goes.
func TestKernelTelemetryIsReadMeanwhile(t *testing.T) {
	kernel.NeedRoot(t)
	r := newRig(t, everything)
	stop := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				var rm metricdata.ResourceMetrics
				assert.NoError(t, r.telemetry.Reader.Collect(context.Background(), &rm))
			}
		}
	})
	for range 2 {
		require.NoError(t, r.tryStart(t.Context()))
		r.stop()
	}
	close(stop)
	reading.Wait()
	assert.Empty(t, r.errorsLogged())
}

func TestKernelMapOverflows(t *testing.T) {
	kernel.NeedRoot(t)
	r := newRig(t, `
collection_interval: 100ms
probes:
  process: { metrics: { system.process.created: { attributes: [cgroup], max_series: 1 }, ebpf.process.lifetime: { enabled: false } } }
`)
	overflows := func() int64 { return r.sum("otelcol_receiver_ebpf_map_overflows") }
	r.start()
	assert.Zero(t, overflows())
	one, two := kernel.NewCgroup(t), kernel.NewCgroup(t)
	for range 2 {
		before := overflows()
		run(t, one, 0, 3)
		run(t, two, 0, 3)
		require.Eventually(t, func() bool { return overflows() > before }, eventually, poll)
	}
	r.stop()
}
