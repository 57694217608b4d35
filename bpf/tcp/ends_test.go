// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// tracepoint tells whether the running kernel has a tracepoint with at least so many arguments.
func tracepoint(t *testing.T, name string, arguments int) (int, bool) {
	t.Helper()
	spec, err := btf.LoadKernelSpec()
	require.NoError(t, err)
	var def *btf.Typedef
	if err := spec.TypeByName("btf_trace_"+name, &def); err != nil {
		return 0, false
	}
	n := len(def.Type.(*btf.Pointer).Target.(*btf.FuncProto).Params) - 1
	return n, n >= arguments
}

func dialing(n *kernel.Network, address string, timeout time.Duration) (err error) {
	n.Do(func() {
		var c net.Conn
		c, err = net.DialTimeout("tcp", address, timeout)
		if err == nil {
			c.Close()
		}
	})
	return err
}

func route(t *testing.T, n *kernel.Network, to string, r netlink.Route) {
	t.Helper()
	var err error
	r.Dst, err = netlink.ParseIPNet(to)
	require.NoError(t, err)
	require.NoError(t, n.Netlink.RouteAdd(&r))
}

// Each way in which a connection can fail to come about.
func TestKernelTCPFailures(t *testing.T) {
	here, there := pair(t)
	// Without a neighbour at an address, packets can not be sent to it; a route that says so is told of by the far end.
	route(t, here, "10.2.0.0/16", netlink.Route{Gw: net.IPv4(10, 1, 0, 2)})
	route(t, there, "10.2.0.0/24", netlink.Route{Type: unix.RTN_PROHIBIT})
	set(t, there, "ip_forward", "1")
	set(t, there, "icmp_ratelimit", "0")
	route(t, there, "10.2.1.0/24", netlink.Route{Type: unix.RTN_BLACKHOLE})
	run := here.Start(byNamespace)
	require.ErrorIs(t, dialing(here, "10.1.0.77:2", 10*time.Second), unix.EHOSTUNREACH)
	set(t, here, "tcp_syn_retries", "1")

	require.ErrorIs(t, dialing(here, "10.1.0.2:1", 10*time.Second), unix.ECONNREFUSED)
	require.ErrorIs(t, dialing(here, "[fd00::2]:1", 10*time.Second), unix.ECONNREFUSED)
	// The kernel tells the process what a router said and goes on; it is the process that gives up.
	require.ErrorIs(t, dialing(here, "10.2.0.1:3", 10*time.Second), unix.EHOSTUNREACH)
	connecting := func(address [4]byte, port int, most time.Duration) error {
		fd := socket(t, here, [4]byte{10, 1, 0, 1}, 0)
		defer unix.Close(fd)
		limit := unix.NsecToTimeval(int64(most))
		require.NoError(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit))
		return unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: address})
	}
	require.ErrorIs(t, dialing(here, "10.2.1.1:5", 20*time.Second), unix.ETIMEDOUT)
	var timeout net.Error
	require.ErrorAs(t, dialing(here, "10.2.1.1:6", 300*time.Millisecond), &timeout)
	require.True(t, timeout.Timeout())
	// One that gives up without having asked what it was. A router tells a host once a second (ip_error() in net/ipv4), which has passed.
	require.ErrorIs(t, connecting([4]byte{10, 2, 0, 1}, 9, 300*time.Millisecond), unix.EINPROGRESS)
	// One that waits is told: of a host, and of a network that the router has no way to.
	require.ErrorIs(t, connecting([4]byte{10, 2, 0, 1}, 7, wait), unix.EHOSTUNREACH)
	require.ErrorIs(t, connecting([4]byte{10, 2, 2, 1}, 8, wait), unix.ENETUNREACH)
	// With fast open, a connection begins with its first data, of which there was none.
	set(t, here, "tcp_fastopen", "5")
	deferred := socket(t, here, [4]byte{10, 1, 0, 1}, 0)
	require.NoError(t, unix.SetsockoptInt(deferred, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1))
	require.NoError(t, unix.Connect(deferred, &unix.SockaddrInet4{Port: 10, Addr: [4]byte{10, 1, 0, 2}}))
	require.NoError(t, unix.Close(deferred))
	// No route at all: nothing is begun.
	require.ErrorIs(t, dialing(here, "192.0.2.1:4", 10*time.Second), unix.ENETUNREACH)
	run.Stop()

	failed := kernel.Values(kernel.Of(run.Last("ebpf.tcp.connections"), here), "ebpf.tcp.role", "server.port", "error.type")
	assert.Equal(t, map[string]int{
		"connect 1 ECONNREFUSED": 2, "connect 2 EHOSTUNREACH": 1, "connect 3 ECANCELED": 1, "connect 5 ETIMEDOUT": 1, "connect 6 ECANCELED": 1,
		"connect 7 EHOSTUNREACH": 1, "connect 8 ENETUNREACH": 1, "connect 9 EHOSTUNREACH": 1, "connect 10 ECANCELED": 1,
	}, failed)
	kernels := here.Counters()
	sent := total(kernel.Of(run.Last("ebpf.tcp.connections"), here)) - 1
	assert.Equal(t, kernels["TcpActiveOpens"], sent)
	assert.Equal(t, kernels["TcpAttemptFails"], sent-3, "those that were not given up")
	assert.Equal(t, map[string]int{"syn": kernels["TcpRetransSegs"]}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.retransmits"), here), "ebpf.tcp.retransmit.kind"))
	assert.Equal(t, map[string]int{"receive -": 2}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.resets"), here), "network.io.direction", "ebpf.tcp.reset.reason"))
	if _, ok := tracepoint(t, "tcp_send_reset", 3); ok {
		assert.Equal(t, map[string]int{"transmit no_socket": there.Counters()["TcpOutRsts"]},
			kernel.Values(kernel.Of(run.Last("ebpf.tcp.resets"), there), "network.io.direction", "ebpf.tcp.reset.reason"))
	}
}

// Connections that end with a reset: by whom, and as the kernel counts them.
func TestKernelTCPResets(t *testing.T) {
	here, there := pair(t)
	run := here.Start(byNamespace)
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	for range 3 {
		c := dial(t, here, "tcp4", "10.1.0.2:8080")
		exchange(t, c, 100)
		require.NoError(t, c.SetLinger(0))
		require.NoError(t, c.Close())
	}
	s.end()
	// A process that ends with unread data.
	l := listener(t, there, "tcp4", "10.1.0.2:9090")
	c := dial(t, here, "tcp4", "10.1.0.2:9090")
	accepted, err := l.Accept()
	require.NoError(t, err)
	_, err = c.Write([]byte("nobody reads this"))
	require.NoError(t, err)
	readable(t, accepted.(*net.TCPConn))
	require.NoError(t, accepted.Close())
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.NoError(t, c.Close())
	l.Close()
	closed(t, here, there)
	run.Stop()

	resets := run.Last("ebpf.tcp.resets")
	assert.Equal(t, here.Counters()["TcpOutRsts"], kernel.Values(kernel.Of(resets, here), "network.io.direction")["transmit"])
	assert.Equal(t, there.Counters()["TcpOutRsts"], kernel.Values(kernel.Of(resets, there), "network.io.direction")["transmit"])
	assert.Equal(t, 1, kernel.Values(kernel.Of(resets, here), "network.io.direction")["receive"])
	assert.Equal(t, 3, kernel.Values(kernel.Of(resets, there), "network.io.direction")["receive"])
	if _, ok := tracepoint(t, "tcp_send_reset", 3); ok {
		assert.Equal(t, map[string]int{"transmit tcp_state": 3}, kernel.Values(kernel.With(kernel.Of(resets, here), "network.io.direction", "transmit"),
			"network.io.direction", "ebpf.tcp.reset.reason"))
		assert.Equal(t, map[string]int{"transmit tcp_abort_on_close": 1}, kernel.Values(kernel.With(kernel.Of(resets, there), "network.io.direction", "transmit"),
			"network.io.direction", "ebpf.tcp.reset.reason"))
	}
	for _, host := range []*kernel.Network{here, there} {
		ends := kernel.Values(kernel.Of(run.Last("ebpf.tcp.connection.duration"), host), "network.connection.state")
		assert.Equal(t, host.Counters()["TcpEstabResets"], ends["established"]+ends["close_wait"])
	}
	assert.Equal(t, map[string]int{"connect ECONNABORTED": 3, "connect ECONNRESET": 1},
		kernel.Values(kernel.Of(run.Last("ebpf.tcp.connection.duration"), here), "ebpf.tcp.role", "error.type"))
	assert.Equal(t, map[string]int{"accept ECONNABORTED": 1, "accept ECONNRESET": 3},
		kernel.Values(kernel.Of(run.Last("ebpf.tcp.connection.duration"), there), "ebpf.tcp.role", "error.type"),
		"of the overflow series: %v", kernel.With(run.Last("ebpf.tcp.connection.duration"), "otel.metric.overflow", true))
}

// readable waits until there is something to read, without reading it.
func readable(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Read(func(fd uintptr) bool {
		_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return !errors.Is(err, unix.EAGAIN)
	}))
}

