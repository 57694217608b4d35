// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// listen is a listener that accepts nothing by itself.
func listen(t *testing.T, n *kernel.Network, port, backlog int) (fd int) {
	t.Helper()
	fd = socket(t, n, [4]byte{}, port)
	require.NoError(t, unix.Listen(fd, backlog))
	return fd
}

// queued waits until a listener has connections that nobody accepted: a client's connect() may return before its last step has come to the listener.
func queued(t *testing.T, n *kernel.Network, port, want int) {
	t.Helper()
	require.Eventually(t, func() bool {
		for line := range strings.Lines(n.ProcNet("tcp")) {
			// Of a listener, the bytes to read are connections to accept.
			if f := strings.Fields(line); len(f) > 4 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) && f[3] == "0A" {
				return strings.HasSuffix(f[4], fmt.Sprintf(":%08X", want))
			}
		}
		return false
	}, wait, tick)
}

// Connections wait for a server that takes its time: how many do is the kernel's own number, and how long is between what the test can
// see of it from both sides.
func TestKernelTCPAcceptQueue(t *testing.T) {
	here, there := pair(t)
	run := here.Start(`
collection_interval: 200ms
probes:
  tcp:
    metrics:
      ebpf.tcp.accept_queue.length: { enabled: true, attributes: [ebpf.network.namespace, server.port] }
      ebpf.tcp.accept_queue.wait: { enabled: true, attributes: [ebpf.network.namespace, ebpf.tcp.role, server.port] }
`)
	fd := listen(t, there, 8080, 100)
	const n, gone = 10, 2
	var least, most time.Duration
	var clients []net.Conn
	var began, established [n]time.Time
	for i := range n {
		began[i] = time.Now()
		clients = append(clients, dial(t, here, "tcp4", "10.1.0.2:8080"))
		established[i] = time.Now()
	}
	waiting := func() map[string]int {
		return kernel.Values(kernel.Of(run.Last("ebpf.tcp.accept_queue.length"), there), "server.port")
	}
	require.Eventually(t, func() bool { return assert.ObjectsAreEqual(map[string]int{"8080": n}, waiting()) }, wait, tick)
	// Those that gave up wait all the same.
	for _, c := range clients[:gone] {
		require.NoError(t, c.(*net.TCPConn).SetLinger(0))
		require.NoError(t, c.Close())
	}
	for i := range n {
		least += time.Since(established[i])
		var accepted int
		var err error
		if i%2 == 0 {
			accepted, _, err = unix.Accept4(fd, unix.SOCK_CLOEXEC)
		} else {
			accepted, _, err = unix.Accept(fd)
		}
		require.NoError(t, err)
		most += time.Since(began[i])
		require.NoError(t, unix.Close(accepted))
	}
	require.Eventually(t, func() bool { return len(waiting()) == 0 }, wait, tick)
	// Nobody takes this one.
	clients = append(clients, dial(t, here, "tcp4", "10.1.0.2:8080"))
	require.NoError(t, unix.Close(fd))
	for _, c := range clients[gone:] {
		c.Close()
	}
	run.Stop()

	waits := kernel.Of(run.Last("ebpf.tcp.accept_queue.wait"), there)
	require.Equal(t, map[string]int{"accept 8080": n}, kernel.Values(waits, "ebpf.tcp.role", "server.port"))
	assert.GreaterOrEqual(t, waits[0].Sum, least.Seconds())
	assert.LessOrEqual(t, waits[0].Sum, most.Seconds())
	assert.Empty(t, kernel.Of(run.Last("ebpf.tcp.accept_queue.wait"), here))
}

// A server that does not read closes its window, and opens it when it does.
func TestKernelTCPZeroWindow(t *testing.T) {
	here, there := pair(t)
	run := here.Start(`
collection_interval: 200ms
probes:
  tcp:
    metrics:
      ebpf.tcp.zero_window: { enabled: true, attributes: [ebpf.network.namespace, ebpf.tcp.role, server.port] }
`)
	fd := listen(t, there, 8080, 100)
	defer unix.Close(fd)
	c, idle := dial(t, here, "tcp4", "10.1.0.2:8080"), dial(t, here, "tcp4", "10.1.0.2:8080")
	defer c.Close()
	defer idle.Close()
	require.NoError(t, unix.SetNonblock(fd, false))
	server, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(server)

	require.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Second)))
	sent := 0
	for err == nil {
		var n int
		n, err = c.Write(make([]byte, 1<<16))
		sent += n
	}
	stalled := func() map[string]int {
		return kernel.Values(kernel.Of(run.Last("ebpf.tcp.zero_window"), here), "ebpf.tcp.role", "server.port")
	}
	require.Eventually(t, func() bool { return assert.ObjectsAreEqual(map[string]int{"connect 8080": 1}, stalled()) }, wait, tick)
	assert.Empty(t, kernel.Values(kernel.Of(run.Last("ebpf.tcp.zero_window"), there)))
	assert.Positive(t, there.Counters()["TcpExtTCPToZeroWindowAdv"])
	for buffer := make([]byte, 1<<16); sent > 0; {
		n, err := unix.Read(server, buffer)
		require.NoError(t, err)
		require.Positive(t, n)
		sent -= n
	}
	require.Eventually(t, func() bool { return len(stalled()) == 0 }, wait, tick)
	run.Stop()
}
