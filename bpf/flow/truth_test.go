// SPDX-License-Identifier: Apache-2.0

//go:build linux

package flow_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

var update = flag.Bool("update", false, "write what tshark says of the capture, where it is installed")

// segments is how many segments TCP has sent in a namespace, as nstat shows them.
func segments(t *testing.T, n *kernel.Network) float64 {
	t.Helper()
	var text []byte
	n.Do(func() {
		var err error
		text, err = os.ReadFile("/proc/thread-self/net/snmp")
		require.NoError(t, err)
	})
	var names []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if fields[0] != "Tcp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		total := 0.0
		for _, name := range []string{"OutSegs", "RetransSegs"} {
			v, err := strconv.ParseFloat(fields[slices.Index(names, name)], 64)
			require.NoError(t, err)
			total += v
		}
		return total
	}
	require.FailNow(t, "no counters of TCP")
	return 0
}

// A large packet that is cut on its way counts as many packets as it becomes: as many as TCP sent segments.
func TestKernelFlowCountsSegments(t *testing.T) {
	here, there := pair(t)
	run := here.Start(`{ probes: { flow: { filter: tcp } } }`)
	sent, received := segments(t, here), segments(t, there)
	exchange(t, here, there, "tcp4", "10.1.0.2:8080", kernel.Load(64<<20, 2<<20))
	exchange(t, there, here, "tcp6", "[fd00::1]:9090", kernel.Load(64<<20, 2<<20))
	run.Stop()
	packets := run.Last("ebpf.flow.packets")
	assert.Equal(t, segments(t, here)-sent, kernel.Sum(kernel.With(packets, "network.io.direction", "transmit")))
	assert.Equal(t, segments(t, there)-received, kernel.Sum(kernel.With(packets, "network.io.direction", "receive")))
	frames := float64(here.Counter("uplink", "tx_packets"))
	assert.Less(t, frames, kernel.Sum(kernel.With(packets, "network.io.direction", "transmit"))/2, "nothing was cut: the test is worth nothing")
}

// A large datagram of segments, as QUIC sends them, counts as the datagrams that it becomes.
func TestKernelFlowCountsDatagrams(t *testing.T) {
	here, there := pair(t)
	run := here.Start(`{ probes: { flow: { filter: udp, attributes: [network.type, network.io.direction] } } }`)
	before := read(here, "uplink")
	const segment, segments, sends = 500, 10, 50
	for _, end := range []struct {
		from, to *kernel.Network
		address  string
	}{{here, there, "10.1.0.2:443"}, {there, here, "[fd00::1]:443"}} {
		var server net.PacketConn
		end.to.Do(func() {
			var err error
			server, err = net.ListenPacket("udp", end.address)
			require.NoError(t, err)
		})
		defer server.Close()
		end.from.Do(func() {
			conn, err := net.Dial("udp", end.address)
			require.NoError(t, err)
			defer conn.Close()
			raw, err := conn.(*net.UDPConn).SyscallConn()
			require.NoError(t, err)
			require.NoError(t, raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, segment)
			}))
			require.NoError(t, err)
			for range sends {
				_, err := conn.Write(make([]byte, segment*segments))
				require.NoError(t, err)
			}
		})
	}
	run.Stop()
	assert.Equal(t, map[string]float64{"ipv4 transmit": segments * sends, "ipv6 receive": segments * sends},
		values(run.Last("ebpf.flow.packets"), "network.type", "network.io.direction"))
	bytes := values(run.Last("ebpf.flow.io"), "network.type", "network.io.direction")
	assert.LessOrEqual(t, bytes["ipv4 transmit"], before.grown("tx_bytes"))
	assert.GreaterOrEqual(t, bytes["ipv4 transmit"], float64(segment*segments*sends))
}

