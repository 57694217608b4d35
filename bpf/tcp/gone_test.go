// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// userTimeout is how long data of a connection may wait for the peer, in ms.
func userTimeout(t *testing.T, c *net.TCPConn, ms int) {
	t.Helper()
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		require.NoError(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, ms))
	}))
}

// ended is the error that a process gets from a connection, by its name.
func ended(t *testing.T, c *net.TCPConn) string {
	t.Helper()
	_, err := c.Read(make([]byte, 1))
	var number unix.Errno
	require.ErrorAs(t, err, &number)
	return unix.ErrnoName(number)
}

// byEnd are connections that ended, by how.
func byEnd(run *kernel.Run, n *kernel.Network) map[string]int {
	return kernel.Values(kernel.Of(run.Last("ebpf.tcp.connection.duration"), n), "error.type", "network.connection.state")
}

func bytesOf(run *kernel.Run, n *kernel.Network) map[string]int {
	return kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), n), "network.io.direction")
}

// Nobody answers any more: what was not acknowledged does not count, and the connection ends as the process is told.
func TestKernelTCPPeerIsGone(t *testing.T) {
	here, there := pair(t)
	run := here.Start(byNamespace)
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	c := dial(t, here, "tcp4", "10.1.0.2:8080")
	exchange(t, c, 5000)
	userTimeout(t, c, 500)
	address, err := netlink.ParseAddr("10.1.0.2/24")
	require.NoError(t, err)
	require.NoError(t, there.Netlink.AddrDel(there.Link("cable"), address))
	_, err = c.Write(make([]byte, 700))
	require.NoError(t, err)
	name := ended(t, c)
	require.NoError(t, c.Close())
	require.NoError(t, there.Netlink.AddrAdd(there.Link("cable"), address))
	s.drop()
	s.end()
	closed(t, here, there)
	run.Stop()
	assert.Equal(t, map[string]int{name + " established": 1}, byEnd(run, here))
	assert.Equal(t, map[string]int{"transmit": 5000, "receive": 5000}, bytesOf(run, here))
	assert.Equal(t, map[string]int{"transmit": 5000, "receive": 5000}, bytesOf(run, there))
	kernels := here.Counters()
	kinds := kernel.Values(kernel.Of(run.Last("ebpf.tcp.retransmits"), here), "ebpf.tcp.retransmit.kind")
	assert.Equal(t, kernels["TcpRetransSegs"], total(kernel.Of(run.Last("ebpf.tcp.retransmits"), here)), "%v", kinds)
	assert.Equal(t, 1, kernels["TcpExtTCPAbortOnTimeout"])
	// Each timeout sends one segment again, but the last, which ends the connection; after one, others follow when the peer is heard.
	assert.Equal(t, kernels["TcpExtTCPTimeouts"]-1+kernels["TcpExtTCPSlowStartRetrans"], kinds["timeout"], "%v", kinds)
	assert.Positive(t, kinds["timeout"])
	assert.NotContains(t, kinds, "other")
}

