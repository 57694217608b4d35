// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// A CPU goes and comes back: what programs counted on it stays counted, and they go on. Only in a virtual machine of the matrix, which is nobody's.
func TestKernelHotplug(t *testing.T) {
	needMachine(t, "takes a CPU away")
	const last = "/sys/devices/system/cpu/cpu1/online"
	if _, err := os.Stat(last); err != nil || runtime.NumCPU() < 2 {
		t.Skip("this machine has no CPU to take away; run `make test-kernels` for those that have")
	}
	set := func(online string) { require.NoError(t, os.WriteFile(last, []byte(online), 0)) }
	t.Cleanup(func() { set("1") })
	dir, token := numberedProbe(t)
	l, count := newLedger(), &sums{metric: "ebpf.test.keys", cumulative: true}
	// Each is tied to a CPU; the kernel moves the second when that goes.
	made, counted := []*generator{newGenerator(t, nil, token, events, 0, 0), newGenerator(t, nil, token, events, 1, 0)},
		newGenerator(t, nil, token, keys, 1, 0)
	r := start(t, fmt.Sprintf("collection_interval: 100ms\nprobes: { cpu: , numbered: { path: %q, token: %d, burst: %d } }", dir, token, burst),
		metricsFunc(t, func(_ context.Context, md pmetric.Metrics) error { count.take(t, md); return nil }),
		logsFunc(t, func(_ context.Context, ld plog.Logs) error { l.take(ld); return nil }))
	for range size(2, 5, 20) {
		for _, online := range []string{"0", "1"} {
			for _, g := range append(made, counted) {
				g.run(5)
			}
			set(online)
		}
	}
	for _, g := range append(made, counted) {
		g.run(5)
	}
	all := r.settled()
	r.stop()
	assert.Empty(t, l.wrong)
	truth := burst * (made[0].made.Load() + made[1].made.Load())
	for _, event := range []string{plain, limited, filtered} {
		assert.Equal(t, truth, all[event]["produced"], event)
		assert.Equal(t, truth-l.arrived(event), all[event]["dropped"], event)
	}
	assert.Equal(t, burst*counted.made.Load(), count.total())
}
