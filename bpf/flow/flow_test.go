// SPDX-License-Identifier: Apache-2.0

//go:build linux

package flow_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// pair is two hosts with a cable between them: "here", where the receiver runs, and "there".
func pair(t *testing.T) (here, there *kernel.Network) {
	t.Helper()
	return kernel.Pair(t, "uplink", "far")
}

// wire is a pair of hosts that say nothing of their own: what passes is what a test sends.
func wire(t *testing.T) (here, there *kernel.Network) {
	t.Helper()
	here, there = kernel.NewNetwork(t), kernel.NewNetwork(t)
	here.WithoutIPv6()
	there.WithoutIPv6()
	here.Connect("uplink", there, "far")
	here.Up("uplink")
	there.Up("far")
	return here, there
}

// reading is what an interface's counters grew by.
type reading struct {
	n    *kernel.Network
	name string
	of   map[string]uint64
}

func read(n *kernel.Network, name string) reading {
	r := reading{n: n, name: name, of: map[string]uint64{}}
	for _, c := range []string{"rx_bytes", "tx_bytes", "rx_packets", "tx_packets"} {
		r.of[c] = n.Counter(name, c)
	}
	return r
}

func (r reading) grown(counter string) float64 {
	return float64(r.n.Counter(r.name, counter) - r.of[counter])
}

// values are the points' attributes in an order, with their values.
func values(points []kernel.Point, attributes ...string) map[string]float64 {
	m := map[string]float64{}
	for _, p := range points {
		m[p.Series(attributes...)] += p.Value
	}
	return m
}

// stopBalanced ends the run, and holds the sums over all series against the interface's counters: those of the end, of which those from before
// and after it tell.
func stopBalanced(t *testing.T, run *kernel.Run, r reading, packets bool) {
	t.Helper()
	before := read(r.n, r.name)
	run.Stop()
	after := read(r.n, r.name)
	bytes, counted := run.Last("ebpf.flow.io"), run.Last("ebpf.flow.packets")
	equal := func(counter string, points []kernel.Point, direction string) {
		have := kernel.Sum(kernel.With(points, "network.io.direction", direction))
		assert.GreaterOrEqual(t, have, float64(before.of[counter]-r.of[counter]), counter)
		assert.LessOrEqual(t, have, float64(after.of[counter]-r.of[counter]), counter)
	}
	equal("rx_bytes", bytes, "receive")
	equal("tx_bytes", bytes, "transmit")
	if packets {
		equal("rx_packets", counted, "receive")
		equal("tx_packets", counted, "transmit")
	}
}

// exchange sends size bytes over TCP to a server in another namespace, which sends them back.
func exchange(t *testing.T, from, to *kernel.Network, network, address string, size int) {
	t.Helper()
	var l net.Listener
	to.Do(func() {
		var err error
		l, err = net.Listen(network, address)
		require.NoError(t, err)
	})
	defer l.Close()
	var served sync.WaitGroup
	served.Go(func() {
		c, err := l.Accept()
		if !assert.NoError(t, err) {
			return
		}
		defer c.Close()
		_, err = io.Copy(c, c)
		assert.NoError(t, err)
	})
	var c net.Conn
	from.Do(func() {
		var err error
		c, err = net.Dial(network, l.Addr().String())
		require.NoError(t, err)
	})
	defer c.Close()
	served.Go(func() {
		_, err := c.Write(make([]byte, size))
		assert.NoError(t, err)
		assert.NoError(t, c.(*net.TCPConn).CloseWrite())
	})
	n, err := io.Copy(io.Discard, c)
	require.NoError(t, err)
	require.Equal(t, int64(size), n)
	served.Wait()
}

