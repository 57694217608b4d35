// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// flowConfig counts one port of the Collector's own network.
func (s setup) flowConfig(t *testing.T, port int) string {
	t.Helper()
	return write(t, filepath.Join(s.Dir, "config.yaml"), `
receivers:
  ebpf:
    collection_interval: 200ms
    temporality: delta
    probes:
      flow:
        required: true
        filter: udp and dst port %d
        attributes: [server.port, source.address]
exporters:
  file/metrics: { path: %s/metrics.json, append: true, flush_interval: 100ms }
service:
  telemetry: { metrics: { level: none } }
  pipelines:
    metrics: { receivers: [ebpf], exporters: [file/metrics] }
`, port, s.Dir)
}

// sums are the bytes and packets to a port, in all payloads that were written.
func (s setup) sums(t *testing.T, port int) (bytes, packets float64) {
	t.Helper()
	for _, md := range s.metrics(t) {
		for _, p := range kernel.With(kernel.Points(md, "ebpf.flow.io"), "server.port", int64(port)) {
			bytes += p.Value
		}
		for _, p := range kernel.With(kernel.Points(md, "ebpf.flow.packets"), "server.port", int64(port)) {
			packets += p.Value
		}
	}
	return bytes, packets
}

// TestKernelFlow runs a Collector with just the rights that the README lists, in a network of its own, and gives it another filter by a
// reload: each packet is counted by the one that it came under.
func TestKernelFlow(t *testing.T) {
	needCollector(t)
	here, there := kernel.NewNetwork(t), kernel.NewNetwork(t)
	here.WithoutIPv6()
	there.WithoutIPv6()
	here.Connect("uplink", there, "far")
	here.Up("uplink", "10.1.0.1/24")
	there.Up("far", "10.1.0.2/24")

	s := newSetup(t, kernel.NewCgroup(t))
	require.NoError(t, os.Chown(s.Dir, nobody, nobody))
	file := s.flowConfig(t, 5001)
	var c *collector
	here.Do(func() {
		c = startAs(t, unprivileged(unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_DAC_READ_SEARCH, unix.CAP_NET_RAW), sharedBinary(t), file)
	})
	const n, size = 1000, 100
	shower := func() {
		there.Do(func() {
			conn, err := net.ListenPacket("udp4", "10.1.0.2:0")
			require.NoError(t, err)
			defer conn.Close()
			for _, port := range []int{5001, 5002} {
				for range n {
					_, err := conn.WriteTo(make([]byte, size), &net.UDPAddr{IP: net.IPv4(10, 1, 0, 1), Port: port})
					require.NoError(t, err)
				}
			}
		})
	}
	shower()
	require.Eventually(t, func() bool { _, packets := s.sums(t, 5001); return packets >= n }, patience, 50*time.Millisecond)
	bytes, packets := s.sums(t, 5001)
	assert.EqualValues(t, n, packets)
	assert.EqualValues(t, n*(14+20+8+size), bytes)
	_, packets = s.sums(t, 5002)
	assert.Zero(t, packets, "the filter lets none of them pass")

	assert.Empty(t, c.complaints())
	before := c.held()
	s.flowConfig(t, 5002)
	require.NoError(t, os.Chown(file, nobody, nobody))
	c.signal(syscall.SIGHUP)
	c.await(ready, 2)
	before.RequireGone(t)
	shower()
	require.Eventually(t, func() bool { _, packets := s.sums(t, 5002); return packets >= n }, patience, 50*time.Millisecond)
	after := c.held()
	c.stop()
	after.RequireGone(t)
	bytes, packets = s.sums(t, 5002)
	assert.EqualValues(t, n, packets)
	assert.EqualValues(t, n*(14+20+8+size), bytes)
	_, packets = s.sums(t, 5001)
	assert.EqualValues(t, n, packets, "and none of these any more")
}
