// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"net"
	"os/exec"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// knows tells whether the receiver has visited a network namespace.
func knows(t *testing.T, run *kernel.Run, n *kernel.Network) bool {
	t.Helper()
	for _, id := range run.Held().Maps {
		m, err := ebpf.NewMapFromID(ebpf.MapID(id))
		require.NoError(t, err)
		about, err := m.Info()
		require.NoError(t, err)
		var all uint32

		known := about.Name == "known_namespace" && m.Lookup(uint32(n.Inode()), &all) == nil && all == 1
		require.NoError(t, m.Close())
		if known {
			return true
		}
	}
	return false
}

// resident is a process in a network namespace, which is found by it.
func resident(t *testing.T, n *kernel.Network) {
	t.Helper()
	sleep := exec.Command("sleep", "1h")
	n.Do(func() { require.NoError(t, sleep.Start()) })
	t.Cleanup(func() { _ = sleep.Process.Kill(); _ = sleep.Wait() })
}

// In network namespaces that have begun after the receiver, connections for which there is no room count as well.
func TestKernelTCPFullTableInYoungNamespaces(t *testing.T) {
	needConnections(t)
	kernel.Needs(t, "connections in network namespaces that are younger than the Collector", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE")
	run := kernel.NewNetwork(t).Start(byNamespace + "    max_sockets: 700\n")
	here, there := pair(t)
	for _, n := range []*kernel.Network{here, there} {
		resident(t, n)
		require.Eventually(t, func() bool { return knows(t, run, n) }, wait, tick)
	}
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	const n, size = 800, 100
	var open []*net.TCPConn
	for range n {
		c := dial(t, here, "tcp4", "10.1.0.2:8080")
		exchange(t, c, size)
		open = append(open, c)
	}
	for _, c := range open {
		require.NoError(t, c.Close())
	}
	s.end()
	closed(t, here, there)
	missed := run.Skipped()
	run.Stop()

	for role, host := range map[string]*kernel.Network{"connect": here, "accept": there} {
		have := kernel.Values(kernel.Of(run.Last("ebpf.tcp.connections"), host), "ebpf.tcp.role", "server.port", "error.type")[role+" 8080 -"]
		assert.LessOrEqual(t, have, n)
		assert.GreaterOrEqual(t, have, n-missed)
		assert.Equal(t, map[string]int{"transmit": have * size, "receive": have * size}, bytesOf(run, host))
		assert.Less(t, total(kernel.Of(run.Last("ebpf.tcp.connection.duration"), host)), n, "there was room for all")
		assert.Empty(t, kernel.Values(kernel.Of(run.Last("system.network.connection.count"), host), "network.connection.state"))
	}
}

// A namespace that is visited while there is no room for its sockets is visited again, and is known when there was. What waits in it is no part of the levels.
func TestKernelTCPCrowdedYoungNamespaces(t *testing.T) {
	needConnections(t)
	kernel.Needs(t, "connections in network namespaces that are younger than the Collector", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE")
	run := kernel.NewNetwork(t).Start(byNamespace + "    max_sockets: 100\n")
	here, there := pair(t)
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	var open []*net.TCPConn
	for range 200 {
		open = append(open, dial(t, here, "tcp4", "10.1.0.2:8080"))
	}
	for _, c := range open[:20] {
		require.NoError(t, c.Close())
	}
	const timeWait = "06"
	require.Eventually(t, func() bool { return states(here)[timeWait] >= 10 }, wait, tick)
	open = open[20:]
	hosts := []*kernel.Network{here, there}
	for _, n := range hosts {
		resident(t, n)
	}
	require.Never(t, func() bool { return knows(t, run, here) || knows(t, run, there) }, wait/4, tick)
	for _, c := range open {
		require.NoError(t, c.Close())
	}
	s.end()
	closed(t, here, there)
	for _, n := range hosts {
		require.Eventually(t, func() bool { return knows(t, run, n) }, wait, tick)
	}
	run.Stop()
	for _, md := range run.Metrics.AllMetrics() {
		for _, n := range hosts {
			assert.Empty(t, kernel.With(kernel.Of(kernel.Points(md, "system.network.connection.count"), n), "network.connection.state", "time_wait"))
		}
	}
}
