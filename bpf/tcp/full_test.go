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

// More connections than there is room for: each of them counts once all the same, as do its bytes.
func TestKernelTCPFullTable(t *testing.T) {
	here, there := pair(t)
	// What is new is told from what is old in namespaces that have a process.
	resident := exec.Command("sleep", "1h")
	there.Do(func() { require.NoError(t, resident.Start()) })
	t.Cleanup(func() { _ = resident.Process.Kill(); _ = resident.Wait() })
	run := here.Start(byNamespace + "    max_sockets: 1000\n")
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
	missed := kernel.Skipped(t)
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
		assert.Positive(t, durations)
		assert.Less(t, durations, n)
	}
}
