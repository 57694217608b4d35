// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// Servers often listen in one process and accept in its children. A connection is theirs; so it is where the listener is older than the probe, so that
// nobody knows whose it is.
func TestKernelTCPAcceptor(t *testing.T) {
	needConnections(t) // else its parts were skipped, and the whole had passed
	for _, name := range []string{"young listener", "old listener"} {
		t.Run(name, func(t *testing.T) {
			here, there := pair(t)
			var listener net.Listener
			listens := func() {
				there.Do(func() {
					var err error
					listener, err = net.Listen("tcp4", "10.1.0.2:8080")
					require.NoError(t, err)
				})
			}
			if name == "old listener" {
				listens()
			}
			run := here.Start(`
collection_interval: 1h
probes:
  tcp:
    metrics:
      ebpf.tcp.connections: { attributes: [ebpf.network.namespace, process] }
      ebpf.tcp.io: { attributes: [ebpf.network.namespace, process] }
      ebpf.tcp.connection.duration: { attributes: [ebpf.network.namespace, process] }
      ebpf.tcp.accept_queue.wait: { enabled: true, attributes: [ebpf.network.namespace, process] }
    events: { ebpf.tcp.connection: { enabled: true } }
`)
			if listener == nil {
				listens()
			}
			file, err := listener.(*net.TCPListener).File()
			require.NoError(t, err)
			child := serveApart(t, there, kernel.NewCgroup(t), inherited, file)
			require.NoError(t, file.Close())
			require.NoError(t, listener.Close())
			const connections, bytes = 3, 100
			for range connections {
				c := dial(t, here, "tcp4", "10.1.0.2:8080")
				exchange(t, c, bytes)
				require.NoError(t, c.Close())
			}
			child.end()
			closed(t, here, there)
			run.Stop()

			of := func(metric string, host *kernel.Network) map[string]int {
				return kernel.Values(kernel.Of(run.Last(metric), host), "process.pid", "process.executable.name")
			}
			server, client := fmt.Sprint(child.pid, " ", child.name), fmt.Sprint(os.Getpid(), " tcp.test")
			for _, metric := range []string{"ebpf.tcp.connections", "ebpf.tcp.connection.duration"} {
				assert.Equal(t, map[string]int{server: connections}, of(metric, there), metric)
				assert.Equal(t, map[string]int{client: connections}, of(metric, here), metric)
			}
			assert.Equal(t, map[string]int{server: 2 * connections * bytes}, of("ebpf.tcp.io", there), "both ways")
			assert.Equal(t, map[string]int{server: connections}, of("ebpf.tcp.accept_queue.wait", there))
			accepted := 0
			for _, logs := range run.Logs.AllLogs() {
				each(logs, func(r plog.LogRecord) {
					if a := r.Attributes().AsRaw(); a["ebpf.network.namespace"] == there.Inode() {
						accepted++
						assert.Equal(t, child.pid, a["process.pid"])
						assert.Equal(t, child.name, a["process.executable.name"])
					}
				})
			}
			assert.Equal(t, connections, accepted)
		})
	}
}