// A listener whose queue is full drops handshakes.
func TestKernelTCPListenOverflows(t *testing.T) {
	here, there := pair(t)
	run := here.Start(byNamespace)
	fd := listen(t, there, 8080, 1)
	var waiting []net.Conn
	for range 2 {
		waiting = append(waiting, dial(t, here, "tcp4", "10.1.0.2:8080"))
	}
	queued(t, there, 8080, 2)
	for range 3 {
		require.Error(t, dialing(here, "10.1.0.2:8080", 2*time.Second))
	}
	require.NoError(t, unix.Close(fd))
	for _, c := range waiting {
		_, err := c.Read(make([]byte, 1))
		require.True(t, errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET), "%v", err)
		c.Close()
	}
	run.Stop()
	kernels := there.Counters()
	require.GreaterOrEqual(t, kernels["TcpExtListenOverflows"], 3)
	assert.Equal(t, kernels["TcpExtListenOverflows"], total(kernel.Of(run.Last("ebpf.tcp.listen.drops"), there)))
	assert.Equal(t, map[string]int{"8080": kernels["TcpExtListenDrops"]}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.listen.drops"), there), "server.port"))
	assert.Equal(t, kernels["TcpPassiveOpens"], total(kernel.Of(run.Last("ebpf.tcp.connections"), there)))
}
