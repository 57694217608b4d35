// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// Bytes are counted while connections live, those of connections that are older than the receiver from its start on.
func TestKernelTCPLivingConnections(t *testing.T) {
	here, there := pair(t)
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	old := dial(t, here, "tcp4", "10.1.0.2:8080")
	exchange(t, old, 5000)
	run := here.Start(byNamespace)
	fresh := dial(t, here, "tcp4", "10.1.0.2:8080")
	sent := 0
	for round := range 5 {
		exchange(t, old, 100)
		exchange(t, fresh, 1000+round)
		sent += 1100 + round
		require.Eventually(t, func() bool {
			have := kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), here), "ebpf.tcp.role", "network.io.direction")
			return assert.ObjectsAreEqual(map[string]int{"connect transmit": sent, "connect receive": sent}, have)
		}, wait, tick, "round %d: %d", round, sent)
	}
	require.Eventually(t, func() bool {
		return assert.ObjectsAreEqual(map[string]int{"connect established": 2}, kernel.Values(kernel.Of(run.Last("system.network.connection.count"), here), "ebpf.tcp.role", "network.connection.state"))
	}, wait, tick)
	require.NoError(t, old.Close())
	require.NoError(t, fresh.Close())
	s.end()
	closed(t, here, there)
	run.Stop()

	assert.Equal(t, map[string]int{"connect transmit": sent, "connect receive": sent}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), here), "ebpf.tcp.role", "network.io.direction"))
	// No process is in the far end's namespace, by which the receiver could have found its old connection.
	fromFresh := sent - 5*100
	assert.Equal(t, map[string]int{"accept transmit": fromFresh, "accept receive": fromFresh},
		kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), there), "ebpf.tcp.role", "network.io.direction"))
	assert.Equal(t, map[string]int{"connect": 1}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.connections"), here), "ebpf.tcp.role"))
	assert.Equal(t, 1, total(kernel.Of(run.Last("ebpf.tcp.connection.duration"), here)))
	assert.Equal(t, map[string]int{"time_wait": 2}, kernel.Values(kernel.Of(run.Last("system.network.connection.count"), here), "network.connection.state"))
	for _, metric := range []string{"ebpf.tcp.rtt", "ebpf.tcp.rtt.min", "ebpf.tcp.rtt.variance", "ebpf.tcp.congestion_window"} {
		assert.GreaterOrEqual(t, total(kernel.Of(run.Last(metric), here)), 7, metric)
	}
}

// 200 living connections have, at a collection of each round, just the bytes that they exchanged up to then; and so in the end, when half of them are closed and half are not.
func TestKernelTCPManyLivingConnections(t *testing.T) {
	const n = 200
	here, there := pair(t)
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	run := here.Start(byNamespace)
	var list []*net.TCPConn
	for range n {
		list = append(list, dial(t, here, "tcp4", "10.1.0.2:8080"))
	}
	sent := 0
	bytes := func() map[string]int {
		v := kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), here), "ebpf.tcp.role", "network.io.direction")
		for series, n := range kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), there), "ebpf.tcp.role", "network.io.direction") {
			v[series] += n
		}
		return v
	}
	exact := func() bool {
		return assert.ObjectsAreEqual(map[string]int{"connect transmit": sent, "connect receive": sent, "accept transmit": sent, "accept receive": sent}, bytes())
	}
	for round := range 4 {
		for i, c := range list {
			exchange(t, c, 1+i*round)
			sent += 1 + i*round
		}
		require.Eventually(t, exact, wait, tick, "round %d: %d", round, sent)
	}
	for _, c := range list[:n/2] {
		require.NoError(t, c.Close())
	}
	run.Stop()
	assert.True(t, exact(), "%d: %v", sent, bytes())
	for _, c := range list[n/2:] {
		require.NoError(t, c.Close())
	}
	s.end()
}

// Who began a connection that was there before is told by its numbers, whatever it has sent.
func TestKernelTCPRoleOfOldConnections(t *testing.T) {
	needConnections(t)
	here := kernel.NewNetwork(t)
	s := serve(t, here, "tcp4", "127.0.0.1:8080")
	var list []*net.TCPConn
	for i := range 10 {
		c := dial(t, here, "tcp4", "127.0.0.1:8080")
		exchange(t, c, i*i*1000)
		list = append(list, c)
	}
	// The peer has not closed its end of these.
	run := here.Start(byNamespace)
	require.Eventually(t, func() bool {
		return assert.ObjectsAreEqual(map[string]int{"connect established": 10, "accept established": 10, "- listen": 1},
			kernel.Values(kernel.Of(run.Last("system.network.connection.count"), here), "ebpf.tcp.role", "network.connection.state"))
	}, wait, tick)
	for _, c := range list {
		exchange(t, c, 10)
		require.NoError(t, c.Close())
	}
	s.end()
	run.Stop()
	assert.Equal(t, map[string]int{"connect transmit": 100, "connect receive": 100, "accept transmit": 100, "accept receive": 100},
		kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), here), "ebpf.tcp.role", "network.io.direction"))
}

