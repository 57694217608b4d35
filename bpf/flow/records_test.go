// SPDX-License-Identifier: Apache-2.0

//go:build linux

package flow_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// record is one of ebpf.flow.
type record struct {
	plog.LogRecord
	attributes map[string]any
}

func records(run *kernel.Run) (list []record) {
	for _, ld := range run.Logs.AllLogs() {
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, r := range sl.LogRecords().All() {
					if r.EventName() == "ebpf.flow" {
						list = append(list, record{r, r.Attributes().AsRaw()})
					}
				}
			}
		}
	}
	return list
}

// flow is what tells a record from others, and why it was written.
func (r record) flow() string {
	return fmt.Sprint(r.attributes["source.address"], ":", r.attributes["source.port"], " ", r.attributes["network.transport"], " ",
		r.attributes["ebpf.flow.end_reason"])
}

const recordsConfig = `
collection_interval: 200ms
probes:
  flow:
    idle_timeout: %s
    active_timeout: %s
    max_flows: %d
    events: { ebpf.flow: { enabled: true } }
    metrics: { ebpf.flow.io: { attributes: [] }, ebpf.flow.packets: { attributes: [] } }
`

// Each way in which a flow ends, with all that was sent of it.
func TestKernelFlowRecords(t *testing.T) {
	here, there := wire(t)
	run := here.Start(fmt.Sprintf(recordsConfig, "1s", "10m", 1000))
	began := time.Now()
	segment := func(from uint16, flags byte, payload int) []byte {
		return join(ethernet(0x0800), ipv4(tcp, "192.0.2.1", "192.0.2.2", tcpSegment(from, 80, flags, payload)))
	}
	datagram := join(ethernet(0x86dd), ipv6(udp, "2001:db8::1", "2001:db8::2", udpSegment(53, 5353, 30)))
	send(t, there, "far",
		segment(1001, syn, 0), segment(1001, ack|psh, 10), segment(1001, fin|ack, 0),
		segment(1002, syn, 0), segment(1002, rst|ack, 0),
		segment(1003, ack, 7),
		datagram, datagram,
		join(ethernet(0x0800), ipv4(icmp, "192.0.2.1", "192.0.2.2", make([]byte, 8))))
	require.Eventually(t, func() bool { return len(records(run)) == 5 }, 20*time.Second, 20*time.Millisecond)
	run.Stop()

	const header = 14 + 20 + 20
	type content struct {
		bytes, packets int64
		flags          any
	}
	have := map[string]content{}
	for _, r := range records(run) {
		have[r.flow()] = content{r.attributes["ebpf.flow.bytes"].(int64), r.attributes["ebpf.flow.packets"].(int64), r.attributes["ebpf.flow.tcp.flags"]}
		assert.Equal(t, "receive", r.attributes["network.io.direction"])
		assert.Equal(t, "uplink", r.attributes["network.interface.name"])
		start, err := time.Parse(time.RFC3339Nano, r.attributes["ebpf.flow.start"].(string))
		require.NoError(t, err)
		end, err := time.Parse(time.RFC3339Nano, r.attributes["ebpf.flow.end"].(string))
		require.NoError(t, err)
		// The clocks are measured against each other to some microseconds.
		assert.False(t, start.Before(began.Add(-time.Millisecond)) || end.Before(start) || r.Timestamp().AsTime().Before(end.Add(-time.Millisecond)),
			"%v to %v, told at %v", start, end, r.Timestamp().AsTime())
	}
	assert.Equal(t, map[string]content{
		"192.0.2.1:1001 tcp fin":    {3*header + 10, 3, "fin|syn|psh|ack"},
		"192.0.2.1:1002 tcp rst":    {2 * header, 2, "syn|rst|ack"},
		"192.0.2.1:1003 tcp idle":   {header + 7, 1, "ack"},
		"2001:db8::1:53 udp idle":   {2 * int64(len(datagram)), 2, nil},
		"192.0.2.1:<nil> icmp idle": {14 + 20 + 8, 1, nil},
	}, have)
}

