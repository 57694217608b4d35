// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// sample is what a receiver's process has at one time.
type sample struct {
	goroutines, descriptors int
	resident, heap          int            // bytes; the heap after a collection
	entries                 map[string]int // of maps that are no more than looked at, by probe and name
}

func (r *rig) sample() sample {
	r.t.Helper()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s := sample{goroutines: runtime.NumGoroutine(), resident: status(r.t, os.Getpid(), "VmRSS"), heap: int(m.HeapAlloc), entries: make(map[string]int)}
	for _, n := range kernel.Held(r.t).Descriptors {
		s.descriptors += n
	}
	values := func(name string) map[string]int {
		metric, err := r.telemetry.GetMetric(name)
		require.NoError(r.t, err)
		found := make(map[string]int)
		gauge, ok := metric.Data.(metricdata.Gauge[int64])
		require.True(r.t, ok, "%s is %T", name, metric.Data)
		for _, p := range gauge.DataPoints {
			probe, _ := p.Attributes.Value("probe")
			table, _ := p.Attributes.Value("map")
			found[probe.AsString()+"/"+table.AsString()] = int(p.Value)
		}
		return found
	}
	s.entries = values("otelcol_receiver_ebpf_map_entries")
	for name, capacity := range values("otelcol_receiver_ebpf_map_capacity") {
		assert.LessOrEqual(r.t, s.entries[name], capacity, name)
	}
	return s
}

func (s sample) all() int {
	sum := 0
	for _, n := range s.entries {
		sum += n
	}
	return sum
}

// soakTime is how long the soak goes on: SOAK=1h is what `make soak` asks for.
func soakTime(t *testing.T) time.Duration {
	text := os.Getenv("SOAK")
	if text == "" {
		return time.Duration(size(20, 20, 60)) * time.Second
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err)
	return d
}

// churn makes what comes and goes on a host, at a moderate rate, until stop is closed: cgroups with processes in them, flows, keys and events.
func churn(t *testing.T, parent *kernel.Cgroup, network *kernel.Network, stop <-chan struct{}, generators ...*generator) (wait func()) {
	var running sync.WaitGroup
	every := func(pace time.Duration, fn func(i int)) {
		running.Go(func() {
			ticker := time.NewTicker(pace)
			defer ticker.Stop()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-ticker.C:
					fn(i)
				}
			}
		})
	}
	every(20*time.Millisecond, func(i int) { inside(t, filepath.Join(parent.Dir, fmt.Sprintf("c%d", i)), "/bin/true") })
	var listener net.PacketConn
	network.Do(func() {
		var err error
		listener, err = net.ListenPacket("udp4", "127.0.0.1:9")
		require.NoError(t, err)
	})
	t.Cleanup(func() { listener.Close() })
	every(5*time.Millisecond, func(int) {
		var from net.Conn
		var err error
		network.Do(func() { from, err = net.Dial("udp4", "127.0.0.1:9") })
		if assert.NoError(t, err) {
			_, err = from.Write([]byte("x"))
			assert.NoError(t, err)
			from.Close()
		}
	})
	for _, g := range generators {
		every(20*time.Millisecond, func(int) { g.run(1) })
	}
	return running.Wait
}

// Hours of everything that comes and goes, with a restart of the receiver from time to time: what it holds stays the same.
func TestKernelSoak(t *testing.T) {
	kernel.NeedRoot(t)
	if testing.Short() && os.Getenv("SOAK") == "" {
		t.Skip("takes its time, and is the same on all kernels: run `make soak`")
	}
	dir, token := numberedProbe(t)
	parent, network := kernel.NewCgroup(t), kernel.NewNetwork(t)
	config := fmt.Sprintf(`
collection_interval: 1s
series_ttl: 3s
probes:
  cpu:
  process: { metrics: { system.process.created: { attributes: [cgroup] } } }
  flow: { interfaces: [lo], ports: all, attributes: [source.port, destination.port, network.io.direction], max_series: 1000 }
  numbered: { path: %q, token: %d, burst: %d, max_series: 2000 }
`, dir, token, burst)
	var r *rig
	begin := func() {
		network.Do(func() { r = start(t, config, nothing, nothing) })
	}
	begin()
	stop := make(chan struct{})
	wait := churn(t, parent, network, stop, newGenerator(t, nil, token, events, 0, 0), newGenerator(t, nil, token, keys, 1, 0))
	ended := sync.OnceFunc(func() { close(stop); wait() })
	t.Cleanup(ended)

	// Caches and tables fill up first. There is a restart for ten samples.
	const samples = 100
	whole := soakTime(t)
	first, list := whole/5, make([]sample, 0, samples)
	var produced int64
	time.Sleep(first)
	for i := range samples {
		if i%10 == 5 {
			for _, a := range r.accounts() {
				produced += a["produced"]
			}
			r.stop()
			begin()
		}
		time.Sleep((whole - first) / samples)
		list = append(list, r.sample())
	}
	ended()
	for _, a := range r.settled() {
		produced += a["produced"]
	}
	r.stop()

	early, late := list[:samples/3], list[samples*2/3:]
	most := func(of []sample, value func(sample) int) int {
		return value(slices.MaxFunc(of, func(a, b sample) int { return value(a) - value(b) }))
	}
	for _, f := range []struct {
		what  string
		value func(sample) int
		unit  float64
		// The last third may exceed the first by so much of it, and this much besides: what the load is doing at that moment.
		share float64
		slack int
	}{
		{"goroutines", func(s sample) int { return s.goroutines }, 1, 0, 10},
		{"descriptors", func(s sample) int { return s.descriptors }, 1, 0, 10},
		{"entries of maps", sample.all, 1, 0.5, 1000},
		{"heap, MiB", func(s sample) int { return s.heap }, MiB, 0.25, 4 * MiB},
		{"resident memory, MiB", func(s sample) int { return s.resident }, MiB, 0.25, 16 * MiB},
	} {
		a, b := most(early, f.value), most(late, f.value)
		assert.LessOrEqual(t, b, int(float64(a)*(1+f.share))+f.slack, f.what)
		t.Logf("%s: at most %.1f in the first third, %.1f in the last", f.what, float64(a)/f.unit, float64(b)/f.unit)
	}
	t.Logf("%v: %d events, %d restarts", whole, produced, samples/10)
}
