// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

const (
	good = `
receivers:
  ebpf:
    temporality: delta
    probes:
      cpu:
      process: { max_args: 512B, events: { ebpf.process.exec: { rate_limit: 1000 } } }
exporters:
  debug:
service:
  pipelines:
    metrics: { receivers: [ebpf], exporters: [debug] }
    logs: { receivers: [ebpf], exporters: [debug] }
`
	bad = `
receivers:
  ebpf:
    temporality: detla
    collection_interval: soon
    root: /hostfs
    probes:
      cpu: { metrics: { ebpf.cpu.run_queue.latancy: { enabled: true } } }
      process: { max_args: 1B, redact: ["("], events: { ebpf.process.exec: { rate_limit: -1 } } }
      proces:
exporters:
  debug:
service:
  pipelines:
    metrics: { receivers: [ebpf], exporters: [debug] }
`
)

// validate runs `otelcol validate` as a user without rights.
func validate(t *testing.T, config string) (string, error) {
	t.Helper()
	cmd := exec.Command(binary, "validate", "--config", write(t, filepath.Join(sharedDir(t), "config.yaml"), "%s", config))
	if os.Geteuid() == 0 {
		cmd.Path = sharedBinary(t)
		cmd.SysProcAttr = unprivileged()
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestValidate(t *testing.T) {
	needCollector(t)
	out, err := validate(t, good)
	require.NoError(t, err, out)
	assert.Empty(t, out)

	out, err = validate(t, bad)
	require.Error(t, err)
	for _, mistake := range []string{
		"detla", "collection_interval", "root", "ebpf.cpu.run_queue.latancy", "max_args", "redact", "rate_limit", "proces",
		"receivers::ebpf", "did you mean",
	} {
		assert.Contains(t, out, mistake)
	}
}

// TestKernelWithoutRights runs a Collector that has none: it goes on, and says what it lacks.
func TestKernelWithoutRights(t *testing.T) {
	needCollector(t)
	kernel.NeedRoot(t)
	dir := sharedDir(t)
	port := kernel.FreePort(t)
	config := write(t, filepath.Join(dir, "config.yaml"), `%s
  telemetry:
    metrics:
      readers: [{ pull: { exporter: { prometheus: { host: 127.0.0.1, port: %d } } } }]
`, good, port)
	c := startAs(t, unprivileged(), sharedBinary(t), config)
	assert.Contains(t, c.await("CAP_BPF", 1), "AmbientCapabilities=")
	page, err := get(t, port)
	require.NoError(t, err)
	for _, probe := range []string{"cpu", "process"} {
		failed, ok := page.value("otelcol_receiver_ebpf_probe_status", map[string]string{"probe": probe, "state": "failed"})
		assert.True(t, ok && failed == 1, probe)
	}
	c.stop()
}

// TestKernelFewRights runs a Collector with just what deploy/otelcol-ebpf.service and deploy/kubernetes grant.
func TestKernelFewRights(t *testing.T) {
	needCollector(t)
	cgroup := kernel.NewCgroup(t)
	s := newSetup(t, cgroup)
	require.NoError(t, os.Chown(s.Dir, nobody, nobody))
	c := startAs(t, unprivileged(unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_DAC_READ_SEARCH), sharedBinary(t), s.file(t))
	pids := trues(t, cgroup, 50)
	s.awaitEvents(t, pids)
	c.stop()
	assert.Empty(t, c.complaints())
	created, _ := s.point(t, "system.process.created")
	assert.EqualValues(t, len(pids), created.Value)
}
