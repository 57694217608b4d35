// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"net"
	"os"
	"os/exec"
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

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
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
	needs.Root(t)
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
		work(t)
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

// work makes the host do what the probes count: a context switch each way, and a softirq for a packet.
func work(t *testing.T) {
	t.Helper()
	require.NoError(t, exec.Command("true").Run())
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.WriteTo([]byte("x"), c.LocalAddr())
	require.NoError(t, err)
	_, _, err = c.ReadFrom(make([]byte, 1))
	require.NoError(t, err)
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
	spoil        func(f *userFolder)
	want         []string
}{
	{
		name: "no_folder", folder: softirqsFolder,
		spoil: func(f *userFolder) { require.NoError(f.t, os.RemoveAll(f.dir)) },
		want:  []string{"probes::mine::path", "mine/probe.yaml", "no such file or directory"},
	},
	{
		name: "folder_is_a_file", folder: softirqsFolder,
		spoil: func(f *userFolder) {
			require.NoError(f.t, os.RemoveAll(f.dir))
			require.NoError(f.t, os.WriteFile(f.dir, nil, 0o600))
		},
		want: []string{"probes::mine::path", "mine/probe.yaml", "not a directory"},
	},
	{
		name: "no_spec", folder: softirqsFolder,
		spoil: func(f *userFolder) { require.NoError(f.t, os.Remove(filepath.Join(f.dir, "probe.yaml"))) },
		want:  []string{"probes::mine::path", "mine/probe.yaml", "no such file or directory"},
	},
	{
		name: "spec_mistakes", folder: softirqsFolder,
		spoil: func(f *userFolder) {
			f.replace("type: counter", "type: conter")
			f.replace("value: count\n", "valeu: count\n")
		},
		want: []string{
			"mine/probe.yaml:33: metrics.ebpf.example.softirqs.type: unknown metric type \"conter\"",
			"mine/probe.yaml:35: metrics.ebpf.example.softirqs.valeu: unknown key", "did you mean \"value\"?",
		},
	},
	{
		name: "no_object", folder: softirqsFolder,
		spoil: func(f *userFolder) { require.NoError(f.t, os.Remove(filepath.Join(f.dir, "softirqs.bpf.o"))) },
		want:  []string{"probe mine", "mine/softirqs.bpf.o", "no such file or directory"},
	},
	{
		name: "object_is_no_elf", folder: softirqsFolder,
		spoil: func(f *userFolder) {
			f.object("softirqs.bpf.o", func([]byte) []byte { return []byte("#!/bin/sh\necho hello\n") })
		},
		want: []string{"probe mine", "mine/softirqs.bpf.o", "read the object", "bad magic number"},
	},
	{
		name: "object_is_empty", folder: softirqsFolder,
		spoil: func(f *userFolder) { f.object("softirqs.bpf.o", func([]byte) []byte { return nil }) },
		want:  []string{"probe mine", "mine/softirqs.bpf.o", "read the object"},
	},
	{
		name: "object_is_cut", folder: softirqsFolder,
		spoil: func(f *userFolder) {
			f.object("softirqs.bpf.o", func(b []byte) []byte { return b[:len(b)/2] })
		},
		want: []string{"probe mine", "mine/softirqs.bpf.o", "read the object"},
	},
	{
		name: "object_of_another_probe", folder: softirqsFolder,
		spoil: func(f *userFolder) {
			other, err := os.ReadFile(cgroupsFolder + "/cgroups.bpf.o")
			require.NoError(f.t, err)
			f.object("softirqs.bpf.o", func([]byte) []byte { return other })
		},
		want: []string{
			"mine/softirqs.bpf.o", "programs.count.candidates[0].programs: unknown program \"count_softirq\"",
			"metrics.ebpf.example.softirqs.map: unknown map \"softirqs\"",
		},
	},
	{
		name: "unknown_map", folder: softirqsFolder,
		spoil: func(f *userFolder) { f.replace("map: softirqs", "map: softirq") },
		want:  []string{"metrics.ebpf.example.softirqs.map: unknown map \"softirq\"", "\"softirqs\""},
	},
	{
		name: "unknown_value_field", folder: softirqsFolder,
		spoil: func(f *userFolder) { f.replace("value: count\n", "value: number\n") },
		want:  []string{"metrics.ebpf.example.softirqs.value: count has no field \"number\"; it has count"},
	},
	{
		name: "unknown_record_field", folder: cgroupsFolder,
		spoil: func(f *userFolder) {
			f.replace("      ebpf.example.cgroup.path: path\n      ebpf.example.cgroup.id: { field: id, description: The inode number of its directory. }\n"+
				"      ebpf.example.cgroup.level: { field: level, description: How far it is below the root of its hierarchy. }\n"+
				"      ebpf.example.cgroup.hierarchy: { field: hierarchy, description: The hierarchy's number as in /proc/PID/cgroup. That of v2 is 0. }\n"+
				"  ebpf.example.cgroup.removed:", "      ebpf.example.cgroup.path: pathname\n  ebpf.example.cgroup.removed:")
		},
		want: []string{"cgroup_event has no field \"pathname\"; it has container, header, hierarchy, id, level, path"},
	},
	{
		name: "decoder_of_another_type", folder: softirqsFolder,
		spoil: func(f *userFolder) {
			text, err := os.ReadFile(filepath.Join(f.dir, "probe.yaml"))
			require.NoError(f.t, err)
			_, values, _ := strings.Cut(string(text), "    values:\n")
			values, _, _ = strings.Cut(values, "\nmetrics:")
			f.replace("as: enum", "as: port")
			f.replace("    values:\n"+values, "")
		},
		want: []string{"metric ebpf.example.softirqs", "vector", "decoder \"port\"", "2 bytes"},
	},
	{
		name: "histogram_of_a_number", folder: softirqsFolder,
		spoil: func(f *userFolder) {
			f.replace("type: counter", "type: histogram")
		},
		want: []string{"metric ebpf.example.softirqs"},
	},
	{
		name: "counter_of_a_struct", folder: softirqsFolder,
		spoil: func(f *userFolder) { f.replace("value: count\n", "value: .\n") },
		want:  []string{"metric ebpf.example.softirqs", "not a number"},
	},
	{
		name: "event_decoder_of_another_type", folder: cgroupsFolder,
		spoil: func(f *userFolder) {
			f.replace("      ebpf.example.cgroup.path: path\n      ebpf.example.cgroup.id: { field: id, description: The inode number of its directory. }\n"+
				"      ebpf.example.cgroup.level: { field: level, description: How far it is below the root of its hierarchy. }\n"+
				"      ebpf.example.cgroup.hierarchy: { field: hierarchy, description: The hierarchy's number as in /proc/PID/cgroup. That of v2 is 0. }\n"+
				"  ebpf.example.cgroup.removed:", "      ebpf.example.cgroup.path: { field: path, as: mac }\n  ebpf.example.cgroup.removed:")
		},
		want: []string{"event ebpf.example.cgroup.created", "ebpf.example.cgroup.path", "decoder \"mac\""},
	},
	{
		name: "verifier_rejects", folder: rejectedFolder,
		spoil: func(f *userFolder) { f.replace("- good", "- unchecked_pointer") },
		want:  []string{"probe mine", "role count", "program unchecked_pointer", "map_value_or_null"},
	},
	{
		name: "unknown_kernel_field", folder: rejectedFolder,
		spoil: func(f *userFolder) { f.replace("- good", "- unknown_field") },
		want:  []string{"probe mine", "role count", "unknown_field"},
	},
	{
		name: "unknown_hook", folder: rejectedFolder,
		spoil: func(f *userFolder) { f.replace("- good", "- unknown_hook") },
		want:  []string{"probe mine", "role count", "no_such_tracepoint"},
	},
	{
		name: "unsupported_hook", folder: rejectedFolder,
		spoil: func(f *userFolder) { f.replace("- good", "- unsupported_hook") },
		want:  []string{"probe mine", "role count", "hooks of the type \"xdp\" are not supported"},
	},
}

