// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// Very many new series within one collection: while tables have room, each has its own, and nothing is in the overflow series.
func TestKernelTCPManySeries(t *testing.T) {
	needConnections(t)
	here := kernel.NewNetwork(t)
	run := here.Start(`
probes:
  tcp:
    metrics:
      ebpf.tcp.connections: { attributes: [ebpf.network.namespace, ebpf.tcp.role, server.port] }
      ebpf.tcp.connect.latency: { attributes: [ebpf.network.namespace, server.port] }
      ebpf.tcp.connection.duration: { attributes: [ebpf.network.namespace, ebpf.tcp.role, server.port] }
      ebpf.tcp.io: { attributes: [ebpf.network.namespace, ebpf.tcp.role, server.port] }
      ebpf.tcp.rtt: { attributes: [ebpf.network.namespace, ebpf.tcp.role, server.port] }
`)
	const first = 20_000
	n := kernel.Load(3000, 1000)
	for port := first; port < first+n; port++ {
		at := &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
		listener := socket(t, here, at.Addr, port)
		require.NoError(t, unix.Listen(listener, 1))
		client := socket(t, here, at.Addr, 0)
		require.NoError(t, unix.Connect(client, at))
		server, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		require.NoError(t, err)
		_, err = unix.Write(client, make([]byte, port-first))
		require.NoError(t, err)
		require.NoError(t, unix.Close(client))
		for got := -1; got != 0; {
			got, err = unix.Read(server, make([]byte, 4096))
			require.NoError(t, err)
		}
		require.NoError(t, unix.Close(server))
		require.NoError(t, unix.Close(listener))
	}
	closed(t, here)
	run.Stop()
	connections, latencies, received := map[string]int{}, map[string]int{}, map[string]int{}
	for port := first; port < first+n; port++ {
		p := strconv.Itoa(port)
		connections["connect "+p], connections["accept "+p] = 1, 1
		latencies[p] = 1
		if port > first {
			received[p] = port - first
		}
	}
	equal := func(metric string, want, have map[string]int) {
		wrong := 0
		for k, v := range want {
			if have[k] != v {
				wrong++
			}
		}
		for k := range have {
			if _, ok := want[k]; !ok {
				wrong++
			}
		}
		assert.Zero(t, wrong, "%s: wrong ones of %d series", metric, len(want))
		assert.Empty(t, kernel.With(run.Last(metric), "otel.metric.overflow", true), metric)
	}
	get := func(metric string, attributes ...string) map[string]int {
		return kernel.Values(kernel.Of(run.Last(metric), here), attributes...)
	}
	equal("ebpf.tcp.connections", connections, get("ebpf.tcp.connections", "ebpf.tcp.role", "server.port"))
	equal("ebpf.tcp.connect.latency", latencies, get("ebpf.tcp.connect.latency", "server.port"))
	equal("ebpf.tcp.connection.duration", connections, get("ebpf.tcp.connection.duration", "ebpf.tcp.role", "server.port"))
	equal("ebpf.tcp.rtt", connections, get("ebpf.tcp.rtt", "ebpf.tcp.role", "server.port"))
	equal("ebpf.tcp.io", received, kernel.Values(kernel.With(kernel.Of(run.Last("ebpf.tcp.io"), here), "network.io.direction", "receive"), "server.port"))
}