func TestKernelFlowEqualsTheInterfacesCounters(t *testing.T) {
	for _, offload := range []string{"on", "off"} {
		t.Run("offload "+offload, func(t *testing.T) {
			here, there := pair(t)
			if offload == "off" {
				withoutOffload(t, here, "uplink")
				withoutOffload(t, there, "far")
			} else {
				require.NoError(t, here.Netlink.LinkSetMTU(here.Link("uplink"), 9000))
				require.NoError(t, there.Netlink.LinkSetMTU(there.Link("far"), 9000))
			}
			run := here.Start(`{ probes: { flow: } }`)
			before := read(here, "uplink")
			exchange(t, here, there, "tcp4", "10.1.0.2:8080", 3<<20)
			exchange(t, there, here, "tcp6", "[fd00::1]:9090", 3<<20)
			stopBalanced(t, run, before, offload == "off")

			flows := values(run.Last("ebpf.flow.io"), "source.address", "destination.address", "server.port", "network.transport", "network.io.direction")
			for _, flow := range []string{
				"10.1.0.1 10.1.0.2 8080 tcp transmit", "10.1.0.2 10.1.0.1 8080 tcp receive",
				"fd00::2 fd00::1 9090 tcp receive", "fd00::1 fd00::2 9090 tcp transmit",
			} {
				assert.Greater(t, flows[flow], float64(3<<20), flow)
			}
		})
	}
}

// withoutOffload makes the kernel cut packets to size before an interface sees them.
func withoutOffload(t *testing.T, n *kernel.Network, name string) {
	t.Helper()
	require.NoError(t, n.Netlink.LinkSetGSOMaxSegs(n.Link(name), 1))
}

