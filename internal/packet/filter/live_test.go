// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// inVethNamespace makes a network namespace for the rest of the test, with two connected devices that nothing else uses.
func inVethNamespace(t *testing.T) (near, far netlink.Link) {
	t.Helper()
	runtime.LockOSThread() // and never unlocked: the thread ends with the test, and its namespace with it
	require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
	for _, scope := range []string{"all", "default"} {
		// Otherwise the devices send packets of their own.
		err := os.WriteFile("/proc/sys/net/ipv6/conf/"+scope+"/disable_ipv6", []byte("1"), 0)
		if !os.IsNotExist(err) {
			require.NoError(t, err)
		}
	}
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near"}, PeerName: "far"})
	if errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("this kernel has no veth devices")
	}
	require.NoError(t, err)
	// The sender comes up last: its queue is then ready at once, and not when the kernel gets to see the carrier.
	for _, name := range []string{"far", "near"} {
		link, err := netlink.LinkByName(name)
		require.NoError(t, err)
		require.NoError(t, netlink.LinkSetARPOff(link))
		require.NoError(t, netlink.LinkSetUp(link))
		if name == "near" {
			near = link
		} else {
			far = link
		}
	}
	return near, far
}

// packetSocket is a socket for whole frames on a device, with a filter that attach puts on before it receives anything.
func packetSocket(t *testing.T, device netlink.Link, attach func(fd int) error) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, attach(fd))
	require.NoError(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
	require.NoError(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300 /* ETH_P_ALL, big endian */, Ifindex: device.Attrs().Index}))
	return fd
}

// classicFilter attaches tcpdump's program so that it keeps 2 bytes of a match, and 1 byte of another packet.
func classicFilter(program []bpf.RawInstruction) func(int) error {
	var filters []unix.SockFilter
	for _, ri := range program {
		if _, ok := ri.Disassemble().(bpf.RetConstant); ok {
			ri.K = 1 + min(ri.K, 1)
		}
		filters = append(filters, unix.SockFilter{Code: ri.Op, Jt: ri.Jt, Jf: ri.Jf, K: ri.K})
	}
	return func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(filters)), Filter: &filters[0]})
	}
}

// liveGoldens are what tcpdump makes of expressions for a device, where that is something else than for a file.
func liveGoldens(t *testing.T, device string) map[string][]bpf.RawInstruction {
	const path = "testdata/live.golden"
	if *update {
		var b strings.Builder
		for _, g := range goldens(t, Ethernet) {
			if g.program == nil {
				continue
			}
			var out, problem bytes.Buffer
			cmd := exec.Command("tcpdump", "-ddd", "-i", device, "--", g.expression)
			cmd.Stdout, cmd.Stderr = &out, &problem
			require.NoError(t, cmd.Run(), problem.String())
			if program := decimal(t, out.String()); fmt.Sprint(program) != fmt.Sprint(g.program) {
				fmt.Fprintf(&b, "= %s\n", g.expression)
				for _, ri := range program {
					fmt.Fprintln(&b, ri.Op, ri.Jt, ri.Jf, ri.K)
				}
			}
		}
		require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o644))
	}
	live := map[string][]bpf.RawInstruction{}
	for _, g := range readGoldens(t, path) {
		live[g.expression] = g.program
	}
	return live
}

// On a real device, every verdict of ours is that of tcpdump's live program. What is sent on one side is seen there with its VLAN tag inside;
// on the other side the kernel has put the tag beside the packet.
func TestKernelDevicesVerdictsAreThoseOfTcpdump(t *testing.T) {
	needs.Root(t)
	near, far := inVethNamespace(t)
	live := liveGoldens(t, "far")
	sender := packetSocket(t, near, func(int) error { return nil })
	defer unix.Close(sender)
	compared, beside := 0, 0
	specials, others := 1, 8
	if testing.Short() {
		specials, others = 6, 64
	}
	for i, g := range goldens(t, Ethernet) {
		want, special := live[g.expression]
		// Closing a packet socket takes its time: of what is not special, a part is enough.
		if g.program == nil || special && i%specials != 0 || !special && i%others != 0 {
			continue
		}
		if !special {
			want = g.program
		}
		if g.expression == "vlan and pppoes and ip" {
			continue // the kernel refuses what libpcap makes of it for a device
		}
		program, err := Compile(g.expression, Ethernet)
		require.NoError(t, err, g.expression)
		c := socketFilter(t, "packets", program)
		var sockets []int
		for _, device := range []netlink.Link{near, far} {
			sockets = append(sockets, packetSocket(t, device, func(fd int) error {
				return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, c.Programs["packets"].FD())
			}), packetSocket(t, device, classicFilter(want)))
		}
		for i, f := range frames() {
			if f.raw || !special && i%5 != 0 || len(f.data) < 14 {
				continue
			}
			_, err := unix.Write(sender, f.data)
			require.NoError(t, err)
			var kept [4]int
			buffer := make([]byte, 16)
			for j, fd := range sockets {
				// The socket that was made last is given a packet first: what ours has, tcpdump's has had. It has not if
				// the packet ended early.
				flags := 0
				if j%2 == 1 {
					flags, kept[j] = unix.MSG_DONTWAIT, 1
				}
				n, _, err := unix.Recvfrom(fd, buffer, flags)
				if j%2 == 1 && errors.Is(err, unix.EAGAIN) {
					continue
				}
				require.NoError(t, err, "%s: %s was not received", g.expression, f.name)
				kept[j] = n
			}
			require.Equal(t, kept[1], kept[0], "%s on %s that is sent; 2 is a match", g.expression, f.name)
			require.Equal(t, kept[3], kept[2], "%s on %s that is received; 2 is a match", g.expression, f.name)
			compared += 2
			if special && kept[2] == 2 {
				beside++
			}
		}
		for _, fd := range sockets {
			unix.Close(fd)
		}
		c.Close()
	}
	require.NotZero(t, compared)
	require.NotZero(t, beside)
	t.Logf("%d verdicts are equal; %d of them matches of what differs between devices and files", compared, beside)
}

