// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/goleak"
)

// statusRecorder keeps what the receiver reports of itself.
type statusRecorder struct {
	component.Host

	events []*componentstatus.Event
}

func (h *statusRecorder) Report(e *componentstatus.Event) { h.events = append(h.events, e) }

// runProbes starts a receiver with the given probes, stops it again, and returns the names of the metrics that it
// delivered, what it reported, and the error of Start.
func runProbes(t *testing.T, probes map[string]any) (metrics map[string]bool, reported []*componentstatus.Event, err error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: run `make test` with sudo")
	}
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	factory := NewFactory()
	cfg := factory.CreateDefaultConfig()
	values := map[string]any{"collection_interval": "1h", "probes": probes}
	require.NoError(t, confmap.NewFromStringMap(values).Unmarshal(cfg))
	require.NoError(t, confmap.Validate(cfg), "a user's folder is not looked at before Start")
	metricsSink, logsSink := new(consumertest.MetricsSink), new(consumertest.LogsSink)
	set := receivertest.NewNopSettings(factory.Type())
	m, err := factory.CreateMetrics(t.Context(), set, cfg, metricsSink)
	require.NoError(t, err)
	l, err := factory.CreateLogs(t.Context(), set, cfg, logsSink)
	require.NoError(t, err)

	host := &statusRecorder{Host: componenttest.NewNopHost()}
	err = m.Start(t.Context(), host)
	if err == nil {
		require.NoError(t, l.Start(t.Context(), componenttest.NewNopHost()))
	}
	require.NoError(t, m.Shutdown(t.Context()))
	require.NoError(t, l.Shutdown(t.Context()))

	metrics = make(map[string]bool)
	for _, md := range metricsSink.AllMetrics() {
		for _, rm := range md.ResourceMetrics().All() {
			for _, sm := range rm.ScopeMetrics().All() {
				for _, metric := range sm.Metrics().All() {
					metrics[metric.Name()] = true
				}
			}
		}
	}
	return metrics, host.events, err
}

// userFolder is a copy of a probe's folder that a test may break.
type userFolder struct {
	t   *testing.T
	dir string
}

func copyFolder(t *testing.T, from string) *userFolder {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mine")
	require.NoError(t, os.CopyFS(dir, os.DirFS(from)))
	return &userFolder{t: t, dir: dir}
}

// replace exchanges text in the folder's probe.yaml, which has it once.
func (f *userFolder) replace(was, is string) {
	f.t.Helper()
	file := filepath.Join(f.dir, "probe.yaml")
	text, err := os.ReadFile(file)
	require.NoError(f.t, err)
	require.Equal(f.t, 1, strings.Count(string(text), was), was)
	require.NoError(f.t, os.WriteFile(file, []byte(strings.Replace(string(text), was, is, 1)), 0o600))
}

// object changes the bytes of the folder's object.
func (f *userFolder) object(name string, change func([]byte) []byte) {
	f.t.Helper()
	file := filepath.Join(f.dir, name)
	object, err := os.ReadFile(file)
	require.NoError(f.t, err)
	require.NoError(f.t, os.WriteFile(file, change(object), 0o600))
}

const (
	softirqsFolder = "../examples/probes/softirqs"
	cgroupsFolder  = "../examples/probes/cgroups"
	rejectedFolder = "testdata/rejected"
)

// Each fault of a user's probe, with what the report has to name.
var userFaults = []struct {
	name, folder string
	break_       func(f *userFolder)
	want         []string
}{
	{
		name: "no_folder", folder: softirqsFolder,
		break_: func(f *userFolder) { require.NoError(f.t, os.RemoveAll(f.dir)) },
		want:   []string{"probes::mine::path", "mine/probe.yaml", "no such file or directory"},
	},
}

func TestKernelUserProbeFaults(t *testing.T) {
	for _, fault := range userFaults {
		t.Run(fault.name, func(t *testing.T) {
			f := copyFolder(t, fault.folder)
			fault.break_(f)
			mine := map[string]any{"path": f.dir}
			metrics, reported, err := runProbes(t, map[string]any{"cpu": nil, "mine": mine})
			t.Log(err, reported)
			_ = metrics
			_ = assert.New
		})
	}
}
