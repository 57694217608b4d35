// SPDX-License-Identifier: Apache-2.0

//go:build linux

package environment_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// has tells whether the kernel has a function, or a type such as a tracepoint's, by its own account.
func has(t *testing.T, name string) bool {
	t.Helper()
	spec, err := btf.LoadKernelSpec()
	require.NoError(t, err)
	if _, err = spec.AnyTypesByName(name); errors.Is(err, btf.ErrNotFound) {
		return false
	}
	require.NoError(t, err)
	return true
}

// network is what a kernel can do of the probes tcp and udp: connections since Linux 5.12, calls since 6.3. All can count datagrams that are dropped.
type network struct{ connections, calls bool }

func networkOf(t *testing.T) network {
	t.Helper()
	return network{connections: has(t, "bpf_sk_storage_get_tracing"), calls: has(t, "btf_trace_sock_send_length")}
}

// probes are those two, with what they do by default.
func (n network) probes() string {
	probes := "udp: { metrics: { ebpf.udp.io: { enabled: false }, ebpf.udp.datagrams: { enabled: false } } }"
	if n.calls {
		probes = "udp: "
	}
	if n.connections {
		probes += ", tcp: "
	}
	return probes
}

// all are all probes, with what they do by default.
func (n network) all() string {
	return "cpu: , process: , flow: { interfaces: [lo] }, " + n.probes()
}

// needy are all probes, with what needs classic tracepoints: the names of metrics, and what the rest works without. That of tcp is there where there are
// connections, with their records.
func (n network) needy() (probes string, metrics, without []string) {
	probes = "cpu: , process: { metrics: { " + execFailures + ": { enabled: true, attributes: [error.type] } } }, flow: { interfaces: [lo] }, " + n.probes()
	if !n.connections {
		return probes, []string{execFailures}, nil
	}
	probes += "{ metrics: { " + acceptWait + ": { enabled: true, attributes: [server.port] } }, events: { " + connection + ": { enabled: true } } }"
	return probes, []string{execFailures, acceptWait}, []string{"the process that accepts"}
}

// What there is on the loopback.
const (
	port      = 7777 // of TCP, and of the datagrams that are read
	fullPort  = 7778 // of those that are not
	datagrams = 100
	size      = 100 // of one, in bytes
	asked     = 10_000
	answered  = 3_000
)

// talk makes one TCP connection, in which is asked and answered once, and sends datagrams to one that reads them, and as many to one that does not. dropped is
// how many of these had no room, as the kernel has it.
func talk(t *testing.T) (dropped int) {
	t.Helper()
	listener, err := net.Listen("tcp4", fmt.Sprint("127.0.0.1:", port))
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() {
		c, err := listener.Accept()
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, asked))
			_, sent := c.Write(make([]byte, answered))
			err = errors.Join(err, sent, c.Close())
		}
		served <- err
	}()
	c, err := net.Dial("tcp4", listener.Addr().String())
	require.NoError(t, err)
	_, err = c.Write(make([]byte, asked))
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, answered))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.NoError(t, <-served)
	require.NoError(t, listener.Close())
	require.Eventually(t, func() bool { return ended(t, port) }, time.Minute, 10*time.Millisecond, "the connection's end")

	read := send(t, port, func(receiver *net.UDPConn) {
		_, err := io.ReadFull(receiver, make([]byte, size))
		require.NoError(t, err)
	})
	require.NoError(t, read.Close())
	full := send(t, fullPort, func(*net.UDPConn) {})
	defer full.Close()
	line := sockets(t, "udp", fullPort, func([]string) bool { return true })
	require.Len(t, line, 1)
	dropped, err = strconv.Atoi(line[0][len(line[0])-1])
	require.NoError(t, err)
	require.Positive(t, dropped)
	return dropped
}

// send sends the datagrams to a socket that has room for hardly any.
func send(t *testing.T, port int, sent func(*net.UDPConn)) *net.UDPConn {
	t.Helper()
	receiver, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	require.NoError(t, err)
	require.NoError(t, receiver.SetReadBuffer(1))
	require.NoError(t, receiver.SetReadDeadline(time.Now().Add(time.Minute)))
	sender, err := net.DialUDP("udp4", nil, receiver.LocalAddr().(*net.UDPAddr))
	require.NoError(t, err)
	defer sender.Close()
	for range datagrams {
		_, err := sender.Write(make([]byte, size))
		require.NoError(t, err)
		sent(receiver)
	}
	return receiver
}