// What an interface counted is not lost when it gets another name, or goes.
func TestKernelFlowInterfacesComeAndGo(t *testing.T) {
	here, there := wire(t)
	run := here.Start(`
collection_interval: 200ms
temporality: delta
probes: { flow: { interfaces: ["up*", "wan*"], attributes: [network.interface.name, network.io.direction] } }
`)
	frame := join(ethernet(0x0800), ipv4(udp, "192.0.2.1", "192.0.2.2", udpSegment(4000, 53, 18)))
	burst := slices.Repeat([][]byte{frame}, 500)
	var load sync.WaitGroup
	var quiet sync.Mutex
	stop := make(chan struct{})
	end := sync.OnceFunc(func() {
		close(stop)
		load.Wait()
	})
	t.Cleanup(end)
	load.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				quiet.Lock()
				send(t, there, "far", burst...)
				quiet.Unlock()
			}
		}
	})
	// In silence: an interface that comes up receives and counts for a moment before the kernel tells the packet sockets that it is up.
	up := func(name string) {
		quiet.Lock()
		defer quiet.Unlock()
		require.NoError(t, here.Netlink.LinkSetUp(here.Link(name)))
		here.Watched(name)
	}
	counted := func(name string) (total float64) {
		for _, md := range run.Metrics.AllMetrics() {
			for _, p := range kernel.Points(md, "ebpf.flow.packets") {
				if p.Attributes["network.interface.name"] == name && p.Attributes["network.io.direction"] == "receive" {
					total += p.Value
				}
			}
		}
		return total
	}
	require.Eventually(t, func() bool { return counted("uplink") > 0 }, 20*time.Second, 20*time.Millisecond)
	err := here.Netlink.LinkSetName(here.Link("uplink"), "wan0")
	if errors.Is(err, unix.EBUSY) { // before Linux 6.2, an interface has to be down for it
		require.NoError(t, here.Netlink.LinkSetDown(here.Link("uplink")))
		require.NoError(t, here.Netlink.LinkSetName(here.Link("uplink"), "wan0"))
		up("wan0")
		err = nil
	}
	require.NoError(t, err)
	require.Eventually(t, func() bool { return counted("wan0") > 0 }, 20*time.Second, 20*time.Millisecond)
	require.NoError(t, here.Netlink.LinkSetDown(here.Link("wan0")))
	up("wan0")
	before := counted("wan0")
	require.Eventually(t, func() bool { return counted("wan0") > before }, 20*time.Second, 20*time.Millisecond)
	end()
	want := float64(here.Counter("wan0", "rx_packets"))
	require.NoError(t, here.Netlink.LinkDel(here.Link("wan0")))
	// Another one of the name that was: a new interface, with a new count.
	here.Connect("uplink", there, "far")
	here.Up("uplink")
	there.Up("far")
	here.Watched("uplink")
	again := counted("uplink")
	send(t, there, "far", burst...)
	require.Eventually(t, func() bool { return counted("uplink") >= again+float64(len(burst)) }, 20*time.Second, 20*time.Millisecond)
	run.Stop()
	assert.Equal(t, want+float64(here.Counter("uplink", "rx_packets")), counted("uplink")+counted("wan0"))
}