// A frame's kind decides what is known of it; its bytes are always counted.
func TestKernelFlowReadsFrames(t *testing.T) {
	const a, b, a6, b6 = "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"
	u := udpSegment(40000, 53, 18)
	cases := []struct {
		name  string
		frame []byte
		want  string // type transport source destination source.port destination.port vlan flags dscp
	}{
		{"udp", join(ethernet(0x0800), ipv4(udp, a, b, u)), "ipv4 udp 192.0.2.1 192.0.2.2 40000 53 - - 46"},
		{"udp without payload", join(ethernet(0x0800), ipv4(udp, a, b, udpSegment(1, 2, 0))), "ipv4 udp 192.0.2.1 192.0.2.2 1 2 - - 46"},
		{"tcp", join(ethernet(0x0800), ipv4(tcp, a, b, tcpSegment(1000, 80, syn|ack, 9))), "ipv4 tcp 192.0.2.1 192.0.2.2 1000 80 - syn|ack 46"},
		{"sctp", join(ethernet(0x0800), ipv4(sctp, a, b, join(ports(5, 6), make([]byte, 20)))), "ipv4 sctp 192.0.2.1 192.0.2.2 5 6 - - 46"},
		{"icmp", join(ethernet(0x0800), ipv4(icmp, a, b, make([]byte, 8))), "ipv4 icmp 192.0.2.1 192.0.2.2 - - - - 46"},
		{"gre", join(ethernet(0x0800), ipv4(gre, a, b, make([]byte, 8))), "ipv4 gre 192.0.2.1 192.0.2.2 - - - - 46"},
		{"esp", join(ethernet(0x0800), ipv4(esp, a, b, make([]byte, 8))), "ipv4 esp 192.0.2.1 192.0.2.2 - - - - 46"},
		{"a protocol without a name", join(ethernet(0x0800), ipv4(253, a, b, make([]byte, 8))), "ipv4 253 192.0.2.1 192.0.2.2 - - - - 46"},
		{"ipv4 options", join(ethernet(0x0800), ipv4With(udp, a, b, 0, make([]byte, 12), u)), "ipv4 udp 192.0.2.1 192.0.2.2 40000 53 - - 46"},
		{"first fragment", join(ethernet(0x0800), ipv4With(udp, a, b, 0x2000, nil, u)), "ipv4 udp 192.0.2.1 192.0.2.2 40000 53 - - 46"},
		{"later fragment", join(ethernet(0x0800), ipv4With(udp, a, b, 0x2010, nil, u)), "ipv4 udp 192.0.2.1 192.0.2.2 - - - - 46"},
		{"ah", join(ethernet(0x0800), ipv4(ah, a, b, join([]byte{udp, 4, 0, 0}, make([]byte, 20), u))), "ipv4 udp 192.0.2.1 192.0.2.2 40000 53 - - 46"},
		{"udp over ipv6", join(ethernet(0x86dd), ipv6(udp, a6, b6, u)), "ipv6 udp 2001:db8::1 2001:db8::2 40000 53 - - 46"},
		{"tcp over ipv6", join(ethernet(0x86dd), ipv6(tcp, a6, b6, tcpSegment(7, 8, fin|psh, 0))), "ipv6 tcp 2001:db8::1 2001:db8::2 7 8 - fin|psh 46"},
		{"icmp over ipv6", join(ethernet(0x86dd), ipv6(icmp6, a6, b6, make([]byte, 8))), "ipv6 ipv6-icmp 2001:db8::1 2001:db8::2 - - - - 46"},
		{"sctp over ipv6", join(ethernet(0x86dd), ipv6(sctp, a6, b6, join(ports(5, 6), make([]byte, 20)))), "ipv6 sctp 2001:db8::1 2001:db8::2 5 6 - - 46"},
		{"extension headers", join(ethernet(0x86dd), ipv6(hopByHop, a6, b6, extension(routing, 0, extension(options, 2, extension(udp, 1, u))))), "ipv6 udp 2001:db8::1 2001:db8::2 40000 53 - - 46"},
		{"first fragment of ipv6", join(ethernet(0x86dd), ipv6(fragment, a6, b6, join([]byte{udp, 0, 0, 1, 0, 0, 0, 1}, u))), "ipv6 udp 2001:db8::1 2001:db8::2 40000 53 - - 46"},
		{"later fragment of ipv6", join(ethernet(0x86dd), ipv6(fragment, a6, b6, join([]byte{udp, 0, 0, 9, 0, 0, 0, 1}, u))), "ipv6 udp 2001:db8::1 2001:db8::2 - - - - 46"},
		{"arp", join(ethernet(0x0806), make([]byte, 28)), "arp - - - - - - - 0"},
		{"an unknown ethertype", join(ethernet(0x9abc), make([]byte, 30)), "0x9abc - - - - - - - 0"},
		{"llc", join(ethernet(40), []byte{0x42, 0x42, 3}, make([]byte, 37)), "llc - - - - - - - 0"},
		{"vlan", join(tagged(0x0800, [2]uint16{0x8100, 42}), ipv4(udp, a, b, u)), "ipv4 udp 192.0.2.1 192.0.2.2 40000 53 42 - 46"},
		{"qinq", join(tagged(0x0800, [2]uint16{0x88a8, 7}, [2]uint16{0x8100, 42}), ipv4(udp, a, b, u)), "ipv4 udp 192.0.2.1 192.0.2.2 40000 53 7 - 46"},
		{"vlan over ipv6", join(tagged(0x86dd, [2]uint16{0x8100, 42}), ipv6(tcp, a6, b6, tcpSegment(7, 8, rst, 0))), "ipv6 tcp 2001:db8::1 2001:db8::2 7 8 42 rst 46"},
	}
	here, there := wire(t)
	run := here.Start(`
probes:
  flow:
    ports: all
    attributes: [network.type, network.transport, source.address, destination.address, source.port, destination.port, network.vlan.id,
      ebpf.flow.tcp.flags, ebpf.flow.dscp, network.io.direction]
`)
	before := read(here, "uplink")
	want, tags := map[string]float64{}, 0.0
	for _, c := range cases {
		send(t, there, "far", c.frame)
		want[c.want] += float64(len(c.frame))
		if strings.HasPrefix(c.name, "vlan") || c.name == "qinq" {
			want[c.want] -= 4
			tags += 4
		}
	}
	run.Stop()
	have := values(kernel.With(run.Last("ebpf.flow.io"), "network.io.direction", "receive"), "network.type", "network.transport", "source.address",
		"destination.address", "source.port", "destination.port", "network.vlan.id", "ebpf.flow.tcp.flags", "ebpf.flow.dscp")
	assert.Equal(t, want, have)
	// A tag that was in the frame when it passed the far end is beside it here, and not in its length.
	assert.Equal(t, before.grown("rx_bytes")-tags, kernel.Sum(run.Last("ebpf.flow.io")))
	assert.Equal(t, before.grown("rx_packets"), kernel.Sum(run.Last("ebpf.flow.packets")))
	assert.Empty(t, slices.DeleteFunc(run.Last("ebpf.flow.broken_packets"), func(p kernel.Point) bool { return p.Value == 0 }))
}

