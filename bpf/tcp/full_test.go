// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"net"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// Connections of which some find their slot taken, and more than there is room for anywhere: each of them counts once all the same, as do its bytes; and
// has its duration if there was room.
func TestKernelTCPFullTable(t *testing.T) {
	needConnections(t) // else both parts were skipped, and the whole had passed
	for _, tt := range []struct {
		name, room string
		full       bool
	}{
		{name: "slots are taken", room: "2000"},
		{name: "no room", room: "700", full: true},
	} {
		t.Run(tt.name, func(t *testing.T) { fillTable(t, tt.room, tt.full) })
	}
}

func fillTable(t *testing.T, room string, full bool) {
	kernel.Needs(t, "connections in other network namespaces that are older than the Collector", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE")
	here, there := pair(t)
	// What is new is told from what is old in namespaces that have a process.
	resident := exec.Command("sleep", "1h")
	there.Do(func() { require.NoError(t, resident.Start()) })
	t.Cleanup(func() { _ = resident.Process.Kill(); _ = resident.Wait() })
	run := here.Start(byNamespace + "    max_sockets: " + room + "\n")
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	const n, size = 800, 100
	var open []*net.TCPConn
	for range n {
		c := dial(t, here, "tcp4", "10.1.0.2:8080")
		exchange(t, c, size)
		open = append(open, c)
	}
	living := func(host *kernel.Network) int {
		return kernel.Values(kernel.Of(run.Last("system.network.connection.count"), host), "network.connection.state")["established"]
	}
	require.Eventually(t, func() bool { return living(here)+living(there) > 800 }, wait, tick)
	for _, c := range open {
		require.NoError(t, c.Close())
	}
	s.end()
	closed(t, here, there)
	missed := run.Skipped()
	run.Stop()

	// The kernel says how many runs it skipped, which no row makes up for here.
	for role, host := range map[string]*kernel.Network{"connect": here, "accept": there} {
		opened := kernel.Values(kernel.Of(run.Last("ebpf.tcp.connections"), host), "ebpf.tcp.role", "server.port", "error.type")
		have := opened[role+" 8080 -"]
		assert.LessOrEqual(t, have, n)
		assert.GreaterOrEqual(t, have, n-missed)
		assert.Len(t, opened, 1, "%v", opened)
		bytes := kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), host), "network.io.direction")
		assert.Equal(t, map[string]int{"transmit": have * size, "receive": have * size}, bytes)
		durations := total(kernel.Of(run.Last("ebpf.tcp.connection.duration"), host))
		if full {
			assert.Positive(t, durations)
			assert.Less(t, durations, n)
		} else {
			assert.LessOrEqual(t, durations, have)
			assert.GreaterOrEqual(t, durations, have-missed)
		}
	}
}
