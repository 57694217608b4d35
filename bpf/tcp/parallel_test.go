// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// Very many streams at once, one way, the other, and both: at each collection, the bytes are between what `ss` said of the sockets before and
// after it; in the end, each stream's are those that iperf3 says it moved.
func TestKernelTCPEqualsIperfOfManyStreams(t *testing.T) {
	for _, name := range []string{"iperf3", "ss"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
	ways := map[string][]string{"transmit": nil, "receive": {"--reverse"}, "both": {"--bidir"}}
	if testing.Short() {
		ways = map[string][]string{"both": ways["both"]}
	}
	for name, options := range ways {
		t.Run(name, func(t *testing.T) {
			streams := kernel.Load(100, 10)
			// The test's end may overtake the last data of them, and does where a machine is busy.
			whole, enough := 0, streams
			if name == "both" {
				enough = 1 // all are closed while the other end still sends
			}
			for tries := 10; whole < enough && tries > 0; tries-- {
				whole = manyStreams(t, streams, options...)
			}
			require.GreaterOrEqual(t, whole, enough, "streams that were read to their end")
		})
	}
}

// reading is what the sockets of a host had moved, between two looks at how much the receiver had delivered.
type reading struct {
	before, after         int
	transmitted, received int
}

var acked, came = regexp.MustCompile(`\bbytes_acked:(\d+)`), regexp.MustCompile(`\bbytes_received:(\d+)`)

func look(run *kernel.Run, n *kernel.Network) (r reading, sockets int) {
	sum := func(text string, what *regexp.Regexp) (total int) {
		for _, m := range what.FindAllStringSubmatch(text, -1) {
			v, _ := strconv.Atoi(m[1])
			total += v
		}
		return total
	}
	r.before = len(run.Metrics.AllMetrics())
	text := n.Run("ss", "-Htin", "state", "established")
	r.after = len(run.Metrics.AllMetrics())
	sockets = strings.Count(text, "bytes_acked:")
	r.transmitted, r.received = sum(text, acked)-sockets, sum(text, came) // each of them has its SYN in it
	return r, sockets
}

// manyStreams tells how many were read to their end, of twice as many as it is told.
func manyStreams(t *testing.T, streams int, options ...string) (whole int) {
	t.Helper()
	here, there := pair(t)
	run := here.Start(byNamespace + "    events: { ebpf.tcp.connection: { enabled: true } }\n")
	// As many of them as there are streams to have beyond those that one can do.
	const clients, firstPort = 2, 5201
	seconds := strconv.Itoa(kernel.Load(4, 3))
	// At that rate there are 205 ms from block to block, so that the time ends half-way between two of them: what comes then, the server does not read.
	const rate, block = "320K", "8K"
	var commands []*exec.Cmd
	said := make([]bytes.Buffer, clients)
	finished := make(chan error, clients)
	for i := range clients {
		port := strconv.Itoa(firstPort + i)
		server := exec.Command("iperf3", "-s", "-1", "-p", port)
		there.Do(func() { require.NoError(t, server.Start()) })
		t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
		client := exec.Command("iperf3", append([]string{
			"-c", "10.1.0.2", "-p", port, "-J", "-P", strconv.Itoa(streams), "-t", seconds, "-b", rate, "-l", block,
		}, options...)...)
		client.Stdout, client.Stderr = &said[i], &said[i]
		commands = append(commands, client)
	}
	require.Eventually(t, func() bool { return states(there)["0A"] == clients }, wait, tick)
	for _, c := range commands {
		here.Do(func() { require.NoError(t, c.Start()) })
		go func() { finished <- c.Wait() }()
	}
	sockets := clients * (streams + 1)
	if slices.Contains(options, "--bidir") {
		sockets += clients * streams
	}
	var readings []reading
	for running := clients; running > 0; {
		select {
		case err := <-finished:
			require.NoError(t, err, "%s %s", &said[0], &said[1])
			running--
		case <-time.After(5 * tick):
			if r, n := look(run, here); n == sockets {
				readings = append(readings, r)
			}
		}
	}
	closed(t, here, there)
	run.Stop()
	live(t, run, here, readings, sockets)

	type moved struct {
		sent, received int
		broken         bool
	}
	// Both servers may have a client with the same port.
	type ports struct{ client, server int }
	records := map[*kernel.Network]map[ports]moved{here: {}, there: {}}
	for _, host := range []*kernel.Network{here, there} {
		require.Equal(t, sockets, total(kernel.Of(run.Last("ebpf.tcp.connections"), host)), "connections")
	}
	lost := 0
	for _, logs := range run.Logs.AllLogs() {
		each(logs, func(r plog.LogRecord) {
			a := r.Attributes().AsRaw()
			if r.EventName() == "ebpf.events.lost" {
				dropped, _ := a["ebpf.events.dropped"].(int64)
				lost += int(dropped)
			}
			n := func(key string) int { v, _ := a[key].(int64); return int(v) }
			m := moved{n("ebpf.tcp.transmitted.bytes"), n("ebpf.tcp.received.bytes"), a["error.type"] != nil}
			switch a["ebpf.network.namespace"] {
			case here.Inode():
				records[here][ports{n("network.local.port"), n("network.peer.port")}] = m
			case there.Inode():
				records[there][ports{n("network.peer.port"), n("network.local.port")}] = m
			}
		})
	}
	if lost > 0 { // the kernel refused them, and told of each
		require.Equal(t, 2*sockets, len(records[here])+len(records[there])+lost)
		return 0
	}
	require.Len(t, records[here], sockets)
	require.Len(t, records[there], sockets)
	for host, of := range records {
		var sum moved
		for _, m := range of {
			sum.sent, sum.received = sum.sent+m.sent, sum.received+m.received
		}
		assert.Equal(t, map[string]int{"transmit": sum.sent, "receive": sum.received}, bytesOf(run, host))
	}
	for i := range said {
		var report iperf
		require.NoError(t, json.Unmarshal(said[i].Bytes(), &report), "%s", &said[i])
		connections := map[int]ports{}
		for _, c := range report.Start.Connected {
			connections[c.Socket] = ports{c.LocalPort, firstPort + i}
		}
		for _, s := range report.End.Streams {
			near, far := records[here][connections[s.Sender.Socket]], records[there][connections[s.Sender.Socket]]
			sender, receiver, first := near, far, cookie
			if !s.Sender.IsClient {
				sender, receiver, first = far, near, 0
				assert.Equal(t, cookie, near.sent)
			}
			// What its end overtook was not read, and perhaps not sent.
			assert.LessOrEqual(t, s.Receiver.Bytes, receiver.received-first)
			assert.GreaterOrEqual(t, s.Sender.Bytes, sender.sent-first)
			if !near.broken && !far.broken {
				whole++
				assert.Equal(t, s.Sender.Bytes, sender.sent-first)
				assert.Equal(t, s.Sender.Bytes, receiver.received-first)
			}
		}
	}
	t.Logf("%d of %d streams are whole, %d readings", whole, sockets-clients, len(readings))
	return whole
}

// live holds what was delivered while the sockets lived against what they said of themselves.
func live(t *testing.T, run *kernel.Run, n *kernel.Network, readings []reading, sockets int) {
	t.Helper()
	var sent, received []int // by collection
	for _, md := range run.Metrics.AllMetrics() {
		v := kernel.Values(kernel.Of(kernel.Points(md, "ebpf.tcp.io"), n), "network.io.direction")
		sent, received = append(sent, v["transmit"]), append(received, v["receive"])
	}
	held := 0
	for _, r := range readings {
		if last := r.before - 1; last >= 0 {
			assert.LessOrEqual(t, sent[last], r.transmitted, "more than was acknowledged")
			assert.LessOrEqual(t, received[last], r.received, "more than has come")
		}
		// One may have been under way; that after it was begun later. Of a socket at work, it leaves one byte for later.
		if next := r.after + 1; next < len(sent) {
			held++
			assert.GreaterOrEqual(t, sent[next]+sockets, r.transmitted, "less than was acknowledged")
			assert.GreaterOrEqual(t, received[next]+sockets, r.received, "less than has come")
		}
	}
	assert.Positive(t, held, "readings while they lived")
	for i := 1; i < len(sent); i++ {
		assert.LessOrEqual(t, sent[i-1], sent[i], "collection %d", i)
		assert.LessOrEqual(t, received[i-1], received[i], "collection %d", i)
	}
}
