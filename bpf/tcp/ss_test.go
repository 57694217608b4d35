// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// What `ss -ti` says of a connection is what was sampled of it.
func TestKernelTCPEqualsSocketStatistics(t *testing.T) {
	if _, err := exec.LookPath("ss"); err != nil {
		t.Skip("ss is not installed")
	}
	here, there := pair(t)
	// Just one collection: at the end.
	run := here.Start(strings.Replace(byNamespace, "200ms", "1h", 1))
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	c := dial(t, here, "tcp4", "10.1.0.2:8080")
	for range 20 {
		exchange(t, c, 3000)
	}
	// The last acknowledgement may be delayed.
	var text string
	require.Eventually(t, func() bool {
		text = here.Run("ss", "-Htni", "dport", "=", "8080")
		return strings.Contains(text, "bytes_acked:60001")
	}, wait, tick)
	run.Stop()
	require.NoError(t, c.Close())
	s.end()

	said := func(name string) float64 {
		m := regexp.MustCompile(`\b` + name + `:([\d.]+)`).FindStringSubmatch(text)
		require.Len(t, m, 2, "%s in %s", name, text)
		v, err := strconv.ParseFloat(m[1], 64)
		require.NoError(t, err)
		return v
	}
	sampled := func(metric string) float64 {
		points := kernel.Of(run.Last(metric), here)
		require.Len(t, points, 1, metric)
		require.Equal(t, uint64(1), points[0].Count, metric)
		return points[0].Sum
	}
	assert.InDelta(t, said("rtt")/1e3, sampled("ebpf.tcp.rtt"), 1.1e-6)
	assert.InDelta(t, said("minrtt")/1e3, sampled("ebpf.tcp.rtt.min"), 1.1e-6)
	assert.InDelta(t, said("cwnd"), sampled("ebpf.tcp.congestion_window"), 0)
	variance := regexp.MustCompile(`\brtt:[\d.]+/([\d.]+)`).FindStringSubmatch(text)
	require.Len(t, variance, 2)
	v, err := strconv.ParseFloat(variance[1], 64)
	require.NoError(t, err)
	assert.InDelta(t, v/1e3, sampled("ebpf.tcp.rtt.variance"), 1.1e-6)
	bytes := kernel.With(kernel.Of(run.Last("ebpf.tcp.io"), here), "ebpf.tcp.role", "connect")
	assert.Equal(t, map[string]int{"transmit": int(said("bytes_acked")) - 1, "receive": int(said("bytes_received"))}, kernel.Values(bytes, "network.io.direction"))
}

// Peers' and this end's addresses, as they are or by the name of their range, and the family that is spoken.
func TestKernelTCPAddresses(t *testing.T) {
	here, there := pair(t)
	run := here.Start(`
probes:
  tcp:
    cidrs: [10.1.0.0/24: office]
    metrics:
      ebpf.tcp.io: { attributes: [ebpf.network.namespace, network.peer.address, network.local.address, network.type, server.port, process] }
`)
	s := serveApart(t, there, kernel.NewCgroup(t), ":8080") // IPv4 comes to an IPv6 socket
	exchangeAll := func(address string) {
		c := dial(t, here, "tcp", address)
		exchange(t, c, 10)
		require.NoError(t, c.Close())
	}
	exchangeAll("10.1.0.2:8080")
	exchangeAll("[fd00::2]:8080")
	s.end()
	closed(t, here, there)
	run.Stop()
	for _, p := range kernel.Of(run.Last("ebpf.tcp.io"), here) {
		assert.Equal(t, fmt.Sprint(os.Getpid(), " tcp.test"), p.Series("process.pid", "process.executable.name"))
	}
	for _, p := range kernel.Of(run.Last("ebpf.tcp.io"), there) {
		assert.Equal(t, fmt.Sprint(s.pid, " ", s.name), p.Series("process.pid", "process.executable.name"))
	}
	names := []string{"network.peer.address", "network.local.address", "network.type", "network.io.direction"}
	assert.Equal(t, map[string]int{
		"office office ipv4 transmit": 10, "office office ipv4 receive": 10, "fd00::2 fd00::1 ipv6 transmit": 10, "fd00::2 fd00::1 ipv6 receive": 10,
	}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), here), names...))
	assert.Equal(t, map[string]int{
		"office office ipv4 transmit": 10, "office office ipv4 receive": 10, "fd00::1 fd00::2 ipv6 transmit": 10, "fd00::1 fd00::2 ipv6 receive": 10,
	}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), there), names...))
}