// A frame that is cut anywhere is counted, to the byte, and what is missing of it is told.
func TestKernelFlowCountsBrokenFrames(t *testing.T) {
	here, there := wire(t)
	run := here.Start(`{ probes: { flow: { ports: all, attributes: [network.type, network.transport, source.port, network.io.direction] } } }`)
	before := read(here, "uplink")
	truncated, malformed := 0, 0
	cut := func(frame []byte, whole int) {
		for n := 14; n <= len(frame); n++ {
			send(t, there, "far", frame[:n])
			if n < whole {
				truncated++
			}
		}
	}
	cut(join(ethernet(0x0800), ipv4(udp, "192.0.2.1", "192.0.2.2", udpSegment(1, 2, 4))), 14+20+4)
	cut(join(ethernet(0x0800), ipv4(tcp, "192.0.2.1", "192.0.2.2", tcpSegment(1, 2, syn, 0))), 14+20+14)
	cut(join(ethernet(0x0800), ipv4With(udp, "192.0.2.1", "192.0.2.2", 0, make([]byte, 8), udpSegment(1, 2, 4))), 14+28+4)
	cut(join(ethernet(0x86dd), ipv6(udp, "2001:db8::1", "2001:db8::2", udpSegment(1, 2, 4))), 14+40+4)
	cut(join(ethernet(0x86dd), ipv6(hopByHop, "2001:db8::1", "2001:db8::2", extension(udp, 1, udpSegment(1, 2, 4)))), 14+40+16+4)

	u := udpSegment(1, 2, 0)
	good := ipv4(udp, "192.0.2.1", "192.0.2.2", u)
	for _, first := range []byte{0x00, 0x44, 0x65, 0xf5} {
		frame := join(ethernet(0x0800), good)
		frame[14] = first
		send(t, there, "far", frame)
		malformed++
	}
	frame := join(ethernet(0x86dd), ipv6(udp, "2001:db8::1", "2001:db8::2", u))
	frame[14] = 0x45
	chain := u
	for range 12 {
		chain = extension(options, 0, chain)
	}
	short := tcpSegment(1, 2, syn, 0)
	short[12] = 0x40
	send(t, there, "far", frame, join(ethernet(0x86dd), ipv6(options, "2001:db8::1", "2001:db8::2", chain)),
		join(ethernet(0x0800), ipv4(tcp, "192.0.2.1", "192.0.2.2", short)))
	malformed += 3
	stopBalanced(t, run, before, true)
	assert.Equal(t, map[string]float64{"truncated": float64(truncated), "malformed": float64(malformed)},
		values(run.Last("ebpf.flow.broken_packets"), "error.type"))
}

