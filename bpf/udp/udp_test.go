// SPDX-License-Identifier: Apache-2.0

//go:build linux

package udp_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// How long what has to come may take, and how often it is looked for.
const (
	wait = 20 * time.Second
	tick = 10 * time.Millisecond
)

// byNamespace breaks what calls do down by network namespace, so that a test finds its own hosts.
const byNamespace = `
probes:
  udp:
    metrics:
      ebpf.udp.io: { attributes: [ebpf.network.namespace, server.port, network.type] }
      ebpf.udp.datagrams: { attributes: [ebpf.network.namespace, server.port, network.type] }
      ebpf.udp.receive.drops: { enabled: false }
`

// start runs the probe in a host; it skips the test where the kernel does not tell of calls.
func start(t *testing.T, n *kernel.Network, config string) *kernel.Run {
	t.Helper()
	if arguments(t, "sock_send_length") == 0 {
		t.Skip("this kernel has no tracepoint for calls (Linux 6.3)")
	}
	return n.Start(config)
}

// arguments is how many a tracepoint of the running kernel has, 0 without it.
func arguments(t *testing.T, tracepoint string) int {
	t.Helper()
	spec, err := btf.LoadKernelSpec()
	require.NoError(t, err)
	var def *btf.Typedef
	if err := spec.TypeByName("btf_trace_"+tracepoint, &def); err != nil {
		return 0
	}
	return len(def.Type.(*btf.Pointer).Target.(*btf.FuncProto).Params) - 1
}

// sent and received are what the kernel counted of both versions of IP.
func sent(n *kernel.Network) int {
	c := n.Counters()
	return c["UdpOutDatagrams"] + c["Udp6OutDatagrams"]
}

func received(n *kernel.Network) int {
	c := n.Counters()
	return c["UdpInDatagrams"] + c["Udp6InDatagrams"]
}

// socket is a socket of a host's. What does not come within some seconds is an error.
func socket(t *testing.T, n *kernel.Network, family, kind, protocol int) (fd int) {
	t.Helper()
	n.Do(func() {
		var err error
		fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
		require.NoError(t, err)
	})
	t.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
	return fd
}

func udp(t *testing.T, n *kernel.Network, family int) int {
	t.Helper()
	return socket(t, n, family, unix.SOCK_DGRAM, 0)
}

// address is one for a socket of a family; IPv4 in a socket of IPv6 is IPv4-mapped.
func address(family int, text string) unix.Sockaddr {
	a := netip.MustParseAddrPort(text)
	if family == unix.AF_INET {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// server is a socket that is bound, and client one that is connected.
func server(t *testing.T, n *kernel.Network, family int, at string) int {
	t.Helper()
	fd := udp(t, n, family)
	require.NoError(t, unix.Bind(fd, address(family, at)))
	return fd
}

func client(t *testing.T, n *kernel.Network, family int, to string) int {
	t.Helper()
	fd := udp(t, n, family)
	require.NoError(t, unix.Connect(fd, address(family, to)))
	return fd
}

// send and receive are a datagram each.
func send(t *testing.T, fd, size int) {
	t.Helper()
	n, err := unix.Write(fd, make([]byte, size))
	require.NoError(t, err)
	require.Equal(t, size, n)
}

func receive(t *testing.T, fd, size int) {
	t.Helper()
	n, err := unix.Read(fd, make([]byte, 1<<16))
	require.NoError(t, err)
	require.Equal(t, size, n)
}

var directed = []string{"server.port", "network.type", "network.io.direction"}

// Both ends of what is asked and answered, in each family, against what the processes sent and the kernel counted.
func TestKernelUDP(t *testing.T) {
	here, there := kernel.Pair(t, "cable", "cable")
	run := start(t, here, byNamespace)
	for _, tt := range []struct {
		server, client int
		at, to         string
	}{
		{unix.AF_INET, unix.AF_INET, "10.1.0.2:1004", "10.1.0.2:1004"},
		{unix.AF_INET6, unix.AF_INET6, "[fd00::2]:1006", "[fd00::2]:1006"},
		// IPv4 within sockets of IPv6.
		{unix.AF_INET6, unix.AF_INET6, "[::]:1046", "10.1.0.2:1046"},
	} {
		s, c := server(t, there, tt.server, tt.at), client(t, here, tt.client, tt.to)
		for i := range 100 {
			send(t, c, i*10)
			b := make([]byte, 2000)
			n, from, err := unix.Recvfrom(s, b, 0)
			require.NoError(t, err)
			require.Equal(t, i*10, n)
			require.NoError(t, unix.Sendto(s, b[:i], 0, from))
			receive(t, c, i)
		}
	}
	run.Stop()
	// 0+10+...+990 there, 0+1+...+99 back.
	const asked, answered = 49500, 4950
	io, datagrams := run.Last("ebpf.udp.io"), run.Last("ebpf.udp.datagrams")
	assert.Equal(t, map[string]int{
		"1004 ipv4 transmit": asked, "1004 ipv4 receive": answered, "1006 ipv6 transmit": asked, "1006 ipv6 receive": answered,
		"1046 ipv4 transmit": asked, "1046 ipv4 receive": answered,
	}, kernel.Values(kernel.Of(io, here), directed...))
	// Whoever takes both versions and is not connected has none.
	assert.Equal(t, map[string]int{
		"1004 ipv4 transmit": answered, "1004 ipv4 receive": asked, "1006 ipv6 transmit": answered, "1006 ipv6 receive": asked,
		"1046 - transmit": answered, "1046 - receive": asked,
	}, kernel.Values(kernel.Of(io, there), directed...))
	assert.Equal(t, map[string]int{"transmit": 300, "receive": 300}, kernel.Values(kernel.Of(datagrams, here), "network.io.direction"))
	assert.Equal(t, map[string]int{"transmit": 300, "receive": 300}, kernel.Values(kernel.Of(datagrams, there), "network.io.direction"))
	for _, n := range []*kernel.Network{here, there} {
		assert.Equal(t, 300, sent(n))
		assert.Equal(t, 300, received(n))
	}
}
