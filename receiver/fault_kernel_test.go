// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/zap"

	hostkernel "github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	ebpfreceiver "github.com/ebpfreceiver/ebpfreceiver/receiver"
	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// missing starts a receiver to which something is missing, and returns what it reports: one recoverable error, in one sentence.
func (r *rig) missing() string {
	r.t.Helper()
	require.NoError(r.t, r.tryStart(r.t.Context()))
	var reported []error
	for _, e := range r.host.reported() {
		assert.Equal(r.t, componentstatus.StatusRecoverableError, e.Status())
		reported = append(reported, e.Err())
	}
	// Each signal's component is told.
	require.Len(r.t, reported, len(r.components))
	for _, err := range reported {
		assert.Equal(r.t, reported[0], err)
	}
	text := reported[0].Error()
	assert.NotContains(r.t, text, "\n")
	assert.Len(r.t, r.messages.FilterField(zap.Error(reported[0])).All(), 1, "logged once")
	assert.Empty(r.t, r.errorsLogged())
	r.t.Log(text)
	return text
}

// states are the present states of the probes.
func (r *rig) states() map[string]string {
	r.t.Helper()
	m, err := r.telemetry.GetMetric("otelcol_receiver_ebpf_probe_status")
	require.NoError(r.t, err)
	states := make(map[string]string)
	for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
		if p.Value == 1 {
			probe, _ := p.Attributes.Value("probe")
			state, _ := p.Attributes.Value("state")
			states[probe.AsString()] = state.AsString()
		}
	}
	return states
}

const (
	childVariable = "RECEIVER_TEST_CHILD"
	nobody        = 65534
)

// runChild runs one test of this binary as a user without rights, with nothing but the capabilities given.
func runChild(t *testing.T, test string, capabilities ...uintptr) {
	t.Helper()
	kernel.NeedRoot(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+test+"$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), childVariable+"="+test)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: nobody, Gid: nobody},
		AmbientCaps: capabilities,
	}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+test, "the child's test ran")
	t.Logf("%s", out)
}

func onlyAsChild(t *testing.T) {
	t.Helper()
	if os.Getenv(childVariable) != t.Name() {
		t.Skip("runs as a child of another test")
	}
	require.Equal(t, nobody, os.Geteuid())
}

func TestKernelUnprivileged(t *testing.T) { runChild(t, "TestChildUnprivileged") }

func TestChildUnprivileged(t *testing.T) {
	onlyAsChild(t)
	before := kernel.Held(t)
	r := newRig(t, "probes: { cpu: , process: }")
	told := r.missing()
	assert.Contains(t, told, "CAP_BPF and CAP_PERFMON")
	assert.Contains(t, told, "AmbientCapabilities=CAP_BPF CAP_PERFMON")
	assert.Equal(t, map[string]string{"cpu": "failed", "process": "failed"}, r.states())
	r.stop()
	assert.Equal(t, before, kernel.Held(t))

	r.configure("probes: { cpu: , process: { required: true } }")
	require.EqualError(t, r.tryStart(t.Context()), told)
	require.NoError(t, r.shutdown(t.Context()))
	assert.Equal(t, before, kernel.Held(t))
}

// The capabilities that the message names are enough, but for what asks for more.
func TestKernelCapabilities(t *testing.T) {
	runChild(t, "TestChildCapabilities", uintptr(hostkernel.CapBPF), uintptr(hostkernel.CapPerfmon))
}

func TestChildCapabilities(t *testing.T) {
	onlyAsChild(t)
	r := newRig(t, "probes: { cpu: , process: }")
	r.start()
	assert.Equal(t, map[string]string{"cpu": "attached", "process": "attached"}, r.states())
	r.stop()

	r = newRig(t, "program_statistics: true\nprobes: { cpu: , process: }")
	assert.Contains(t, r.missing(), "CAP_SYS_ADMIN")
	assert.Equal(t, map[string]string{"cpu": "attached", "process": "attached"}, r.states(), "statistics are all that is missing")
	r.stop()
}

// without is a file system that lacks some directories.
type without struct {
	fs.FS
	hidden []string
}