// The end that serves is known by TCP's handshake, whichever port is lower.
func TestKernelFlowServerPort(t *testing.T) {
	here, there := wire(t)
	run := here.Start(`{ probes: { flow: { attributes: [server.port, network.transport, network.io.direction, source.port, destination.port] } } }`)
	const a, b = "192.0.2.1", "192.0.2.2"
	segment := func(from, to uint16, flags byte) []byte {
		if from == 50000 {
			return join(ethernet(0x0800), ipv4(tcp, b, a, tcpSegment(from, to, flags, 0)))
		}
		return join(ethernet(0x0800), ipv4(tcp, a, b, tcpSegment(from, to, flags, 0)))
	}
	// Nothing is known of these but their ports.
	send(t, there, "far", segment(30000, 50001, ack), join(ethernet(0x0800), ipv4(udp, a, b, udpSegment(30000, 5353, 0))))
	// Asked: it serves, whether it answers or not.
	send(t, there, "far", segment(30000, 50000, syn))
	// It answered: it serves.
	send(t, there, "far", segment(50000, 30000, syn|ack), segment(30000, 50000, ack), segment(50000, 30000, ack|psh), segment(30000, 50000, ack|fin))
	run.Stop()
	assert.Equal(t, map[string]float64{
		"30000 tcp 30000 -": 1, "5353 udp - 5353": 1, "50000 tcp - 50000": 3, "50000 tcp 50000 -": 2,
	}, values(kernel.With(run.Last("ebpf.flow.packets"), "network.io.direction", "receive"), "server.port", "network.transport", "source.port", "destination.port"))
}

// Ranges are series of their own by name; the longest one wins, and nobody can pass for one.
func TestKernelFlowCIDRs(t *testing.T) {
	here, there := wire(t)
	run := here.Start(`
probes:
  flow:
    cidrs: [10.0.0.0/8: office, 10.9.0.0/16: lab, 192.0.2.7: printer, "2001:db8::/32": office]
    attributes: [source.address, network.io.direction]
`)
	for _, from := range []string{"10.1.1.1", "10.2.2.2", "10.9.0.1", "192.0.2.7", "192.0.2.8"} {
		send(t, there, "far", join(ethernet(0x0800), ipv4(udp, from, "198.51.100.1", udpSegment(1, 2, 0))))
	}
	for _, from := range []string{"2001:db8::5", "2001:db9::5", "ff00::1", "ff00::2"} {
		send(t, there, "far", join(ethernet(0x86dd), ipv6(udp, from, "2001:db8:ffff::1", udpSegment(1, 2, 0))))
	}
	run.Stop()
	assert.Equal(t, map[string]float64{
		"office": 3, "lab": 1, "printer": 1, "192.0.2.8": 1, "2001:db9::5": 1, "ff00::/16": 2,
	}, values(kernel.With(run.Last("ebpf.flow.packets"), "network.io.direction", "receive"), "source.address"))
}

// What does not match is not counted, with and without a link layer.
func TestKernelFlowFilter(t *testing.T) {
	here, there := wire(t)
	run := here.Start(`{ probes: { flow: { filter: "udp and dst host 192.0.2.2 and not port 22", attributes: [destination.address, server.port] } } }`)
	for _, to := range []string{"192.0.2.2", "192.0.2.3"} {
		for _, port := range []uint16{22, 53} {
			send(t, there, "far", join(ethernet(0x0800), ipv4(udp, "192.0.2.1", to, udpSegment(4000, port, 0))),
				join(ethernet(0x0800), ipv4(tcp, "192.0.2.1", to, tcpSegment(4000, port, ack, 0))))
		}
	}
	run.Stop()
	assert.Equal(t, map[string]float64{"192.0.2.2 53": 1}, values(run.Last("ebpf.flow.packets"), "destination.address", "server.port"))
}

// A packet on loopback passes twice and counts once.
func TestKernelFlowLoopback(t *testing.T) {
	here := kernel.NewNetwork(t)
	run := here.Start(`{ probes: { flow: { interfaces: [lo], attributes: [network.interface.name, network.io.direction] } } }`)
	before := read(here, "lo")
	exchange(t, here, here, "tcp4", "127.0.0.1:7777", 1<<20)
	run.Stop()
	bytes := values(run.Last("ebpf.flow.io"), "network.interface.name", "network.io.direction")
	assert.Equal(t, map[string]float64{"lo receive": before.grown("rx_bytes")}, bytes)
	assert.Equal(t, before.grown("rx_bytes"), before.grown("tx_bytes"))
}

