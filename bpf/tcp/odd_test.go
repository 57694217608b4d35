// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"context"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// socket is a blocking one of a host's, with a port.
func socket(t *testing.T, n *kernel.Network, address [4]byte, port int) (fd int) {
	t.Helper()
	n.Do(func() {
		var err error
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: address}))
	})
	return fd
}

// A socket that connects to itself opens from both sides at once.
func TestKernelTCPSimultaneousOpen(t *testing.T) {
	needConnections(t)
	here := kernel.NewNetwork(t)
	run := here.Start(byNamespace)
	fd := socket(t, here, [4]byte{127, 0, 0, 1}, 7000)
	require.NoError(t, unix.Connect(fd, &unix.SockaddrInet4{Port: 7000, Addr: [4]byte{127, 0, 0, 1}}))
	_, err := unix.Write(fd, make([]byte, 1234))
	require.NoError(t, err)
	n, err := unix.Read(fd, make([]byte, 2000))
	require.NoError(t, err)
	require.Equal(t, 1234, n)
	require.NoError(t, unix.Close(fd))
	closed(t, here)
	run.Stop()
	assert.Equal(t, map[string]int{"connect 7000 -": here.Counters()["TcpActiveOpens"]},
		kernel.Values(kernel.Of(run.Last("ebpf.tcp.connections"), here), "ebpf.tcp.role", "server.port", "error.type"))
	assert.Equal(t, map[string]int{"connect transmit": 1234, "connect receive": 1234}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), here), "ebpf.tcp.role", "network.io.direction"))
}

// Data in a SYN is data.
func TestKernelTCPFastOpen(t *testing.T) {
	here, there := pair(t)
	for _, n := range []*kernel.Network{here, there} {
		set(t, n, "tcp_fastopen", "3")
	}
	run := here.Start(byNamespace)
	fast := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 10) })
		return err
	}}
	var l net.Listener
	there.Do(func() {
		var err error
		l, err = fast.Listen(context.Background(), "tcp4", "10.1.0.2:8080")
		require.NoError(t, err)
	})
	for range 5 {
		fd := socket(t, here, [4]byte{10, 1, 0, 1}, 0)
		require.NoError(t, unix.Sendto(fd, make([]byte, 100), unix.MSG_FASTOPEN, &unix.SockaddrInet4{Port: 8080, Addr: [4]byte{10, 1, 0, 2}}))
		c, err := l.Accept()
		require.NoError(t, err)
		_, err = c.Read(make([]byte, 100))
		require.NoError(t, err)
		_, err = c.Write(make([]byte, 50))
		require.NoError(t, err)
		n, err := unix.Read(fd, make([]byte, 100))
		require.NoError(t, err)
		require.Equal(t, 50, n)
		require.NoError(t, unix.Close(fd))
		_, _ = c.Read(make([]byte, 1))
		require.NoError(t, c.Close())
	}
	require.NoError(t, l.Close())
	closed(t, here, there)
	run.Stop()
	require.Positive(t, there.Counters()["TcpExtTCPFastOpenPassive"], "data in a SYN was taken")
	assert.Equal(t, map[string]int{"connect": 5}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.connections"), here), "ebpf.tcp.role"))
	assert.Equal(t, map[string]int{"accept": there.Counters()["TcpPassiveOpens"]}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.connections"), there), "ebpf.tcp.role"))
	assert.Equal(t, map[string]int{"connect transmit": 500, "connect receive": 250}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), here), "ebpf.tcp.role", "network.io.direction"))
	assert.Equal(t, map[string]int{"accept transmit": 250, "accept receive": 500}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), there), "ebpf.tcp.role", "network.io.direction"))
}

// A connection whose peer is gone ends when it is not heard of any more.
func TestKernelTCPKeepAlive(t *testing.T) {
	here, there := pair(t)
	run := here.Start(byNamespace)
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	c := dial(t, here, "tcp4", "10.1.0.2:8080")
	exchange(t, c, 10)
	require.NoError(t, c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 1e9, Interval: 1e9, Count: 1}))
	require.NoError(t, there.Netlink.LinkSetDown(there.Link("cable")))
	_, err := c.Read(make([]byte, 1))
	require.Error(t, err)
	require.NoError(t, c.Close())
	run.Stop()
	ends := kernel.Values(kernel.Of(run.Last("ebpf.tcp.connection.duration"), here), "error.type", "network.connection.state")
	assert.Len(t, ends, 1)
	assert.Equal(t, 1, ends["ETIMEDOUT established"]+ends["EHOSTUNREACH established"], "%v", ends)
	assert.Equal(t, map[string]int{"accept established": 1, "- listen": 1}, // half open
		kernel.Values(kernel.Of(run.Last("system.network.connection.count"), there), "ebpf.tcp.role", "network.connection.state"))
	require.NoError(t, there.Netlink.LinkSetUp(there.Link("cable")))
	s.Close()
	s.drop()
}