// needKernelFor skips tests with a folder that the kernel lacks something for: the probe cgroups is not given a task, and so needs a helper of
// Linux 5.11.
func needKernelFor(t *testing.T, folder string) {
	t.Helper()
	if folder != cgroupsFolder {
		return
	}
	if err := kernel.New(kernel.Options{}).Require("func/bpf_get_current_task_btf"); err != nil {
		require.ErrorIs(t, err, kernel.ErrNotSupported)
		t.Skip(err)
	}
}

// A fault costs the probe that has it, and no other; with `required` it is the end of Start.
func TestKernelUserProbeFaults(t *testing.T) {
	for i, fault := range userFaults {
		if testing.Short() && i%5 != 0 {
			continue // they are faults of files, the same on every kernel
		}
		t.Run(fault.name, func(t *testing.T) {
			needKernelFor(t, fault.folder)
			f := copyFolder(t, fault.folder)
			fault.spoil(f)
			mine := map[string]any{"path": f.dir}
			metrics, reported, err := runProbes(t, map[string]any{"cpu": nil, "mine": mine})
			require.NoError(t, err)
			require.Len(t, reported, 1)
			assert.Equal(t, componentstatus.StatusRecoverableError, reported[0].Status())
			for _, text := range fault.want {
				assert.ErrorContains(t, reported[0].Err(), text)
			}
			assert.True(t, metrics["ebpf.cpu.context_switches"], "the other probe goes on: %v", metrics)

			mine["required"] = true
			metrics, reported, err = runProbes(t, map[string]any{"cpu": nil, "mine": mine})
			for _, text := range fault.want {
				require.ErrorContains(t, err, text)
			}
			assert.Empty(t, reported)
			assert.Empty(t, metrics)
		})
	}
}

