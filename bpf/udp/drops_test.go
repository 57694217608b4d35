// SPDX-License-Identifier: Apache-2.0

//go:build linux

package udp_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	testkernel "github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// What a receive buffer has no room for is dropped, and counted as the kernel counts it. On every kernel.
func TestKernelUDPReceiveDrops(t *testing.T) {
	for _, tt := range []struct {
		name, to, counter, want string
		family                  int
		tells                   bool
	}{
		{"ipv4", "10.1.0.2:1000", "UdpRcvbufErrors", "1000 ipv4", unix.AF_INET, true},
		// A port that others get by chance.
		{"ephemeral", "10.1.0.2:7000", "UdpRcvbufErrors", "- ipv4", unix.AF_INET, true},
		// Told of since Linux 6.5; the third argument is younger.
		{"ipv6", "[fd00::2]:1000", "Udp6RcvbufErrors", "1000 ipv6", unix.AF_INET6, arguments(t, "udp_fail_queue_rcv_skb") >= 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !tt.tells {
				t.Skip("this kernel may not tell of drops of IPv6 (Linux 6.5)")
			}
			here, there := testkernel.Pair(t, "cable", "cable")
			there.Do(func() {
				require.NoError(t, os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("7000 7999"), 0))
			})
			run := here.Start(`
probes:
  udp:
    metrics:
      ebpf.udp.io: { enabled: false }
      ebpf.udp.datagrams: { enabled: false }
      ebpf.udp.receive.drops: { attributes: [ebpf.network.namespace, server.port, network.type, network.local.address, process.linux.cgroup] }
`)
			s, c := server(t, there, tt.family, tt.to), client(t, here, tt.family, tt.to)
			require.NoError(t, unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096))
			const all = 500
			// The first finds the way. Until it has, others would wait in a queue that is short.
			send(t, c, 700)
			receive(t, s, 700)
			for range all - 1 {
				send(t, c, 700)
			}
			// What came and was not dropped.
			require.Eventually(t, func() bool {
				for {
					if _, _, err := unix.Recvfrom(s, make([]byte, 1000), unix.MSG_DONTWAIT); err != nil {
						break
					}
				}
				return received(there)+there.Counters()[tt.counter] == all
			}, wait, tick)
			// One that comes to a port where nobody is, is no drop of a socket.
			send(t, client(t, here, tt.family, tt.to[:len(tt.to)-4]+"1001"), 1)
			run.Stop()
			dropped := there.Counters()[tt.counter]
			require.Positive(t, dropped)
			points := testkernel.Of(run.Last("ebpf.udp.receive.drops"), there)
			assert.Equal(t, map[string]int{tt.want: dropped}, testkernel.Values(points, "server.port", "network.type"))
			require.Len(t, points, 1)
			assert.NotEmpty(t, points[0].Attributes["network.local.address"])
			assert.NotEmpty(t, points[0].Attributes["process.linux.cgroup"])
			assert.Empty(t, testkernel.Of(run.Last("ebpf.udp.receive.drops"), here))
		})
	}
}

// A kernel that does not tell of calls says so of both metrics, and has the third.
func TestKernelUDPWithoutCalls(t *testing.T) {
	testkernel.NeedRoot(t)
	if arguments(t, "sock_send_length") > 0 {
		t.Skip("this kernel tells of calls")
	}
	specs, err := probe.Builtin(bpf.Probes)
	require.NoError(t, err)
	settings, err := specs["udp"].Resolve(probe.Config{})
	require.NoError(t, err)
	var p *probe.Probe
	testkernel.Unprivileged(t, func() {
		p, err = probe.Load(specs["udp"], settings, probe.Environment{Kernel: kernel.New(kernel.Options{}), CgroupController: -1})
		require.NoError(t, err)
	})
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	require.Len(t, p.Missing, 2)
	for _, metric := range []string{"ebpf.udp.io", "ebpf.udp.datagrams"} {
		require.ErrorIs(t, p.Missing[metric], kernel.ErrNotSupported)
		require.EqualError(t, p.Missing[metric], "role calls: sent+received: this kernel has no tracepoint sock_send_length")
	}
}