func (w without) Open(name string) (fs.File, error) {
	for _, dir := range w.hidden {
		if strings.HasPrefix(name+"/", dir+"/") {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
	}
	return w.FS.Open(name)
}

// hide makes the receiver's kernel lack directories.
func (r *rig) hide(dirs ...string) {
	r.factory = ebpfreceiver.NewFactoryOn(func() *hostkernel.Kernel {
		return hostkernel.New(hostkernel.Options{FS: without{os.DirFS("/"), dirs}})
	})
}

func TestKernelWithoutTypeInformation(t *testing.T) {
	kernel.NeedRoot(t)
	before := kernel.Held(t)
	r := newRig(t, "probes: { cpu: , process: }")
	r.hide("sys/kernel/btf")
	told := r.missing()
	assert.Contains(t, told, "this kernel has no BTF type information")
	assert.Contains(t, told, "CONFIG_DEBUG_INFO_BTF=y")
	assert.Equal(t, map[string]string{"cpu": "failed", "process": "failed"}, r.states())
	r.stop()
	assert.Equal(t, before, kernel.Held(t))

	r.configure("probes: { cpu: { required: true } }")
	require.EqualError(t, r.tryStart(t.Context()), told)
	require.NoError(t, r.shutdown(t.Context()))
}

// What depends on a part of the kernel goes missing, and nothing else.
func TestKernelWithoutTracefs(t *testing.T) {
	kernel.NeedRoot(t)
	c := kernel.NewCgroup(t)
	r := newRig(t, `
probes:
  cpu:
  process:
    metrics: { ebpf.process.exec.failures: { enabled: true } }
    events: { ebpf.process.exec: { filter: { cgroups: [`+c.Path+`] } }, ebpf.process.exit: { enabled: false } }
`)
	r.hide("sys/kernel/tracing", "sys/kernel/debug")
	logs, metrics := new(consumertest.LogsSink), new(consumertest.MetricsSink)
	r.logs, r.metrics = logs, metrics
	told := r.missing()
	assert.Contains(t, told, "ebpf.process.exec.failures")
	assert.Contains(t, told, "mount -t tracefs")
	assert.Equal(t, map[string]string{"cpu": "attached", "process": "degraded"}, r.states())
	require.NoError(t, c.Command("true").Run())
	r.stop()
	assert.Equal(t, 1, logs.LogRecordCount())
	names := make(map[string]bool)
	for _, md := range metrics.AllMetrics() {
		for _, name := range []string{"ebpf.cpu.run_queue.latency", "system.process.created", "ebpf.process.exec.failures"} {
			names[name] = names[name] || len(kernel.Points(md, name)) > 0
		}
	}
	assert.Equal(t, map[string]bool{"ebpf.cpu.run_queue.latency": true, "system.process.created": true, "ebpf.process.exec.failures": false}, names)

	r.configure("probes: { process: { required: true, metrics: { ebpf.process.exec.failures: { enabled: true } } } }")
	assert.ErrorContains(t, r.tryStart(t.Context()), "tracefs", "what is required is all of it")
	require.NoError(t, r.shutdown(t.Context()))
	assert.Empty(t, kernel.Held(t).Programs)
}

// A probe that can not be attached leaves nothing behind, and does not concern the other.
func TestKernelProbeThatFails(t *testing.T) {
	kernel.NeedRoot(t)
	path := filepath.Join(t.TempDir(), "mine")
	require.NoError(t, os.CopyFS(path, os.DirFS("testdata/rejected")))
	spec, err := os.ReadFile(filepath.Join(path, "probe.yaml"))
	require.NoError(t, err)
	spec = bytes.Replace(spec, []byte("- good"), []byte("- unknown_hook"), 1)
	require.NoError(t, os.WriteFile(filepath.Join(path, "probe.yaml"), spec, 0o600))
	before := kernel.Held(t)
	r := newRig(t, "probes: { cpu: , mine: { path: "+path+" } }")
	sink := new(consumertest.MetricsSink)
	r.metrics = sink
	told := r.missing()
	assert.Contains(t, told, "this kernel has no tracepoint no_such_tracepoint")
	assert.Equal(t, map[string]string{"cpu": "attached", "mine": "failed"}, r.states())
	r.stop()
	assert.Positive(t, sink.DataPointCount())
	assert.Equal(t, before, kernel.Held(t))

	// cpu is attached before it, and goes with it.
	r.configure("probes: { cpu: , mine: { required: true, path: " + path + " } }")
	require.EqualError(t, r.tryStart(t.Context()), told)
	assert.Equal(t, before, kernel.Held(t))
	require.NoError(t, r.shutdown(t.Context()))
}

// On a v1 hierarchy, cgroups have the names that they have there.
func TestKernelV1Hierarchy(t *testing.T) {
	kernel.NeedRoot(t)
	controller, mount := "", ""
	for _, c := range []string{"memory", "cpuacct", "pids", "cpu", "cpuset"} {
		dir := filepath.Join("/sys/fs/cgroup", c)
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			controller, mount = c, dir
			break
		}
	}
	if mount == "" {
		t.Skip("no v1 controller is mounted")
	}
	path := fmt.Sprintf("/ebpfreceiver-test-%08x", rand.Uint32())
	require.NoError(t, os.Mkdir(mount+path, 0o755))
	t.Cleanup(func() { assert.Eventually(t, func() bool { return os.Remove(mount+path) == nil }, eventually, poll) })
	r := newRig(t, "cgroup_hierarchy: "+controller+"\n"+only("ebpf.process.exec", "{ filter: { cgroups: ["+path+"] } }"))
	sink := new(consumertest.LogsSink)
	r.logs = sink
	r.start()
	require.NoError(t, exec.Command("sh", "-c", "echo $$ > "+mount+path+"/cgroup.procs; exec true").Run())
	r.stop()
	assert.Equal(t, []string{path}, cgroups(sink))
}