// The folders are in order before they are spoilt.
func TestKernelUserProbes(t *testing.T) {
	for folder, metric := range map[string]string{
		softirqsFolder: "ebpf.example.softirqs", rejectedFolder: "ebpf.rejected.count", cgroupsFolder: "ebpf.cpu.context_switches",
	} {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			needKernelFor(t, folder)
			f := copyFolder(t, folder)
			metrics, reported, err := runProbes(t, map[string]any{"cpu": nil, "mine": map[string]any{"path": f.dir, "required": true}})
			require.NoError(t, err)
			assert.Empty(t, reported) // the Collector itself reports that a component is well
			assert.True(t, metrics[metric], "%v", metrics)
		})
	}
}

// What is wrong in the configuration, and not in the folder, ends Start as it would have ended validation.
func TestKernelUserProbeConfiguration(t *testing.T) {
	f := copyFolder(t, softirqsFolder)
	_, reported, err := runProbes(t, map[string]any{"mine": map[string]any{
		"path":    f.dir,
		"metrics": map[string]any{"ebpf.example.softirq": map[string]any{"attributes": []any{"vector"}}},
		"vectors": 3,
	}})
	require.ErrorContains(t, err, `probes::mine::metrics: unknown metric "ebpf.example.softirq", did you mean "ebpf.example.softirqs"?`)
	require.ErrorContains(t, err, `probes::mine: unknown key "vectors"`)
	assert.Empty(t, reported)
}

// One folder under two names would make each series twice.
func TestKernelUserProbeTwice(t *testing.T) {
	f := copyFolder(t, softirqsFolder)
	metrics, reported, err := runProbes(t, map[string]any{"one": map[string]any{"path": f.dir}, "two": map[string]any{"path": f.dir}})
	require.NoError(t, err)
	require.Len(t, reported, 1)
	require.ErrorContains(t, reported[0].Err(), "probe two: ebpf.example.softirqs comes from the probe one already")
	assert.True(t, metrics["ebpf.example.softirqs"], "the first goes on: %v", metrics)
}