// sockets are the lines of /proc/net/tcp or udp that are about a local or remote port, as their fields: of the calling thread's network namespace.
func sockets(t *testing.T, file string, port int, pass func(fields []string) bool) (lines [][]string) {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/" + file)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		f, at := strings.Fields(line), fmt.Sprintf(":%04X", port)
		if (strings.HasSuffix(f[1], at) || strings.HasSuffix(f[2], at)) && pass(f) {
			lines = append(lines, f)
		}
	}
	return lines
}

// ended tells whether all connections of a port have, but for those that wait in case something of theirs is still under way.
func ended(t *testing.T, port int) bool {
	t.Helper()
	const timeWait = "06"
	return len(sockets(t, "tcp", port, func(fields []string) bool { return fields[3] != timeWait })) == 0
}

// at are a metric's points of a port, by attributes.
func (r *run) at(port int64, metric string, attributes ...string) map[string]int {
	return kernel.Values(kernel.With(r.Last(metric), "server.port", port), attributes...)
}

// requireTalk holds the data of the probes tcp and udp against what was sent some times, to the last byte.
func (r *run) requireTalk(n network, times, dropped int) {
	t := r.t
	t.Helper()
	require.Equal(t, map[string]int{"-": dropped}, r.at(fullPort, "ebpf.udp.receive.drops", "network.io.direction"))
	if n.connections {
		require.Equal(t, map[string]int{"connect -": times, "accept -": times}, r.at(port, "ebpf.tcp.connections", "ebpf.tcp.role", "error.type"))
		require.Equal(t, map[string]int{
			"connect transmit": times * asked, "connect receive": times * answered, "accept transmit": times * answered, "accept receive": times * asked,
		}, r.at(port, "ebpf.tcp.io", "ebpf.tcp.role", "network.io.direction"))
	}
	if n.calls {
		require.Equal(t, map[string]int{"transmit": times * datagrams, "receive": times * datagrams}, r.at(port, "ebpf.udp.datagrams", "network.io.direction"))
		require.Equal(t, map[string]int{"transmit": times * datagrams * size, "receive": times * datagrams * size}, r.at(port, "ebpf.udp.io", "network.io.direction"))
		require.Equal(t, map[string]int{"transmit": times * datagrams}, r.at(fullPort, "ebpf.udp.datagrams", "network.io.direction"))
	}
}

// requireRecords holds the records of the connection's ends against who made it, who listens and accepts as well.
func (r *run) requireRecords(n network) {
	t := r.t
	t.Helper()
	ends := make(map[string]int)
	for _, record := range r.records(connection) {
		role, _ := record.Attributes().Get("ebpf.tcp.role")
		pid, _ := record.Attributes().Get("process.pid")
		ends[fmt.Sprint(role.AsString(), " ", pid.AsString())]++
	}
	if n.connections {
		require.Equal(t, map[string]int{fmt.Sprint("connect ", os.Getpid()): 1, fmt.Sprint("accept ", os.Getpid()): 1}, ends)
	}
}

// loopback is the interface's own account of what passed it.
func loopback(t *testing.T) (packets, bytes int) {
	t.Helper()
	for name, value := range map[string]*int{"rx_packets": &packets, "rx_bytes": &bytes} {
		text, err := os.ReadFile("/sys/class/net/lo/statistics/" + name)
		require.NoError(t, err)
		*value, err = strconv.Atoi(strings.TrimSpace(string(text)))
		require.NoError(t, err)
	}
	return packets, bytes
}

// requireFlows holds the data of the probe flow against what passed the loopback, datagrams some times.
func (r *run) requireFlows(times, packets, bytes int) {
	t := r.t
	t.Helper()
	counted := kernel.Values(r.Last("ebpf.flow.packets"), "network.transport")
	require.Equal(t, times*2*datagrams, counted["udp"])
	require.Equal(t, packets, counted["udp"]+counted["tcp"])
	require.Equal(t, map[string]int{"": bytes}, kernel.Values(r.Last("ebpf.flow.io")))
}

// requireNetwork has all probes see something, ends the receiver, and holds what it gave of the network against that. It returns the processes that there were.
func (r *run) requireNetwork(n network) (pids []int64) {
	t := r.t
	t.Helper()
	pids = trues(t, 20)
	packets, bytes := loopback(t)
	dropped := talk(t)
	morePackets, moreBytes := loopback(t)
	r.stop()
	r.requireTalk(n, 1, dropped)
	r.requireFlows(1, morePackets-packets, moreBytes-bytes)
	return pids
}

// requireAll is for a receiver of which nothing is missing by default.
func (r *run) requireAll(n network) {
	r.t.Helper()
	r.requireWhole(r.requireNetwork(n))
}