// SYNs that a firewall drops: an attempt that times out, and a drop for each SYN.
func TestKernelTCPFiltered(t *testing.T) {
	here, there := pair(t)
	set(t, here, "tcp_syn_retries", "1")
	run := here.Start(byNamespace)
	end := filter(t, there)
	if end == nil {
		t.Skip("this kernel has no netfilter programs")
	}
	require.ErrorIs(t, dialing(here, "10.1.0.2:8080", wait), unix.ETIMEDOUT)
	end()
	run.Stop()
	assert.Equal(t, map[string]int{"connect ETIMEDOUT": 1}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.connections"), here), "ebpf.tcp.role", "error.type"))
	assert.Equal(t, map[string]int{"syn": here.Counters()["TcpRetransSegs"]}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.retransmits"), here), "ebpf.tcp.retransmit.kind"))
	assert.Equal(t, map[string]int{"netfilter_drop tcp": here.Counters()["TcpOutSegs"] + here.Counters()["TcpRetransSegs"]},
		kernel.Values(kernel.With(kernel.Of(run.Last("ebpf.network.drops"), there), "network.transport", "tcp"), "ebpf.network.drop.reason", "network.transport"))
}

// The interface is deleted below living connections: they stay until they time out, with their bytes until then.
func TestKernelTCPInterfaceIsGone(t *testing.T) {
	here, there := pair(t)
	run := here.Start(byNamespace)
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	const n = 5
	var list []*net.TCPConn
	for range n {
		c := dial(t, here, "tcp4", "10.1.0.2:8080")
		exchange(t, c, 4000)
		userTimeout(t, c, 500)
		list = append(list, c)
	}
	require.NoError(t, here.Netlink.LinkDel(here.Link("cable")))
	want := map[string]int{}
	for _, c := range list {
		_, err := c.Write(make([]byte, 300))
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		return assert.ObjectsAreEqual(map[string]int{"transmit": n * 4000, "receive": n * 4000}, bytesOf(run, here))
	}, wait, tick)
	for _, c := range list {
		want[ended(t, c)+" established"]++
		require.NoError(t, c.Close())
	}
	// The far end still waits.
	require.Eventually(t, func() bool {
		v := kernel.Values(kernel.Of(run.Last("system.network.connection.count"), there), "network.connection.state")
		return assert.ObjectsAreEqual(map[string]int{"established": n, "listen": 1}, v)
	}, wait, tick)
	for _, c := range s.open {
		require.NoError(t, c.(*net.TCPConn).SetLinger(0))
	}
	s.drop()
	s.end()
	closed(t, here, there)
	run.Stop()
	assert.Equal(t, want, byEnd(run, here))
	assert.Equal(t, map[string]int{"ECONNABORTED established": n}, byEnd(run, there))
	for _, host := range []*kernel.Network{here, there} {
		assert.Equal(t, map[string]int{"transmit": n * 4000, "receive": n * 4000}, bytesOf(run, host))
		assert.Empty(t, kernel.Values(kernel.Of(run.Last("system.network.connection.count"), host)))
	}
}

// A process is killed with open connections: one ends with a FIN, one with data that it has not read with a reset.
func TestKernelTCPProcessIsKilled(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	here, there := pair(t)
	run := here.Start(byNamespace)
	l := listener(t, there, "tcp4", "10.1.0.2:8080")
	cmd := exec.Command(bash, "-c", "exec 3<>/dev/tcp/10.1.0.2/8080 4<>/dev/tcp/10.1.0.2/8080; printf hello >&3; printf 'hello!' >&4; echo ready; read x")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	defer in.Close()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	here.Do(func() { require.NoError(t, cmd.Start()) })
	defer func() { _ = cmd.Process.Kill() }()
	accept := func(says int) *net.TCPConn {
		c, err := l.Accept()
		require.NoError(t, err)
		_, err = io.ReadFull(c, make([]byte, says))
		require.NoError(t, err)
		return c.(*net.TCPConn)
	}
	quiet, unread := accept(5), accept(6)
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	_, err = unread.Write(make([]byte, 1000))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return assert.ObjectsAreEqual(map[string]int{"transmit": 11, "receive": 1000}, bytesOf(run, here))
	}, wait, tick)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	_, err = quiet.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, "ECONNRESET", ended(t, unread))
	require.NoError(t, errors.Join(quiet.Close(), unread.Close(), l.Close()))
	closed(t, here, there)
	run.Stop()
	assert.Equal(t, map[string]int{"- fin_wait_2": 1, "ECONNABORTED established": 1}, byEnd(run, here))
	assert.Equal(t, map[string]int{"- last_ack": 1, "ECONNRESET established": 1}, byEnd(run, there))
	assert.Equal(t, map[string]int{"transmit": 11, "receive": 1000}, bytesOf(run, here))
	assert.Equal(t, map[string]int{"transmit": 1000, "receive": 11}, bytesOf(run, there))
	assert.Equal(t, here.Counters()["TcpOutRsts"], kernel.Values(kernel.Of(run.Last("ebpf.tcp.resets"), here), "network.io.direction")["transmit"])
	assert.Equal(t, there.Counters()["TcpEstabResets"], kernel.Values(kernel.Of(run.Last("ebpf.tcp.resets"), there), "network.io.direction")["receive"])
}