// Of what comes at once, nothing is missing: what has no row of its own is in the overflow series.
func TestKernelFlowOverflow(t *testing.T) {
	here, there := wire(t)
	run := here.Start(`{ probes: { flow: { ports: all, attributes: [source.port, destination.port, network.io.direction] , max_series: 1000 } } }`)
	before := read(here, "uplink")
	n := kernel.Load(50_000, 5_000)
	frames := make([][]byte, n)
	for i := range frames {
		frames[i] = join(ethernet(0x0800), ipv4(udp, "192.0.2.1", "192.0.2.2", udpSegment(uint16(i), uint16(1000+i>>16), 18)))
	}
	send(t, there, "far", frames...)
	run.Stop()
	points := run.Last("ebpf.flow.packets")
	overflow := kernel.With(points, "otel.metric.overflow", true)
	require.Len(t, overflow, 1)
	assert.GreaterOrEqual(t, overflow[0].Value, float64(n-1000))
	assert.Equal(t, before.grown("rx_packets")+before.grown("tx_packets"), kernel.Sum(points))
	assert.Equal(t, before.grown("rx_bytes")+before.grown("tx_bytes"), kernel.Sum(run.Last("ebpf.flow.io")))
}

// One in ten packets stands for ten.
func TestKernelFlowSampling(t *testing.T) {
	here, there := wire(t)
	run := here.Start(`{ probes: { flow: { sampling: 10, filter: "udp port 9", attributes: [] } } }`)
	const n = 20_000
	frame := join(ethernet(0x0800), ipv4(udp, "192.0.2.1", "192.0.2.2", udpSegment(9, 9, 18)))
	send(t, there, "far", slices.Repeat([][]byte{frame}, n)...)
	run.Stop()
	points := run.Last("ebpf.flow.packets")
	require.Len(t, points, 1)
	assert.Equal(t, map[string]any{"ebpf.flow.sampling": int64(10)}, points[0].Attributes)
	// Six standard deviations of a binomial distribution: of a hundred million runs, none should fail.
	assert.InDelta(t, n, points[0].Value, 6*10*43)
	assert.Equal(t, points[0].Value*float64(len(frame)), kernel.Sum(run.Last("ebpf.flow.io")))
}

// A trunk: packets of VLANs have the number, and count as the interface counts them.
func TestKernelFlowVLANs(t *testing.T) {
	here, there := pair(t)
	for i, id := range []int{10, 20} {
		for _, end := range []struct {
			n            *kernel.Network
			parent, host string
		}{{here, "uplink", "1"}, {there, "far", "2"}} {
			name := fmt.Sprint(end.parent, ".", id)
			end.n.Add(&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: name, ParentIndex: end.n.Link(end.parent).Attrs().Index}, VlanId: id})
			end.n.Up(name, fmt.Sprintf("10.%d.0.%s/24", 2+i, end.host))
		}
	}
	here.Settle("uplink")
	run := here.Start(`{ probes: { flow: { attributes: [network.vlan.id, network.io.direction] } } }`)
	before := read(here, "uplink")
	inside := map[string]reading{"10": read(here, "uplink.10"), "20": read(here, "uplink.20")}
	exchange(t, here, there, "tcp4", "10.2.0.2:8080", 1<<20)
	exchange(t, there, here, "tcp4", "10.3.0.1:8080", 2<<20)
	stopBalanced(t, run, before, false)
	bytes := values(run.Last("ebpf.flow.io"), "network.vlan.id", "network.io.direction")
	for id, r := range inside {
		assert.Equal(t, r.grown("tx_bytes"), bytes[id+" transmit"], "VLAN %s", id)
		// The VLAN's interface leaves out the header of what it receives.
		packets := values(run.Last("ebpf.flow.packets"), "network.vlan.id", "network.io.direction")[id+" receive"]
		assert.Greater(t, bytes[id+" receive"], r.grown("rx_bytes"))
		assert.LessOrEqual(t, bytes[id+" receive"], r.grown("rx_bytes")+14*packets)
	}
}