// The record of a connection that has ended, on both sides.
func TestKernelTCPRecords(t *testing.T) {
	here, there := pair(t)
	run := here.Start(withRecords)
	s := serveApart(t, there, kernel.NewCgroup(t), "10.1.0.2:8080")
	c := dial(t, here, "tcp4", "10.1.0.2:8080")
	port := c.LocalAddr().(*net.TCPAddr).Port
	exchange(t, c, 4321)
	require.NoError(t, c.Close())
	s.end()
	closed(t, here, there)
	run.Stop()

	records := map[string]map[string]any{}
	for _, logs := range run.Logs.AllLogs() {
		each(logs, func(r plog.LogRecord) {
			a := r.Attributes().AsRaw()
			if a["ebpf.network.namespace"] == here.Inode() || a["ebpf.network.namespace"] == there.Inode() {
				records[fmt.Sprint(a["ebpf.tcp.role"])] = a
			}
		})
	}
	require.Len(t, records, 2)
	for role, want := range map[string]map[string]any{
		"connect": {
			"network.local.address": "10.1.0.1", "network.local.port": int64(port), "network.peer.address": "10.1.0.2", "network.peer.port": int64(8080),
			"ebpf.tcp.closed_by": "local", "network.connection.state": "fin_wait_2", "process.pid": int64(os.Getpid()),
		},
		"accept": {
			"network.local.address": "10.1.0.2", "network.local.port": int64(8080), "network.peer.address": "10.1.0.1", "network.peer.port": int64(port),
			"ebpf.tcp.closed_by": "peer", "network.connection.state": "last_ack", "process.pid": s.pid, "process.executable.name": s.name,
		},
	} {
		have := records[role]
		for k, v := range want {
			assert.Equal(t, v, have[k], "%s: %s", role, k)
		}
		assert.Equal(t, int64(4321), have["ebpf.tcp.transmitted.bytes"], role)
		assert.Equal(t, int64(4321), have["ebpf.tcp.received.bytes"], role)
		assert.NotContains(t, have, "error.type", role)
		assert.Positive(t, have["ebpf.tcp.connection.duration"], role)
		assert.Positive(t, have["ebpf.tcp.rtt"], role)
		assert.Positive(t, have["ebpf.tcp.transmitted.segments"], role)
		assert.Positive(t, have["ebpf.tcp.received.segments"], role)
		host := map[string]*kernel.Network{"connect": here, "accept": there}[role]
		assert.EqualValues(t, host.Counters()["TcpRetransSegs"], have["ebpf.tcp.retransmits"], role)
	}
	assert.Positive(t, records["connect"]["ebpf.tcp.connect.latency"])
}

func each(logs plog.Logs, fn func(plog.LogRecord)) {
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				fn(record)
			}
		}
	}
}

// The first collection has each socket once, though programs have visited all of them when they were attached.
func TestKernelTCPFirstCollection(t *testing.T) {
	kernel.Needs(t, "connections in other network namespaces that are older than the Collector", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE")
	here, there := pair(t)
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	c := dial(t, here, "tcp4", "10.1.0.2:8080")
	exchange(t, c, 100)
	there.Process(kernel.NewCgroup(t)) // namespaces are found by processes
	run := here.Start(byNamespace)
	const metric = "system.network.connection.count"
	require.Eventually(t, func() bool { return len(run.Last(metric)) > 0 }, wait, tick)
	run.Stop()
	require.NoError(t, c.Close())
	s.end()
	for _, md := range run.Metrics.AllMetrics() {
		assert.Equal(t, map[string]int{"connect established": 1}, kernel.Values(kernel.Of(kernel.Points(md, metric), here), "ebpf.tcp.role", "network.connection.state"))
		assert.Equal(t, map[string]int{"accept established": 1, "- listen": 1}, kernel.Values(kernel.Of(kernel.Points(md, metric), there), "ebpf.tcp.role", "network.connection.state"))
	}
}
