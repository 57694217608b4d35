// SPDX-License-Identifier: Apache-2.0

//go:build linux

package environment_test

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"go.yaml.in/yaml/v3"

	ebpfreceiver "github.com/ebpfreceiver/ebpfreceiver/receiver"
	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// need skips a test that is not in one of its environments, and returns the one that it is in.
func need(t *testing.T, environments ...string) string {
	t.Helper()
	here := os.Getenv(outcome.EnvironmentVariable)
	for _, e := range environments {
		if e == here {
			return e
		}
	}
	t.Skipf("runs in the environment %s of `make test-kernels`", strings.Join(environments, " or "))
	return ""
}

// run is a receiver that runs.
type run struct {
	*kernel.Run
	t          *testing.T
	host       *statusHost
	warnings   *observer.ObservedLogs
	components []receiver.Metrics
	stopped    bool
}

// start runs a receiver with a configuration as it stands below "ebpf:". Unless that says otherwise, its only snapshot is that of its end.
func start(t *testing.T, config string) *run {
	t.Helper()
	var values map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(config), &values))
	if values["collection_interval"] == nil {
		values["collection_interval"] = "1h"
	}
	factory := ebpfreceiver.NewFactory()
	cfg := factory.CreateDefaultConfig()
	require.NoError(t, confmap.NewFromStringMap(values).Unmarshal(cfg))
	require.NoError(t, cfg.(interface{ Validate() error }).Validate())
	r := &run{
		Run: &kernel.Run{Metrics: new(consumertest.MetricsSink), Logs: new(consumertest.LogsSink)}, t: t,
		host: &statusHost{Host: componenttest.NewNopHost()},
	}
	set := receivertest.NewNopSettings(factory.Type())
	set.Logger, r.warnings = observed()
	metrics, err := factory.CreateMetrics(t.Context(), set, cfg, r.Metrics)
	require.NoError(t, err)
	logs, err := factory.CreateLogs(t.Context(), set, cfg, r.Logs)
	require.NoError(t, err)
	r.components = []receiver.Metrics{metrics, logs}
	for _, c := range r.components {
		require.NoError(t, c.Start(t.Context(), r.host), "what is missing is no reason for the Collector not to start")
	}
	t.Cleanup(r.stop)
	return r
}

// observed is a logger, and what it is told from level warn on.
func observed() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zap.WarnLevel)
	return zap.New(core), logs
}

// stop delivers what there is.
func (r *run) stop() {
	r.t.Helper()
	if r.stopped {
		return
	}
	r.stopped = true
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, c := range r.components {
		require.NoError(r.t, c.Shutdown(ctx))
	}
}

// complaints are the sentences by which the component told what is missing. Each pipeline is told the same.
func (r *run) complaints() []string {
	r.t.Helper()
	r.host.mu.Lock()
	defer r.host.mu.Unlock()
	var lines []string
	for _, e := range r.host.events {
		if e.Err() == nil {
			continue
		}
		require.Equal(r.t, componentstatus.StatusRecoverableError, e.Status())
		told := strings.Split(e.Err().Error(), "\n")
		if lines == nil {
			lines = told
		}
		require.Equal(r.t, lines, told)
	}
	return lines
}

// requireMissing holds what the component says is missing against the names of metrics and events, of which each is in one sentence. The words are in each of
// them.
func (r *run) requireMissing(names []string, words ...string) {
	t := r.t
	t.Helper()
	var missing []string
	for _, c := range r.complaints() {
		what, _, ok := strings.Cut(c, " not available: ")
		require.True(t, ok, c)
		_, what, _ = strings.Cut(what, ": ") // after the probe's name
		what = strings.TrimSuffix(strings.TrimSuffix(what, " is"), " are")
		missing = append(missing, strings.Split(what, ", ")...)
		for _, word := range words {
			require.Contains(t, c, word)
		}
	}
	require.ElementsMatch(t, names, missing)
}

