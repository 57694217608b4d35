// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// iperf is its own account of what its streams moved.
type iperf struct {
	Start struct {
		Connected []struct {
			Socket    int `json:"socket"`
			LocalPort int `json:"local_port"`
		} `json:"connected"`
	} `json:"start"`
	End struct {
		Streams []struct {
			Sender struct {
				Socket   int  `json:"socket"`
				Bytes    int  `json:"bytes"`
				IsClient bool `json:"sender"`
			} `json:"sender"`
			Receiver struct {
				Bytes int `json:"bytes"`
			} `json:"receiver"`
		} `json:"streams"`
	} `json:"end"`
}

// cookie is the length of what each of its connections begins with.
const cookie = 37

// With one and with many streams, what iperf3 says that a stream moved is what its connection's record has, and their sum is the metric's.
func TestKernelTCPEqualsIperf(t *testing.T) {
	if _, err := exec.LookPath("iperf3"); err != nil {
		t.Skip("iperf3 is not installed")
	}
	for _, streams := range []int{1, kernel.Load(100, 10)} {
		t.Run(strconv.Itoa(streams), func(t *testing.T) {
			// The test's end may overtake the last data of them, and does where a machine is busy.
			whole, enough := 0, max(1, streams/2)
			for tries := 10; whole < enough && tries > 0; tries-- {
				whole = iperfStreams(t, streams)
			}
			require.GreaterOrEqual(t, whole, enough, "streams that were read to their end")
		})
	}
}

// iperfStreams tells how many of the streams were read to their end.
func iperfStreams(t *testing.T, streams int) (whole int) {
	t.Helper()
	here, there := pair(t)
	run := here.Start(byNamespace + "    events: { ebpf.tcp.connection: { enabled: true } }\n")
	server := exec.Command("iperf3", "-s", "-1", "--forceflush")
	stdout, err := server.StdoutPipe()
	require.NoError(t, err)
	there.Do(func() { require.NoError(t, server.Start()) })
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	lines := bufio.NewReader(stdout)
	_, err = lines.ReadString('\n')
	require.NoError(t, err)
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	require.Eventually(t, func() bool { return states(there)["0A"] > 0 }, wait, tick)
	out := here.Run("iperf3", "-c", "10.1.0.2", "-J", "-P", strconv.Itoa(streams), "-t", "1", "-b", strconv.Itoa(kernel.Load(400_000_000, 20_000_000)/streams), "-l", "16K")
	closed(t, here, there)
	run.Stop()

	var report iperf
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	require.Len(t, report.End.Streams, streams)
	records, all := map[int64]int{}, 0
	broken := map[int64]bool{}
	for _, logs := range run.Logs.AllLogs() {
		each(logs, func(r plog.LogRecord) {
			if a := r.Attributes().AsRaw(); a["ebpf.network.namespace"] == here.Inode() {
				records[a["network.local.port"].(int64)] = int(a["ebpf.tcp.transmitted.bytes"].(int64))
				broken[a["network.local.port"].(int64)] = a["error.type"] != nil
				all += int(a["ebpf.tcp.transmitted.bytes"].(int64))
			}
		})
	}
	for i, s := range report.End.Streams {
		port := int64(report.Start.Connected[i].LocalPort)
		if broken[port] {
			// The test's end overtook the last data, and the server closed without reading it.
			assert.LessOrEqual(t, s.Receiver.Bytes, records[port]-cookie, "stream %d", i)
			assert.GreaterOrEqual(t, s.Sender.Bytes, records[port]-cookie, "stream %d", i)
			continue
		}
		whole++
		assert.Equal(t, s.Sender.Bytes, records[port]-cookie, "stream %d", i)
	}
	assert.Len(t, records, streams+1, "its control connection, too")
	assert.Equal(t, all, kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), here), "network.io.direction")["transmit"])
	t.Logf("%d of %d streams are whole", whole, streams)
	return whole
}
