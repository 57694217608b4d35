// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"text/template"

	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// setup is a Collector's configuration: its events are those of one cgroup.
type setup struct {
	// Dir is where its files are.
	Dir      string
	Cgroup   string
	Interval string
	RootPath string
	Probes   []string
	// Prometheus and Telemetry are ports, of the metrics and of the Collector's own.
	Prometheus, Telemetry int
}

// newSetup has both probes, and all ports free.
func newSetup(t *testing.T, c *kernel.Cgroup) setup {
	t.Helper()
	return setup{
		Dir: sharedDir(t), Cgroup: c.Path, Interval: "200ms", Probes: []string{"cpu", "process"},
		Prometheus: kernel.FreePort(t), Telemetry: kernel.FreePort(t),
	}
}

var configuration = template.Must(template.New("").Parse(`
receivers:
  ebpf:
    collection_interval: {{ .Interval }}
    cgroup_hierarchy: v2
    root_path: "{{ .RootPath }}"
    probes:
    {{- range .Probes }}
      {{- if eq . "cpu" }}
      cpu:
        required: true
        metrics:
          container.cpu.time: { attributes: [process.linux.cgroup] }
          ebpf.cpu.run_queue.latency: { attributes: [process.linux.cgroup] }
      {{- else if eq . "process" }}
      process:
        required: true
        metrics:
          system.process.created: { attributes: [cgroup] }
          ebpf.process.lifetime: { attributes: [cgroup] }
        events:
          ebpf.process.exec: { filter: { cgroups: [{{ $.Cgroup }}] } }
          ebpf.process.exit: { filter: { cgroups: [{{ $.Cgroup }}] } }
      {{- else if eq . "flow" }}
      flow: { required: true, interfaces: [lo], attributes: [server.port, network.transport] }
      {{- else }}
      {{ . }}: { required: true, attributes: [server.port] }
      {{- end }}
    {{- end }}
exporters:
  file/metrics: { path: {{ .Dir }}/metrics.json, append: true, flush_interval: 100ms }
  file/logs: { path: {{ .Dir }}/logs.json, append: true, flush_interval: 100ms }
  prometheus: { endpoint: "127.0.0.1:{{ .Prometheus }}" }
service:
  telemetry:
    metrics:
      readers: [{ pull: { exporter: { prometheus: { host: 127.0.0.1, port: {{ .Telemetry }} } } } }]
  pipelines:
    metrics: { receivers: [ebpf], exporters: [file/metrics, prometheus] }
    logs: { receivers: [ebpf], exporters: [file/logs] }
`))

// file writes the configuration.
func (s setup) file(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	require.NoError(t, configuration.Execute(&text, s))
	return write(t, filepath.Join(s.Dir, "config.yaml"), "%s", text.String())
}

// trues runs /bin/true n times in a cgroup, some at a time, and returns the process ids.
func trues(t *testing.T, c *kernel.Cgroup, n int) []int64 {
	t.Helper()
	pids := make([]int64, n)
	errs := make([]error, n)
	var workers sync.WaitGroup
	const parallel = 4
	for w := range parallel {
		workers.Go(func() {
			for i := w; i < n; i += parallel {
				cmd := c.Command("/bin/true", fmt.Sprint(i))
				errs[i] = cmd.Run()
				if errs[i] == nil {
					pids[i] = int64(cmd.Process.Pid)
				}
			}
		})
	}
	workers.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	return pids
}