// In all namespaces, each interface to the outside counts what it counted itself.
func TestKernelFlowAllNamespaces(t *testing.T) {
	kernel.Needs(t, "`network_namespaces: all`", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE")
	here, there := pair(t)
	a, b := kernel.NewNetwork(t), kernel.NewNetwork(t)
	cgroup := kernel.NewCgroup(t)
	here.Connect("to-a", a, "eth-a")
	here.Connect("to-b", b, "eth-b")
	for _, n := range []*kernel.Network{here, a, b} {
		n.Do(func() { require.NoError(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)) })
	}
	here.Up("to-a", "10.2.0.1/24")
	here.Up("to-b", "10.3.0.1/24")
	a.Up("eth-a", "10.2.0.2/24")
	b.Up("eth-b", "10.3.0.2/24")
	a.Default("10.2.0.1")
	b.Default("10.3.0.1")
	there.Default("10.1.0.1")
	root := kernel.Root(t, here.Process(cgroup), a.Process(cgroup), b.Process(cgroup))
	for _, n := range []struct {
		*kernel.Network
		name string
	}{{here, "uplink"}, {a, "eth-a"}, {b, "eth-b"}} {
		n.Settle(n.name)
	}
	run := here.Start(fmt.Sprintf(`
root_path: %q
probes: { flow: { network_namespaces: all, interfaces: [uplink, "eth-*"], attributes: [network.interface.name, network.io.direction] } }
`, root))
	readings := map[string]reading{"uplink": read(here, "uplink"), "eth-a": read(a, "eth-a"), "eth-b": read(b, "eth-b")}
	exchange(t, a, b, "tcp4", "10.3.0.2:8080", 1<<20)
	exchange(t, b, there, "tcp4", "10.1.0.2:8080", 1<<20)
	run.Stop()
	bytes := values(run.Last("ebpf.flow.io"), "network.interface.name", "network.io.direction")
	for name, r := range readings {
		assert.Equal(t, r.grown("rx_bytes"), bytes[name+" receive"], name)
		assert.Equal(t, r.grown("tx_bytes"), bytes[name+" transmit"], name)
	}
}

// A million flows of one packet each, with the default settings: the clients' ports are not told apart, and their addresses that have no row
// are in the overflow series.
func TestKernelFlowManyFlows(t *testing.T) {
	here, there := wire(t)
	run := here.Start(`{ probes: { flow: } }`)
	before := read(here, "uplink")
	n := kernel.Load(1_000_000, 20_000)
	const batch = 10_000
	frames := make([][]byte, batch)
	for i := 0; i < n; i += batch {
		for j := range frames {
			frames[j] = join(ethernet(0x0800), ipv4(udp, fmt.Sprintf("10.%d.%d.%d", byte((i+j)>>16), byte((i+j)>>8), byte(i+j)), "192.0.2.2",
				udpSegment(uint16(20000+i/batch), 53, 18)))
		}
		send(t, there, "far", frames...)
	}
	run.Stop()
	points := run.Last("ebpf.flow.packets")
	assert.Equal(t, before.grown("rx_packets"), kernel.Sum(points))
	assert.Equal(t, before.grown("rx_bytes"), kernel.Sum(run.Last("ebpf.flow.io")))
	assert.Len(t, points, 10_001)
	overflow := kernel.With(points, "otel.metric.overflow", true)
	require.Len(t, overflow, 1)
	assert.EqualValues(t, n-10_000, overflow[0].Value)
}

// capture is a synthesised capture of many kinds of packets.
const capture = "testdata/capture.pcap"

// Of a capture that is played, each conversation has the packets and bytes that tshark sees in it.
func TestKernelFlowAgreesWithTshark(t *testing.T) {
	frames := captured()
	writeCapture(t, frames)
	here, there := wire(t)
	run := here.Start(`
probes:
  flow:
    ports: all
    attributes: [source.address, destination.address, source.port, destination.port, network.transport, network.io.direction]
`)
	send(t, there, "far", frames...)
	run.Stop()
	have := map[string]float64{}
	for _, metric := range []string{"packets", "io"} {
		for flow, v := range values(kernel.With(run.Last("ebpf.flow."+metric), "network.io.direction", "receive"),
			"network.transport", "source.address", "source.port", "destination.address", "destination.port") {
			if strings.HasPrefix(flow, "tcp ") || strings.HasPrefix(flow, "udp ") || strings.HasPrefix(flow, "sctp ") {
				have[metric+" "+flow] = v
			}
		}
	}
	assert.Equal(t, conversations(t), have)
}

