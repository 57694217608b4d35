// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// sample is what a receiver's process has at one time.
type sample struct {
	goroutines, descriptors int
	resident, heap          int            // bytes; the heap after a collection
	locked                  int            // bytes that the kernel has for what is held by descriptors
	entries                 map[string]int // of maps that are no more than looked at, by probe and name
}

// accounted is the kernel's own account of a map or program, in proc_pid_fdinfo(5).
var accounted = regexp.MustCompile(`(?m)^memlock:\s+(\d+)\n((?:map|prog)_id:\s+\d+)$`)

// locked is the memory of all maps and programs that this process holds, in bytes.
func locked(t testing.TB) (sum int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fdinfo/*")
	require.NoError(t, err)
	seen := make(map[string]bool)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // closed meanwhile
		}
		require.NoError(t, err)
		m := accounted.FindStringSubmatch(string(b))
		if m == nil || seen[m[2]] {
			continue
		}
		seen[m[2]] = true
		n, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		sum += n
	}
	require.NotZero(t, sum)
	return sum
}

func (r *rig) sample() sample {
	r.t.Helper()
	runtime.GC()
	runtime.GC() // pools are emptied by the second one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s := sample{goroutines: runtime.NumGoroutine(), resident: status(r.t, os.Getpid(), "VmRSS"), heap: int(m.HeapAlloc), locked: locked(r.t)}
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

// churn makes what comes and goes on a host, at a moderate rate, until stop is closed: cgroups with processes in them, flows, connections, keys and
// events. Who holds pause meets none of that half-way, and with it no descriptor or goroutine of the churn itself, which a slow machine has for longer.
func churn(t *testing.T, parent *kernel.Cgroup, network *kernel.Network, stop <-chan struct{}, generators ...*generator) (pause sync.Locker, wait func()) {
	var running sync.WaitGroup
	var middle sync.RWMutex
	once := func(fn func(i int), i int) {
		middle.RLock()
		defer middle.RUnlock() // even if fn ends the goroutine
		fn(i)
	}
	every := func(pace time.Duration, fn func(i int)) {
		running.Go(func() {
			ticker := time.NewTicker(pace)
			defer ticker.Stop()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-ticker.C:
					once(fn, i)
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
	var server net.Listener
	network.Do(func() {
		var err error
		server, err = net.Listen("tcp4", "127.0.0.1:9")
		require.NoError(t, err)
	})
	t.Cleanup(func() { server.Close() })
	every(20*time.Millisecond, func(int) {
		var to net.Conn
		var err error
		network.Do(func() { to, err = net.Dial("tcp4", "127.0.0.1:9") })
		if !assert.NoError(t, err) {
			return
		}
		defer to.Close()
		if from, err := server.Accept(); assert.NoError(t, err) {
			from.Close()
		}
	})
	for _, g := range generators {
		every(20*time.Millisecond, func(int) { g.run(1) })
	}
	return &middle, running.Wait
}

// Hours of everything that comes and goes, for a receiver that lives as long, and for one beside it that is restarted from time to time: what the
// first holds stays the same, and nothing stays of the other.
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
%s`, dir, token, burst, socketProbes(t))
	count := &sums{metric: "ebpf.test.keys", cumulative: true}
	sink := metricsFunc(t, func(_ context.Context, md pmetric.Metrics) error {
		count.take(t, md)
		return nil
	})
	var lives, restarts *rig
	network.Do(func() {
		lives = start(t, config, sink, nothing)
		restarts = start(t, config, nothing, nothing)
	})
	restarts.stop()
	stop := make(chan struct{})
	ofEvents, ofKeys := newGenerator(t, nil, token, events, 0, 0), newGenerator(t, nil, token, keys, 1, 0)
	pause, wait := churn(t, parent, network, stop, ofEvents, ofKeys)
	ended := sync.OnceFunc(func() { close(stop); wait() })
	t.Cleanup(ended)

	// Caches and tables fill up first. A sample is taken when the other one has ended.
	begin, whole := time.Now(), soakTime(t)
	first := whole / 5
	time.Sleep(first)
	var list []sample
	for len(list) < 12 || time.Since(begin) < whole {
		network.Do(func() { restarts.start(config, nothing, nothing) })
		time.Sleep((whole - first) / 30)
		restarts.stop()
		func() {
			pause.Lock()
			defer pause.Unlock() // even if the sample fails: who waits for the churn would wait for ever
			list = append(list, lives.sample())
		}()
	}
	ended()
	took := time.Since(begin).Round(time.Second)
	all := lives.settled()
	misses := lives.number("otelcol_receiver_ebpf_program_recursion_misses", func(get func(string) string) bool { return strings.HasPrefix(get("program"), "number_") })
	held := kernel.Held(t)
	lives.stop()
	require.Zero(t, misses, "the generators disturbed each other")
	for _, event := range []string{plain, limited, filtered} {
		assert.Equal(t, ofEvents.made.Load()*burst, all[event]["produced"], event)
	}
	assert.Equal(t, ofKeys.made.Load()*burst, count.total(), "keys")

	// The middle of each third is what stays: around it is what the load is doing at that moment.
	middle := func(of []sample, value func(sample) int) int {
		of = slices.SortedFunc(slices.Values(of), func(a, b sample) int { return value(a) - value(b) })
		return value(of[len(of)/2])
	}
	early, late := list[:len(list)/3], list[len(list)*2/3:]
	for _, f := range []struct {
		what  string
		value func(sample) int
		unit  float64
		// The last third may exceed the first by so much of it, and this much besides.
		share float64
		slack int
	}{
		{"goroutines", func(s sample) int { return s.goroutines }, 1, 0, 1},
		{"descriptors", func(s sample) int { return s.descriptors }, 1, 0, 1},
		{"entries of maps", sample.all, 1, 0.25, 250},
		{"the kernel's memory, MiB", func(s sample) int { return s.locked }, MiB, 0, MiB},
		{"heap, MiB", func(s sample) int { return s.heap }, MiB, 0.1, 2 * MiB},
		{"resident memory, MiB", func(s sample) int { return s.resident }, MiB, 0.25, 8 * MiB},
	} {
		a, b := middle(early, f.value), middle(late, f.value)
		assert.LessOrEqual(t, b, int(float64(a)*(1+f.share))+f.slack, f.what)
		t.Logf("%s: %.1f in the middle of the first third, %.1f of the last", f.what, float64(a)/f.unit, float64(b)/f.unit)
	}
	t.Logf("%v: %d events, %d restarts", took, 3*ofEvents.made.Load()*burst, len(list))
	held.RequireGone(t)
}
