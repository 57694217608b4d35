// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// noContainers knows no containers.
type noContainers struct{}

func (noContainers) Resource(uint64) Resource            { return Resource{} }
func (noContainers) Describe(Resource, pcommon.Resource) {}

// A wall clock that is set, forwards and back, ends no interval before it starts, and costs no growth.
func TestKernelTheClockIsSet(t *testing.T) {
	needs.Root(t)
	for name, delta := range map[string]bool{"cumulative": false, "delta": true} {
		t.Run(name, func(t *testing.T) {
			builtin, err := probe.Builtin(bpf.Probes)
			require.NoError(t, err)
			off := false
			settings, err := builtin["process"].Resolve(probe.Config{Metrics: map[string]probe.MetricConfig{
				"system.process.created": {Attributes: []string{}}, "ebpf.process.lifetime": {Enabled: &off},
			}})
			require.NoError(t, err)
			settings.Events = nil
			p, err := probe.Load(builtin["process"], settings, probe.Environment{Kernel: kernel.New(kernel.Options{}), CgroupController: -1})
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, p.Close()) })
			now := time.Now()
			m := NewMetrics(Options{Identity: noContainers{}, Delta: delta, TTL: time.Hour}, now)
			table, err := NewTable(m, p.Tables[0], p, time.Hour)
			require.NoError(t, err)
			require.NoError(t, p.Attach())

			const tick = 10 * time.Second
			var last float64
			for i, step := range []time.Duration{-time.Hour, 0, -3 * time.Second, -24 * time.Hour, 0, 24 * time.Hour, -time.Minute, 0} {
				require.NoError(t, exec.Command("true").Run())
				now = now.Add(tick + step)
				m.begin(now.Round(0), tick)
				_, err := table.Read(t.Context())
				require.NoError(t, err)
				point := only(t, m.End())
				start, end := point.StartTimestamp().AsTime(), point.Timestamp().AsTime()
				assert.True(t, end.Equal(now), "tick %d", i)
				switch {
				case delta && step >= 0 || delta && step <= -tick:
					// The clock that was set back shows how long it was; the one that was set forwards does not.
					assert.Equal(t, tick+max(step, 0), end.Sub(start).Round(time.Second), "tick %d", i)
				case delta:
					assert.Equal(t, tick+step, end.Sub(start).Round(time.Second), "tick %d", i)
				default:
					assert.False(t, start.After(end), "tick %d", i)
					assert.Greater(t, float64(point.IntValue()), last, "tick %d: the total goes on", i)
					last = float64(point.IntValue())
				}
			}
		})
	}
}

// only is the payload's one data point.
func only(t *testing.T, md pmetric.Metrics) pmetric.NumberDataPoint {
	t.Helper()
	require.Equal(t, 1, md.DataPointCount())
	return md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Sum().DataPoints().At(0)
}
