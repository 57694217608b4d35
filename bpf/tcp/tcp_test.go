// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	hostkernel "github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// How long what has to come may take, and how often it is looked for.
const (
	wait = 20 * time.Second
	tick = 20 * time.Millisecond
)

// withRecords asks for a record of each connection that ends.
const withRecords = `{ probes: { tcp: { events: { ebpf.tcp.connection: { enabled: true } } } } }`

// byNamespace breaks every metric down by network namespace, so that a test finds its own hosts.
const byNamespace = `
collection_interval: 200ms
probes:
  tcp:
    metrics:
      ebpf.tcp.connections: { attributes: [ebpf.network.namespace, ebpf.tcp.role, server.port, error.type] }
      ebpf.tcp.connect.latency: { attributes: [ebpf.network.namespace, ebpf.tcp.role, server.port] }
      ebpf.tcp.connection.duration: { attributes: [ebpf.network.namespace, ebpf.tcp.role, error.type, last_state] }
      ebpf.tcp.io: { attributes: [ebpf.network.namespace, ebpf.tcp.role, server.port] }
      ebpf.tcp.rtt: { attributes: [ebpf.network.namespace, ebpf.tcp.role] }
      ebpf.tcp.rtt.min: { enabled: true, attributes: [ebpf.network.namespace] }
      ebpf.tcp.rtt.variance: { enabled: true, attributes: [ebpf.network.namespace] }
      ebpf.tcp.congestion_window: { enabled: true, attributes: [ebpf.network.namespace] }
      ebpf.tcp.out_of_order: { enabled: true, attributes: [ebpf.network.namespace] }
      ebpf.tcp.retransmits: { attributes: [ebpf.network.namespace, ebpf.tcp.retransmit.kind] }
      ebpf.tcp.resets: { attributes: [ebpf.network.namespace, network.io.direction, ebpf.tcp.reset.reason] }
      ebpf.tcp.listen.drops: { attributes: [ebpf.network.namespace, server.port] }
      system.network.connection.count: { attributes: [ebpf.network.namespace, ebpf.tcp.role, network.connection.state] }
      ebpf.network.drops: { attributes: [ebpf.network.namespace, ebpf.network.drop.reason, network.transport] }
`

// needConnections skips a test where the probe has nothing but drops: before Linux 5.12.
func needConnections(t *testing.T) {
	t.Helper()
	if err := hostkernel.New(hostkernel.Options{}).Require("func/bpf_sk_storage_get_tracing"); err != nil {
		require.ErrorIs(t, err, hostkernel.ErrNotSupported)
		t.Skip(err)
	}
}

// pair is two hosts with a cable between them.
func pair(t *testing.T) (here, there *kernel.Network) {
	t.Helper()
	needConnections(t)
	return kernel.Pair(t, "cable", "cable")
}

func total(points []kernel.Point) (n int) {
	for _, v := range kernel.Values(points) {
		n += v
	}
	return n
}

// set is a host's setting, below /proc/sys/net/ipv4.
func set(t *testing.T, n *kernel.Network, name, value string) {
	t.Helper()
	n.Do(func() { require.NoError(t, os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0)) })
}

// states are how many sockets of a host are in which state, by the numbers of include/net/tcp_states.h in hexadecimal.
func states(n *kernel.Network) map[string]int {
	m := map[string]int{}
	for _, file := range []string{"tcp", "tcp6"} {
		for line := range strings.Lines(n.ProcNet(file)) {
			if f := strings.Fields(line); len(f) > 3 && f[0] != "sl" {
				m[f[3]]++
			}
		}
	}
	return m
}

// server accepts connections, and sends back what it reads.
type server struct {
	net.Listener
	done sync.WaitGroup
	mu   sync.Mutex
	open []net.Conn
}

