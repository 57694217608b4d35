// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// What the kernel throws away, by its own word for why, and where. What it is done with is no drop.
func TestKernelTCPDrops(t *testing.T) {
	kernel.Needs(t, "names of kernel functions", "CAP_SYSLOG")
	here, there := kernel.Pair(t, "cable", "cable")
	run := here.Start(`
probes:
  tcp:
    metrics: # none of those that old kernels lack
      ebpf.tcp.connections: { enabled: false }
      ebpf.tcp.connect.latency: { enabled: false }
      ebpf.tcp.connection.duration: { enabled: false }
      ebpf.tcp.io: { enabled: false }
      ebpf.tcp.rtt: { enabled: false }
      ebpf.tcp.resets: { enabled: false }
      ebpf.tcp.retransmits: { enabled: false }
      ebpf.tcp.listen.drops: { enabled: false }
      system.network.connection.count: { enabled: false }
      ebpf.network.drops:
        attributes: [ebpf.network.namespace, ebpf.network.drop.reason, ebpf.network.drop.symbol, network.transport, ethertype, process.linux.cgroup]
`)
	for range 7 {
		require.ErrorIs(t, dialing(here, "10.1.0.2:1", 10*time.Second), unix.ECONNREFUSED)
	}
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	c := dial(t, here, "tcp4", "10.1.0.2:8080")
	exchange(t, c, 100_000)
	require.NoError(t, c.Close())
	s.end()
	closed(t, here, there)
	run.Stop()
	drops := kernel.With(kernel.Of(run.Last("ebpf.network.drops"), there), "network.transport", "tcp")
	want := "no_socket tcp_v4_rcv tcp ipv4"
	if !hasReasons(t) {
		want = "- tcp_v4_rcv tcp ipv4"
	}
	have := kernel.Values(drops, "ebpf.network.drop.reason", "ebpf.network.drop.symbol", "network.transport", "network.type")
	if here.Counters()["TcpRetransSegs"] > 0 {
		// A slow machine sends again what has come.
		maps.DeleteFunc(have, func(series string, _ int) bool { return strings.Contains(series, "tcp_data_queue") })
	}
	assert.Equal(t, map[string]int{want: 7}, have)
}