// captured are the frames of the capture: some hundred conversations over IPv4 and IPv6, some of them with options, extension
// headers and tags, and other packets between them.
func captured() (frames [][]byte) {
	put := func(ethertype uint16, packet []byte) { frames = append(frames, join(ethernet(ethertype), packet)) }
	for i := range 100 {
		from4, to4 := fmt.Sprintf("10.0.%d.%d", i%7, i%50+1), fmt.Sprintf("10.1.0.%d", i%11+1)
		from6, to6 := fmt.Sprintf("2001:db8::%x", i%50+1), fmt.Sprintf("2001:db8:1::%x", i%11+1)
		port, size := uint16(1024+i*37%60000), i*13%400
		put(0x0800, ipv4(tcp, from4, to4, tcpSegment(port, 443, syn, 0)))
		put(0x0800, ipv4(tcp, to4, from4, tcpSegment(443, port, syn|ack, 0)))
		put(0x0800, ipv4(tcp, from4, to4, tcpSegment(port, 443, ack|psh, size)))
		put(0x0800, ipv4(udp, from4, to4, udpSegment(port, 53, size%500)))
		put(0x0800, ipv4With(udp, to4, from4, 0, make([]byte, 4*(i%10+1)), udpSegment(53, port, size)))
		put(0x86dd, ipv6(tcp, from6, to6, tcpSegment(port, 80, ack, size)))
		put(0x86dd, ipv6(hopByHop, from6, to6, extension(options, i%3, extension(udp, 0, udpSegment(port, 123, 48)))))
		put(0x0800, ipv4(sctp, from4, to4, join(ports(port, 3868), make([]byte, 8), []byte{3, 0, 0, 16}, make([]byte, 12))))
		if i%5 == 0 {
			put(0x0800, ipv4(icmp, from4, to4, []byte{8, 0, 0, 0, 0, byte(i), 0, 1}))
			put(0x0806, make([]byte, 28))
			put(0x86dd, ipv6(icmp6, from6, to6, []byte{128, 0, 0, 0, 0, byte(i), 0, 1}))
		}
	}
	return frames
}

// writeCapture keeps the capture beside the test, for whoever wants to look at it with tools of their own.
func writeCapture(t *testing.T, frames [][]byte) {
	t.Helper()
	order := binary.LittleEndian
	b := order.AppendUint32(nil, 0xa1b2c3d4)
	b = order.AppendUint16(order.AppendUint16(b, 2), 4)
	b = append(b, make([]byte, 8)...)
	b = order.AppendUint32(order.AppendUint32(b, 65535), 1)
	for i, frame := range frames {
		b = order.AppendUint32(order.AppendUint32(b, 1_700_000_000+uint32(i/1000)), uint32(i%1000))
		b = order.AppendUint32(order.AppendUint32(b, uint32(len(frame))), uint32(len(frame)))
		b = append(b, frame...)
	}
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(capture, b, 0o644))
		return
	}
	want, err := os.ReadFile(capture)
	require.NoError(t, err)
	require.True(t, slices.Equal(want, b), "the capture is not up to date: run the test with -update")
}

// conversations are tshark's counts, in each direction.
func conversations(t *testing.T) map[string]float64 {
	t.Helper()
	const file = "testdata/conversations.json"
	if *update {
		counts := map[string]float64{}
		for _, protocol := range []string{"tcp", "udp", "sctp"} {
			// One line a packet: the addresses, the ports and the length, as tshark decodes them.
			out, err := exec.Command("tshark", "-n", "-r", capture, "-Y", protocol, "-T", "fields", "-e", "ip.src", "-e", "ipv6.src",
				"-e", protocol+".srcport", "-e", "ip.dst", "-e", "ipv6.dst", "-e", protocol+".dstport", "-e", "frame.len").Output()
			require.NoError(t, err)
			for line := range strings.Lines(string(out)) {
				f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
				flow := fmt.Sprintf("%s %s%s %s %s%s %s", protocol, f[0], f[1], f[2], f[3], f[4], f[5])
				length, err := strconv.ParseFloat(f[6], 64)
				require.NoError(t, err)
				counts["packets "+flow]++
				counts["io "+flow] += length
			}
		}
		b, err := json.MarshalIndent(counts, "", "\t")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, append(b, '\n'), 0o644))
	}
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	var counts map[string]float64
	require.NoError(t, json.Unmarshal(b, &counts))
	return counts
}