// listener is one of whose connections the test takes care.
func listener(t *testing.T, n *kernel.Network, network, address string) (l net.Listener) {
	t.Helper()
	n.Do(func() {
		var err error
		l, err = net.Listen(network, address)
		require.NoError(t, err)
	})
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func serve(t *testing.T, n *kernel.Network, network, address string) *server {
	t.Helper()
	s := &server{Listener: listener(t, n, network, address)}
	s.run()
	t.Cleanup(func() {
		if t.Failed() || t.Skipped() {
			s.drop() // whoever was to close the other ends may not have come so far
		}
		s.end()
	})
	return s
}

func (s *server) run() {
	s.done.Go(func() {
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.open = append(s.open, c)
			s.mu.Unlock()
			s.done.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
}

// drop closes what it has accepted.
func (s *server) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.open {
		c.Close()
	}
}

// end waits until all connections are closed.
func (s *server) end() {
	s.Close()
	s.done.Wait()
}

func dial(t *testing.T, n *kernel.Network, network, address string) *net.TCPConn {
	t.Helper()
	var c net.Conn
	n.Do(func() {
		var err error
		c, err = net.Dial(network, address)
		require.NoError(t, err)
	})
	return c.(*net.TCPConn)
}

// exchange sends bytes and reads them back.
func exchange(t *testing.T, c *net.TCPConn, size int) {
	t.Helper()
	var sent sync.WaitGroup
	sent.Go(func() {
		_, err := c.Write(make([]byte, size))
		assert.NoError(t, err)
	})
	_, err := io.ReadFull(c, make([]byte, size))
	require.NoError(t, err)
	sent.Wait()
}

// Connections, their bytes and their ends, on both sides, against the kernel's counters and what the processes sent.
func TestKernelTCPConnections(t *testing.T) {
	here, there := pair(t)
	run := here.Start(byNamespace)
	v4 := serve(t, there, "tcp4", "10.1.0.2:8080")
	v6 := serve(t, here, "tcp6", "[fd00::1]:9090")
	sent := 0
	for i := range 20 {
		c := dial(t, here, "tcp4", "10.1.0.2:8080")
		exchange(t, c, i*1000)
		sent += i * 1000
		require.NoError(t, c.Close())
	}
	c := dial(t, there, "tcp6", "[fd00::1]:9090")
	exchange(t, c, 1<<20)
	require.NoError(t, c.Close())
	v4.end()
	v6.end()
	closed(t, here, there)
	run.Stop()

	connections := run.Last("ebpf.tcp.connections")
	// Two CPUs may end one handshake. The kernel counts the connection that then is none, too.
	none := func(n *kernel.Network) int {
		return total(kernel.With(kernel.Of(connections, n), "error.type", "ECONNABORTED"))
	}
	opened := func(n *kernel.Network) map[string]int {
		v := kernel.Values(kernel.Of(connections, n), "ebpf.tcp.role", "server.port", "error.type")
		delete(v, "accept 8080 ECONNABORTED")
		delete(v, "accept 9090 ECONNABORTED")
		return v
	}
	assert.Equal(t, map[string]int{"connect 8080 -": 20, "accept 9090 -": 1}, opened(here))
	assert.Equal(t, map[string]int{"accept 8080 -": 20, "connect 9090 -": 1}, opened(there))
	assert.Equal(t, 20, here.Counters()["TcpActiveOpens"])
	assert.Equal(t, 1+none(here), here.Counters()["TcpPassiveOpens"])
	assert.Equal(t, 20+none(there), there.Counters()["TcpPassiveOpens"])

	bytes := run.Last("ebpf.tcp.io")
	assert.Equal(t, map[string]int{
		"connect 8080 transmit": sent, "connect 8080 receive": sent, "accept 9090 transmit": 1 << 20, "accept 9090 receive": 1 << 20,
	}, kernel.Values(kernel.Of(bytes, here), "ebpf.tcp.role", "server.port", "network.io.direction"))
	assert.Equal(t, map[string]int{
		"accept 8080 transmit": sent, "accept 8080 receive": sent, "connect 9090 transmit": 1 << 20, "connect 9090 receive": 1 << 20,
	}, kernel.Values(kernel.Of(bytes, there), "ebpf.tcp.role", "server.port", "network.io.direction"))

	assert.Equal(t, map[string]int{"connect": 20}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.connect.latency"), here), "ebpf.tcp.role"))
	assert.Equal(t, 21, total(kernel.Of(run.Last("ebpf.tcp.connection.duration"), here)))
	assert.Equal(t, 21, total(kernel.Of(run.Last("ebpf.tcp.connection.duration"), there)))
	assert.GreaterOrEqual(t, total(kernel.Of(run.Last("ebpf.tcp.rtt"), here)), 21)
}

// closed waits until no connection of the hosts is left but those in TIME_WAIT.
func closed(t *testing.T, hosts ...*kernel.Network) {
	t.Helper()
	const timeWait, listen = "06", "0A"
	for _, n := range hosts {
		require.Eventually(t, func() bool {
			left := states(n)
			delete(left, timeWait)
			delete(left, listen)
			return len(left) == 0
		}, wait, tick)
	}
}