// A connection whose peer has forgotten it ends with the reset that its next segment is answered with.
func TestKernelTCPPeerHasForgotten(t *testing.T) {
	here, there := pair(t)
	run := here.Start(byNamespace)
	l := listener(t, there, "tcp4", "10.1.0.2:8080")
	c := dial(t, here, "tcp4", "10.1.0.2:8080")
	peer, err := l.Accept()
	require.NoError(t, err)
	_, err = peer.Write(make([]byte, 10))
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 10))
	require.NoError(t, err)
	// Whoever repairs a connection closes it without a word.
	raw, err := peer.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		require.NoError(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1))
	}))
	require.NoError(t, peer.Close())
	require.NoError(t, l.Close())
	closed(t, there)
	require.Eventually(t, func() bool {
		return assert.ObjectsAreEqual(map[string]int{"connect established": 1},
			kernel.Values(kernel.Of(run.Last("system.network.connection.count"), here), "ebpf.tcp.role", "network.connection.state"))
	}, wait, tick)
	_, err = c.Write(make([]byte, 7))
	require.NoError(t, err)
	require.Equal(t, "ECONNRESET", ended(t, c))
	require.NoError(t, c.Close())
	closed(t, here)
	run.Stop()
	assert.Equal(t, map[string]int{"ECONNRESET established": 1}, byEnd(run, here))
	assert.Equal(t, map[string]int{"ECONNABORTED established": 1}, byEnd(run, there))
	assert.Equal(t, map[string]int{"receive": 10}, bytesOf(run, here))
	resets := run.Last("ebpf.tcp.resets")
	assert.Equal(t, 1, here.Counters()["TcpEstabResets"])
	assert.Equal(t, map[string]int{"receive": 1}, kernel.Values(kernel.Of(resets, here), "network.io.direction"))
	sent := there.Counters()["TcpOutRsts"] // one, or more where the first came late and the data was sent again
	assert.Positive(t, sent)
	if _, ok := tracepoint(t, "tcp_send_reset", 3); ok { // of a packet that has no socket
		assert.Equal(t, map[string]int{"transmit no_socket": sent}, kernel.Values(kernel.Of(resets, there), "network.io.direction", "ebpf.tcp.reset.reason"))
	}
}

// The same two addresses and ports, again and again, past TIME_WAIT.
func TestKernelTCPPortsThatAreUsedAgain(t *testing.T) {
	here, there := pair(t)
	set(t, here, "tcp_tw_reuse", "1")
	run := here.Start(byNamespace)
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	refused := 0
	for range 3 {
		fd := -1
		require.Eventually(t, func() bool {
			fd = socket(t, here, [4]byte{10, 1, 0, 1}, 7001)
			err := unix.Connect(fd, &unix.SockaddrInet4{Port: 8080, Addr: [4]byte{10, 1, 0, 2}})
			if err == nil {
				return true
			}
			require.ErrorIs(t, err, unix.EADDRNOTAVAIL)
			require.NoError(t, unix.Close(fd))
			refused++
			return false
		}, wait, 10*tick)
		_, err := unix.Write(fd, make([]byte, 7))
		require.NoError(t, err)
		_, err = unix.Read(fd, make([]byte, 7))
		require.NoError(t, err)
		require.NoError(t, unix.Close(fd))
	}
	s.end()
	closed(t, here, there)
	run.Stop()
	want := map[string]int{"-": 3}
	if refused > 0 {
		want["EADDRNOTAVAIL"] = refused
	}
	assert.Equal(t, want, kernel.Values(kernel.Of(run.Last("ebpf.tcp.connections"), here), "error.type"))
	assert.Equal(t, 3, here.Counters()["TcpActiveOpens"])
	assert.Equal(t, map[string]int{"transmit": 21, "receive": 21}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), here), "network.io.direction"))
}

// Several listeners of one port.
func TestKernelTCPReusePort(t *testing.T) {
	here, there := pair(t)
	run := here.Start(byNamespace)
	shared := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return err
	}}
	var list []*server
	for range 3 {
		s := &server{}
		there.Do(func() {
			var err error
			s.Listener, err = shared.Listen(context.Background(), "tcp4", "10.1.0.2:8080")
			require.NoError(t, err)
		})
		s.run()
		list = append(list, s)
	}
	for range 30 {
		c := dial(t, here, "tcp4", "10.1.0.2:8080")
		exchange(t, c, 3)
		require.NoError(t, c.Close())
	}
	for _, s := range list {
		s.end()
	}
	closed(t, here, there)
	run.Stop()
	assert.Equal(t, map[string]int{"accept 8080": 30}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.connections"), there), "ebpf.tcp.role", "server.port"))
	assert.Equal(t, map[string]int{"transmit": 90, "receive": 90}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), there), "network.io.direction"))
}
