// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"maps"
	"net"
	"os/exec"
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
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	here, there := kernel.Pair(t, "cable", "cable")
	client, id := kernel.NewCgroup(t).Container()
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
        attributes: [ebpf.network.namespace, ebpf.network.drop.reason, ebpf.network.drop.symbol, network.transport, ethertype, container, process.linux.cgroup]
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
	// A packet that waits for a neighbour who is not there is still its sender's.
	here.Do(func() { require.Error(t, client.Command(bash, "-c", "exec 3<>/dev/tcp/10.1.0.77/1").Run()) })
	run.Stop()
	drops := kernel.With(kernel.Of(run.Last("ebpf.network.drops"), there), "network.transport", "tcp")
	want := "no_socket tcp_v4_rcv tcp ipv4 -" // nobody's
	if !hasReasons(t) {
		want = "- tcp_v4_rcv tcp ipv4 -"
	}
	have := kernel.Values(drops, "ebpf.network.drop.reason", "ebpf.network.drop.symbol", "network.transport", "network.type", "process.linux.cgroup")
	// A slow machine sends again what has come, which is dropped by others.
	again := here.Counters()["TcpRetransSegs"]
	maps.DeleteFunc(have, func(series string, n int) bool {
		if again == 0 || series == want {
			return false
		}
		again -= min(n, again)
		return true
	})
	assert.Equal(t, map[string]int{want: 7}, have)
	sent := kernel.With(kernel.Of(run.Last("ebpf.network.drops"), here), "process.linux.cgroup", client.Path)
	assert.Equal(t, map[string]int{id + " tcp ipv4": 1},
		kernel.Values(kernel.With(sent, "network.transport", "tcp"), "container.id", "network.transport", "network.type"))
}

// What a socket throws away is its container's.
func TestKernelTCPDropsOfContainers(t *testing.T) {
	if _, ok := tracepoint(t, "kfree_skb", 4); !ok {
		t.Skip("this kernel does not tell who was to receive a packet (Linux 6.11)")
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	here, there := pair(t)
	client, id := kernel.NewCgroup(t).Container()
	run := here.Start(`
collection_interval: 200ms
probes:
  tcp: { metrics: { ebpf.network.drops: { attributes: [container, process.linux.cgroup, ebpf.network.namespace, ebpf.network.drop.reason] } } }
`)
	l := listener(t, there, "tcp4", "10.1.0.2:8080")
	cmd := client.Command(bash, "-c", "exec 3<>/dev/tcp/10.1.0.2/8080; read x <&3 || true")
	here.Do(func() { require.NoError(t, cmd.Start()) })
	accepted, err := l.Accept()
	require.NoError(t, err)
	c := accepted.(*net.TCPConn)
	sends, receives := numbers(t, c)
	const times = 6
	send(t, there, "cable", times, packet{
		from: c.LocalAddr().(*net.TCPAddr).AddrPort(), to: c.RemoteAddr().(*net.TCPAddr).AddrPort(), sequence: sends + 1<<30, answer: receives, flags: rst | ack,
	}.frame(here.Link("cable").Attrs().HardwareAddr))
	want := map[string]int{id + " " + client.Path: times}
	have := func() map[string]int {
		drops := kernel.With(kernel.Of(run.Last("ebpf.network.drops"), here), "ebpf.network.drop.reason", "tcp_invalid_sequence")
		return kernel.Values(drops, "container.id", "process.linux.cgroup")
	}
	assert.Eventually(t, func() bool { return assert.ObjectsAreEqual(want, have()) }, wait, tick)
	require.NoError(t, c.Close())
	require.NoError(t, cmd.Wait())
	require.NoError(t, l.Close())
	closed(t, here, there)
	run.Stop()
	assert.Equal(t, want, have())
}
