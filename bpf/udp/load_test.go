// SPDX-License-Identifier: Apache-2.0

//go:build linux

package udp_test

import (
	"encoding/json"
	"io"
	"os/exec"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// Many threads, on all CPUs and through snapshots: nothing is lost or counted twice, but for what the kernel skips and says so.
func TestKernelUDPStorm(t *testing.T) {
	n := kernel.NewNetwork(t)
	run := start(t, n, "collection_interval: 100ms"+byNamespace)
	const threads, size = 8, 10
	calls := kernel.Load(50_000, 2_000)
	var all sync.WaitGroup
	for range threads {
		s := server(t, n, unix.AF_INET, "127.0.0.1:0")
		c := udp(t, n, unix.AF_INET)
		require.NoError(t, unix.Connect(c, must(unix.Getsockname(s))(t)))
		all.Go(func() {
			b := make([]byte, size)
			for range calls {
				if _, err := unix.Write(c, b); !assert.NoError(t, err) {
					return
				}
				if _, err := unix.Read(s, b); !assert.NoError(t, err) {
					return
				}
			}
		})
	}
	all.Wait()
	missed := run.Skipped()
	run.Stop()
	total := threads * calls
	io, datagrams := kernel.Values(kernel.Of(run.Last("ebpf.udp.io"), n), "network.io.direction"), kernel.Values(kernel.Of(run.Last("ebpf.udp.datagrams"), n), "network.io.direction")
	for _, direction := range []string{"transmit", "receive"} {
		assert.LessOrEqual(t, datagrams[direction], total, direction)
		assert.GreaterOrEqual(t, datagrams[direction], total-missed, direction)
		assert.Equal(t, datagrams[direction]*size, io[direction], direction)
	}
	assert.Equal(t, total, sent(n))
	assert.Equal(t, total, received(n))
}

// iperf is its own account of what its streams moved.
type iperf struct {
	End struct {
		Streams []struct {
			UDP struct {
				Bytes   int `json:"bytes"`
				Packets int `json:"packets"`
			} `json:"udp"`
		} `json:"streams"`
	} `json:"end"`
}

// What iperf3 says that its streams sent is what is counted, but for the four bytes with which each stream begins, each way.
func TestKernelUDPEqualsIperf(t *testing.T) {
	if _, err := exec.LookPath("iperf3"); err != nil {
		t.Skip("iperf3 is not installed")
	}
	const streams, hello = 4, 4
	here, there := kernel.Pair(t, "cable", "cable")
	run := start(t, here, byNamespace)
	server := exec.Command("iperf3", "-s", "-1", "--forceflush")
	stdout, err := server.StdoutPipe()
	require.NoError(t, err)
	there.Do(func() { require.NoError(t, server.Start()) })
	t.Cleanup(func() { _ = server.Process.Kill() })
	line := make([]byte, 1)
	_, err = io.ReadFull(stdout, line)
	require.NoError(t, err)
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	out := here.Run("iperf3", "-c", "10.1.0.2", "-u", "-J", "-P", strconv.Itoa(streams), "-t", "1", "-b", "20M", "-l", "1000")
	require.NoError(t, server.Wait())
	run.Stop()

	var report iperf
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	require.Len(t, report.End.Streams, streams)
	bytes, packets := 0, 0
	for _, s := range report.End.Streams {
		bytes += s.UDP.Bytes
		packets += s.UDP.Packets
	}
	require.Positive(t, packets)
	io, datagrams := run.Last("ebpf.udp.io"), run.Last("ebpf.udp.datagrams")
	assert.Equal(t, map[string]int{"5201 transmit": bytes + streams*hello, "5201 receive": streams * hello},
		kernel.Values(kernel.Of(io, here), "server.port", "network.io.direction"))
	assert.Equal(t, map[string]int{"5201 transmit": packets + streams, "5201 receive": streams},
		kernel.Values(kernel.Of(datagrams, here), "server.port", "network.io.direction"))
	assert.Equal(t, packets+streams, sent(here))
	// The server may end before it has read all.
	got := kernel.Values(kernel.Of(datagrams, there), "server.port", "network.io.direction")
	assert.Equal(t, map[string]int{"5201 transmit": streams, "5201 receive": received(there)}, got)
}