// A flow that goes on is told of again and again; its records add up to what it was.
func TestKernelFlowRecordsOfLongFlows(t *testing.T) {
	here, there := wire(t)
	run := here.Start(fmt.Sprintf(recordsConfig, "2s", "1s", 1000))
	frame := join(ethernet(0x0800), ipv4(udp, "192.0.2.1", "192.0.2.2", udpSegment(4000, 53, 100)))
	sent := int64(0)
	active := func() (n int) {
		for _, r := range records(run) {
			if r.attributes["ebpf.flow.end_reason"] == "active" {
				n++
			}
		}
		return n
	}
	require.Eventually(t, func() bool {
		send(t, there, "far", frame)
		sent++
		return active() >= 3
	}, 30*time.Second, 10*time.Millisecond)
	// What came after the last one is in a record of its own, when it has been quiet for long enough.
	total := func() (bytes, packets int64) {
		for _, r := range records(run) {
			bytes += r.attributes["ebpf.flow.bytes"].(int64)
			packets += r.attributes["ebpf.flow.packets"].(int64)
		}
		return bytes, packets
	}
	require.Eventually(t, func() bool { _, packets := total(); return packets == sent }, 20*time.Second, 20*time.Millisecond)
	run.Stop()
	bytes, packets := total()
	assert.Equal(t, sent, packets)
	assert.Equal(t, sent*int64(len(frame)), bytes)
}

// Thousands of flows that end at once are all told of, though they do not fit into the ring together; those that had no room are
// told of as one.
func TestKernelFlowRecordsOverflow(t *testing.T) {
	here, there := wire(t)
	const room = 20_000
	flows := kernel.Load(30_000, 22_000)
	idle := "1s"
	if testing.Short() {
		idle = "10m" // or the first are told before the last are sent: all end with the receiver
	}
	run := here.Start(fmt.Sprintf(recordsConfig, idle, "10m", room))
	frames := make([][]byte, flows)
	for i := range frames {
		frames[i] = join(ethernet(0x0800), ipv4(udp, "192.0.2.1", "192.0.2.2", udpSegment(uint16(i), 53, 18)))
	}
	send(t, there, "far", frames...)
	sums := func() (single, overflow int64) {
		for _, r := range records(run) {
			if r.attributes["ebpf.flow.end_reason"] == "overflow" {
				overflow += r.attributes["ebpf.flow.packets"].(int64)
				continue
			}
			single += r.attributes["ebpf.flow.packets"].(int64)
		}
		return single, overflow
	}
	require.Eventually(t, func() bool {
		if testing.Short() {
			return kernel.Sum(run.Last("ebpf.flow.packets")) >= float64(flows)
		}
		a, b := sums()
		return a+b >= int64(flows)
	}, 5*time.Minute, 100*time.Millisecond)
	run.Stop()
	single, overflow := sums()
	assert.EqualValues(t, flows, single+overflow)
	assert.Positive(t, overflow)
	assert.GreaterOrEqual(t, single, int64(room)/2)
}

// Flows that go on when the receiver ends are told of, too.
func TestKernelFlowRecordsAtTheEnd(t *testing.T) {
	here, there := wire(t)
	run := here.Start(fmt.Sprintf(recordsConfig, "10m", "10m", 1000))
	frames := make([][]byte, 100)
	for i := range frames {
		frames[i] = join(ethernet(0x0800), ipv4(udp, "192.0.2.1", "192.0.2.2", udpSegment(uint16(4000+i), 53, 18)))
	}
	send(t, there, "far", frames...)
	run.Stop()
	list := records(run)
	assert.Len(t, list, len(frames))
	for _, r := range list {
		assert.Equal(t, "shutdown", r.attributes["ebpf.flow.end_reason"])
		assert.EqualValues(t, len(frames[0]), r.attributes["ebpf.flow.bytes"])
	}
}

// All flows that go on are told of in one collection, the last one, though the ring has room for some hundred at a time: the reader makes room meanwhile.
func TestKernelFlowRecordsWaitForRoom(t *testing.T) {
	here, there := wire(t)
	const ring = 64 << 10
	flows := kernel.Load(5000, 2000)
	config := strings.Replace(fmt.Sprintf(recordsConfig, "10m", "10m", 2*flows), "flow:", fmt.Sprintf("flow:\n    ring_size: %d", ring), 1)
	run := here.Start(strings.Replace(config, "200ms", "1h", 1))
	frames := make([][]byte, flows)
	for i := range frames {
		frames[i] = join(ethernet(0x0800), ipv4(udp, "192.0.2.1", "192.0.2.2", udpSegment(uint16(i), 53, 18)))
	}
	send(t, there, "far", frames...)
	run.Stop()
	seen := make(map[string]int)
	for _, r := range records(run) {
		seen[r.flow()]++
		require.Equal(t, "uplink", r.attributes["network.interface.name"])
	}
	assert.Equal(t, flows, len(seen)) //nolint:testifylint // thousands, which nobody wants to read
	for flow, n := range seen {
		require.Equal(t, 1, n, flow)
	}
}