// requireWithout holds what the log says that the rest works without against names, of which each is in one line. The words are in each of them.
func (r *run) requireWithout(names []string, words ...string) {
	t := r.t
	t.Helper()
	var without []string
	for _, line := range r.warnings.FilterMessage("not available, and the rest works without it").All() {
		fields := line.ContextMap()
		without = append(without, fields["what"].(string))
		for _, word := range words {
			require.Contains(t, fields["error"], word)
		}
	}
	require.ElementsMatch(t, names, without)
}

// requireNone is for the data of metrics and events that are missing.
func (r *run) requireNone(names []string) {
	r.t.Helper()
	for _, name := range names {
		require.Empty(r.t, r.Last(name))
		require.Empty(r.t, r.records(name))
	}
}

// records are those of an event.
func (r *run) records(event string) (found []plog.LogRecord) {
	for _, ld := range r.Logs.AllLogs() {
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, record := range sl.LogRecords().All() {
					if record.EventName() == event {
						found = append(found, record)
					}
				}
			}
		}
	}
	return found
}

// events are the records of an event by the process that they are of.
func (r *run) events(name string) map[int64][]plog.LogRecord {
	found := make(map[int64][]plog.LogRecord)
	for _, record := range r.records(name) {
		if pid, ok := record.Attributes().Get("process.pid"); ok {
			found[pid.Int()] = append(found[pid.Int()], record)
		}
	}
	return found
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

// trues runs a program some times, and returns the processes that it was.
func trues(t *testing.T, n int) []int64 {
	t.Helper()
	pids := make([]int64, n)
	for i := range pids {
		cmd := exec.Command("/bin/true")
		require.NoError(t, cmd.Run())
		pids[i] = int64(cmd.Process.Pid)
	}
	return pids
}

// requireWhole holds the data of the probes cpu and process against processes that were run.
func (r *run) requireWhole(pids []int64) {
	r.t.Helper()
	for _, event := range []string{"ebpf.process.exec", "ebpf.process.exit"} {
		found := r.events(event)
		for _, pid := range pids {
			require.Len(r.t, found[pid], 1, "%s of %d", event, pid)
		}
	}
	r.requireCounted(len(pids))
}

// requireCounted holds the metrics that need no record of a process against the number of those that were run.
func (r *run) requireCounted(processes int) {
	r.t.Helper()
	require.NotEmpty(r.t, r.Last("container.cpu.time"))
	require.NotEmpty(r.t, r.Last("ebpf.cpu.run_queue.latency"))
	created := 0.0
	for _, p := range r.Last("system.process.created") {
		created += p.Value
	}
	require.GreaterOrEqual(r.t, created, float64(processes))
}

// allProbes are the built-in ones, as they are configured where nothing is said of them.
var allProbes = []string{"cpu: ", "process: ", "flow: { interfaces: [lo] }", "tcp: ", "udp: "}

// requireNothing runs each of the probes alone, and all of them in one receiver, which can do nothing at all, and say so once. The words are in that sentence.
func requireNothing(t *testing.T, words ...string) {
	t.Helper()
	for _, probes := range append(slices.Clone(allProbes), strings.Join(allProbes, ", ")) {
		t.Run(probes, func(t *testing.T) {
			before := kernel.Held(t)
			require.Empty(t, before.Programs)
			require.Empty(t, before.Maps)
			r := start(t, "probes: { "+probes+" }")
			complaints := r.complaints()
			require.Len(t, complaints, 1)
			for _, word := range words {
				require.Contains(t, complaints[0], word)
			}
			require.Equal(t, before, kernel.Held(t), "while it runs")
			trues(t, 3)
			r.stop()
			require.Equal(t, before, kernel.Held(t), "when it has ended")
			require.Zero(t, r.Metrics.DataPointCount())
			require.Zero(t, r.Logs.LogRecordCount())
		})
	}
}