// A network namespace ends while the far end of its connections lives: none of its series is lost, and nothing of ours keeps it.
func TestKernelTCPNamespaceIsGone(t *testing.T) {
	needConnections(t)
	// The namespace's number may be another one's right away, in tests that run at the same time: the port tells them apart.
	const port = 7393
	here := kernel.NewNetwork(t)
	run := here.Start(`
collection_interval: 200ms
probes:
  tcp:
    metrics:
      ebpf.tcp.connections: { attributes: [ebpf.network.namespace, ebpf.tcp.role, server.port, error.type] }
      ebpf.tcp.connection.duration: { attributes: [ebpf.network.namespace, server.port, error.type] }
      ebpf.tcp.io: { attributes: [ebpf.network.namespace, server.port] }
      system.network.connection.count: { attributes: [ebpf.network.namespace, server.port, network.connection.state] }
`)
	const n = 5
	var list []*net.TCPConn
	var gone int64
	t.Run("namespace", func(t *testing.T) {
		there := kernel.NewNetwork(t)
		gone = there.Inode()
		here.Connect("cable", there, "cable")
		here.Up("cable", "10.1.0.1/24")
		there.Up("cable", "10.1.0.2/24")
		here.Settle("cable")
		s := serve(t, there, "tcp4", "10.1.0.2:7393")
		for range n {
			c := dial(t, here, "tcp4", "10.1.0.2:7393")
			exchange(t, c, 4000)
			list = append(list, c)
		}
		// Its own ends go, and the far end is not told.
		require.NoError(t, there.Netlink.LinkSetDown(there.Link("cable")))
		for _, c := range s.open {
			require.NoError(t, c.(*net.TCPConn).SetLinger(0))
		}
		s.drop()
		s.end()
	})
	require.Eventually(t, func() bool {
		_, err := here.Netlink.LinkByName("cable")
		return errors.As(err, new(netlink.LinkNotFoundError))
	}, wait, tick, "the namespace is still there")
	require.Eventually(t, func() bool {
		return assert.ObjectsAreEqual(map[string]int{"established": n}, kernel.Values(kernel.Of(run.Last("system.network.connection.count"), here), "network.connection.state"))
	}, wait, tick)
	want := map[string]int{}
	for _, c := range list {
		userTimeout(t, c, 500)
		_, err := c.Write(make([]byte, 300))
		require.NoError(t, err)
	}
	for _, c := range list {
		want[ended(t, c)]++
		require.NoError(t, c.Close())
	}
	closed(t, here)
	run.Stop()
	assert.Equal(t, want, kernel.Values(kernel.Of(run.Last("ebpf.tcp.connection.duration"), here), "error.type"))
	assert.Equal(t, map[string]int{"transmit": n * 4000, "receive": n * 4000}, bytesOf(run, here))
	there := func(metric string, attributes ...string) map[string]int {
		return kernel.Values(kernel.With(kernel.With(run.Last(metric), "ebpf.network.namespace", gone), "server.port", int64(port)), attributes...)
	}
	assert.Equal(t, map[string]int{"accept -": n}, there("ebpf.tcp.connections", "ebpf.tcp.role", "error.type"))
	assert.Equal(t, map[string]int{"transmit": n * 4000, "receive": n * 4000}, there("ebpf.tcp.io", "network.io.direction"))
	assert.Equal(t, map[string]int{"ECONNABORTED": n}, there("ebpf.tcp.connection.duration", "error.type"))
	assert.Empty(t, there("system.network.connection.count"))
	assert.Empty(t, kernel.Values(kernel.Of(run.Last("system.network.connection.count"), here)))
}

// The receiver ends before the connections that it has an account of: the kernel keeps nothing of it, and they go on.
func TestKernelTCPConnectionsOutliveTheReceiver(t *testing.T) {
	here, there := pair(t)
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	for range 3 {
		run := here.Start(byNamespace)
		c := dial(t, here, "tcp4", "10.1.0.2:8080")
		exchange(t, c, 1000)
		held := run.Held()
		run.Stop()
		held.RequireGone(t)
		assert.Equal(t, map[string]int{"transmit": 1000, "receive": 1000}, bytesOf(run, here))
		exchange(t, c, 1000)
		require.NoError(t, c.Close())
	}
	s.end()
	closed(t, here, there)
}