// The second half of the truth: what is known about single packets, without asking tcpdump.
func TestKernelVLANBesideThePacket(t *testing.T) {
	needs.Root(t)
	near, far := inVethNamespace(t)
	sender := packetSocket(t, near, func(int) error { return nil })
	defer unix.Close(sender)
	payload := ip4{proto: 6}.of(tcp(40000, 80, 2))
	single := ether(etherVLAN, tag(5, etherIP), payload)
	double := ether(etherQinQ, tag(100, etherVLAN), tag(200, etherIP), payload)
	plain := ether(etherIP, payload)
	for _, test := range []struct {
		expression string
		data       []byte
		sent, got  bool
	}{
		{"vlan", single, true, true},
		{"vlan 5", single, true, true},
		{"vlan 6", single, false, false},
		{"vlan", plain, false, false},
		{"vlan 5 and tcp port 80", single, true, true},
		{"vlan 5 and not tcp port 80", single, false, false},
		{"vlan and ether[12:2] = 0x8100", single, true, false}, // the tag is not in the received frame
		{"ether[12:2] = 0x8100", single, true, false},
		{"tcp port 80", single, false, true}, // without the word vlan, a frame is looked at as it is
		{"vlan 100", double, true, true},
		{"vlan 100 and vlan 200", double, true, true},
		{"vlan 100 and vlan 200 and tcp port 80", double, true, true},
		{"vlan 200", double, false, false},
		{"vlan 100 and tcp", double, false, false}, // the inner tag is still there
		{"not vlan", plain, true, true},
		{"inbound", plain, false, true},
		{"outbound", plain, true, false},
	} {
		program, err := Compile(test.expression, Ethernet)
		require.NoError(t, err)
		c := socketFilter(t, "packets", program)
		for device, want := range map[netlink.Link]bool{near: test.sent, far: test.got} {
			fd := packetSocket(t, device, func(fd int) error {
				return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, c.Programs["packets"].FD())
			})
			_, err = unix.Write(sender, test.data)
			require.NoError(t, err)
			n, err := unix.Read(fd, make([]byte, 16))
			require.NoError(t, err)
			require.Equal(t, want, n == 2, "%s on the device %s", test.expression, device.Attrs().Name)
			unix.Close(fd)
		}
		c.Close()
	}
}

// benchmarkFilter is the time of one run in the kernel, as it reports it itself.
func benchmarkFilter(b *testing.B, program *Program, data []byte) {
	needs.Root(b)
	c := socketFilter(b, "bare", program)
	defer c.Close()
	_, took, err := c.Programs["bare"].Benchmark(append(make([]byte, 14), data...), b.N, nil)
	require.NoError(b, err)
	b.ReportMetric(float64(took.Nanoseconds()), "ns/run")
}

// BenchmarkKernel is what a filter costs a packet, beside the function that says yes.
func BenchmarkKernel(b *testing.B) {
	packet := ether(etherIP, ip4{proto: 6, src: "172.16.5.6", dst: "10.1.2.3"}.of(tcp(50000, 5432, 0x11)))
	b.Run("none", func(b *testing.B) { benchmarkFilter(b, nil, packet) })
	for _, e := range []string{"tcp", "tcp and dst host 10.1.2.3 and not port 22", "udp port 53", "vlan 5 and tcp"} {
		program, err := Compile(e, Ethernet)
		require.NoError(b, err)
		b.Run(strings.ReplaceAll(e, " ", "_"), func(b *testing.B) { benchmarkFilter(b, program, packet) })
	}
}