// The bytes of an address are its container's, also where only the host's uplink is attached: a bridge takes them there as they are.
func TestKernelFlowContainers(t *testing.T) {
	kernel.Needs(t, "containers by address", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE")
	here, there := wire(t)
	there.Up("far", "10.1.0.2/24")
	host := kernel.NewCgroup(t)
	pids := []int{here.Process(host)}
	here.Add(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}})
	require.NoError(t, here.Netlink.LinkSetMaster(here.Link("uplink"), here.Link("br0")))
	here.Up("br0", "10.1.0.1/24")
	cgroup := kernel.NewCgroup(t)
	ids := make([]string, 2)
	inside := make([]*kernel.Network, 2)
	for i := range inside {
		inside[i] = kernel.NewNetwork(t)
		port := fmt.Sprint("port", i)
		here.Connect(port, inside[i], "eth0")
		require.NoError(t, here.Netlink.LinkSetMaster(here.Link(port), here.Link("br0")))
		here.Up(port)
		inside[i].Up("eth0", fmt.Sprintf("10.1.0.%d/24", 10+i))
		ids[i] = strings.Repeat(fmt.Sprint(i+1), 64)
		dir := filepath.Join(cgroup.Dir, "docker-"+ids[i]+".scope")
		require.NoError(t, os.Mkdir(dir, 0o755))
		t.Cleanup(func() { require.NoError(t, os.Remove(dir)) })
		pids = append(pids, inside[i].Process(cgroup.At(dir)))
	}
	run := here.Start(fmt.Sprintf(`
root_path: %q
probes: { flow: { interfaces: [uplink], filter: tcp, attributes: [container, server.port, network.io.direction] } }
`, kernel.Root(t, pids...)))
	exchange(t, inside[0], there, "tcp4", "10.1.0.2:8080", 1<<20)
	exchange(t, there, inside[1], "tcp4", "10.1.0.11:9090", 2<<20)
	exchange(t, here, there, "tcp4", "10.1.0.2:7070", 1<<10)
	run.Stop()
	have := map[string]string{}
	for _, p := range run.Last("ebpf.flow.io") {
		owner, _ := p.Resource["container.id"].(string)
		have[fmt.Sprint(p.Attributes["server.port"], " ", p.Attributes["network.io.direction"])] = owner
	}
	assert.Equal(t, map[string]string{
		"8080 transmit": ids[0], "8080 receive": ids[0], "9090 transmit": ids[1], "9090 receive": ids[1], "7070 transmit": "", "7070 receive": "",
	}, have)
}

// Packets that pass a VLAN's interface, a bridge and the uplink count once.
func TestKernelFlowCountsOnce(t *testing.T) {
	here, there := pair(t)
	inside := kernel.NewNetwork(t)
	here.Add(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}})
	here.Connect("port", inside, "eth0")
	require.NoError(t, here.Netlink.LinkSetMaster(here.Link("port"), here.Link("br0")))
	require.NoError(t, here.Netlink.LinkSetMaster(here.Link("uplink"), here.Link("br0")))
	here.Up("br0")
	here.Up("port")
	inside.Up("eth0", "10.1.0.9/24")
	run := here.Start(`{ probes: { flow: { interfaces: [uplink] } } }`)
	before := read(here, "uplink")
	exchange(t, inside, there, "tcp4", "10.1.0.2:8080", 1<<20)
	here.Settle("uplink") // the last acknowledgement has a bridge to pass
	stopBalanced(t, run, before, false)
}
