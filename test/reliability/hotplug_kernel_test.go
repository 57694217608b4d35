// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// A CPU goes and comes back: what programs counted on it stays counted, and they go on, even if it was away when they were attached. Only in a virtual
// machine of the matrix, which is nobody's.
func TestKernelHotplug(t *testing.T) {
	needMachine(t, "takes a CPU away")
	const last = "/sys/devices/system/cpu/cpu1/online"
	if _, err := os.Stat(last); err != nil || runtime.NumCPU() < 2 {
		t.Skip("this machine has no CPU to take away; run `make test-kernels` for those that have")
	}
	for name, first := range map[string]string{"there at the start": "1", "away at the start": "0"} {
		t.Run(name, func(t *testing.T) {
			set := func(online string) { require.NoError(t, os.WriteFile(last, []byte(online), 0)) }
			t.Cleanup(func() { set("1") })
			dir, token := numberedProbe(t)
			c, l, count := kernel.NewCgroup(t), newLedger(), &sums{metric: "ebpf.test.keys", cumulative: true}
			var used time.Duration
			set(first)
			r := start(t, fmt.Sprintf(`
collection_interval: 100ms
probes:
  cpu: { metrics: { container.cpu.time: { attributes: [process.linux.cgroup] } } }
  numbered: { path: %q, token: %d, burst: %d }
`, dir, token, burst),
				metricsFunc(t, func(_ context.Context, md pmetric.Metrics) error {
					count.take(t, md)
					numberPoints(md, "container.cpu.time", func(p pmetric.NumberDataPoint) {
						if v, _ := p.Attributes().Get("process.linux.cgroup"); v.Str() == c.Path {
							used = time.Duration(math.Round(p.DoubleValue() * 1e9))
						}
					})
					return nil
				}),
				logsFunc(t, func(_ context.Context, ld plog.Logs) error { l.take(ld); return nil }))
			set("1")
			// Each is tied to a CPU; the kernel moves those of the second one when that goes.
			made, counted := []*generator{newGenerator(t, c, token, events, 0, 0), newGenerator(t, c, token, events, 1, 0)},
				newGenerator(t, c, token, keys, 1, 0)
			run := func() {
				for _, g := range append(made, counted) {
					g.run(5)
				}
			}
			for range size(2, 5, 20) {
				run()
				require.True(t, made[0].on(0) && made[1].on(1) && counted.on(1), "each on its CPU")
				set("0")
				run()
				require.False(t, made[1].on(1) || counted.on(1), "on a CPU that is away")
				set("1")
			}
			run()
			for _, g := range append(made, counted) {
				g.end()
			}
			all := r.settled()
			least := usage(t, c)
			r.stop()
			assert.Empty(t, l.wrong)
			truth := burst * (made[0].made.Load() + made[1].made.Load())
			for _, event := range []string{plain, limited, filtered} {
				assert.Equal(t, truth, all[event]["produced"], event)
				assert.Equal(t, truth-l.arrived(event), all[event]["dropped"], event)
			}
			assert.Equal(t, burst*counted.made.Load(), count.total())
			// All that ran in the cgroup has ended, so that these are the same once its last task is off its CPU.
			assert.GreaterOrEqual(t, used.Truncate(time.Microsecond), least, "CPU time")
			assert.LessOrEqual(t, used.Truncate(time.Microsecond), usage(t, c), "CPU time")
		})
	}
}
