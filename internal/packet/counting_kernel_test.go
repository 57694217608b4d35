// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"net"
	"os"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// pair is two namespaces, with a veth between them.
func pair(t testing.TB) (a, b *container) {
	a, b = newContainer(t), newContainer(t)
	a.quiet()
	b.quiet()
	a.veth("left", b.space, "right")
	a.up("left", "10.1.0.1/24", "fd01::1/64")
	b.up("right", "10.1.0.2/24", "fd01::2/64")
	a.running("left")
	b.running("right")
	return a, b
}

// silent is a pair that speaks only when it is told to: without IPv6, and with nobody to be asked for.
func silent(t testing.TB) (a, b *container) {
	a, b = newContainer(t), newContainer(t)
	for _, c := range []*container{a, b} {
		c.in(func() { _ = os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0) })
	}
	a.veth("left", b.space, "right")
	a.up("left", "10.1.0.1/24")
	b.up("right", "10.1.0.2/24")
	a.running("left")
	b.running("right")
	a.neighbour("left", "10.1.0.2", b.link("right").Attrs().HardwareAddr)
	b.neighbour("right", "10.1.0.1", a.link("left").Attrs().HardwareAddr)
	return a, b
}

// exchange goes all ways between two namespaces, over both versions of IP.
func exchange(a, b *space, a4, b4, a6, b6 string) {
	talk(a, b, b4)
	talk(b, a, a4)
	talk(a, b, b6)
	talk(b, a, a6)
}

func TestKernelCountingLoopback(t *testing.T) {
	needs.Root(t)
	s := newContainer(t)
	l := open(s)
	talk(s.space, s.space, "127.0.0.1")
	talk(s.space, s.space, "::1")
	moved := l.balance(nil)
	assert.Greater(t, moved["lo"].receivedBytes, uint64(9<<20))
	assert.Equal(t, moved["lo"].receivedBytes, moved["lo"].sentBytes)
}

func TestKernelCountingVeth(t *testing.T) {
	for _, tt := range []struct {
		name               string
		tso, gsoOff, merge bool
	}{
		{name: "large packets", tso: true},
		{name: "segments by the sender", tso: false},
		{name: "segments by TCP", gsoOff: true},
		{name: "segments merged by the receiver", merge: true, gsoOff: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			needs.Root(t)
			a, b := pair(t)
			a.ethtool("left", setTSO, tt.tso)
			b.ethtool("right", setTSO, tt.tso)
			if tt.gsoOff {
				a.ethtool("left", setGSO, false)
				b.ethtool("right", setGSO, false)
			}
			a.ethtool("left", setGRO, false)
			b.ethtool("right", setGRO, tt.merge)
			l := open(a, b)
			exchange(a.space, b.space, "10.1.0.1", "10.1.0.2", "fd01::1", "fd01::2")
			var otherwise map[string]func(*Counting)
			if tt.merge && vethMerges() {
				// What is sent is what the other side, which merges, counts when it receives.
				otherwise = map[string]func(*Counting){"left": func(c *Counting) { c.Transmit = -header }}
			}
			moved := l.balance(otherwise)
			assert.Greater(t, moved["left"].sentBytes, uint64(9<<20))
			if tt.tso {
				assert.Greater(t, moved["left"].sentBytes/moved["left"].sentPackets, uint64(3000), "no packet was large")
			}
		})
	}
}

// The interfaces of other kinds, each on one side of a pair with its like on the other.
func TestKernelCountingKinds(t *testing.T) {
	veth := func(s *space, name string) int { return s.index(name) }
	for _, tt := range []struct {
		kind string
		make func(s *space, lower, local, remote string) netlink.Link
		// bare: there are no addresses of IPv6 on it
		bare bool
	}{
		{kind: "macvlan", make: func(s *space, lower, _, _ string) netlink.Link {
			return &netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{ParentIndex: veth(s, lower)}, Mode: netlink.MACVLAN_MODE_BRIDGE}
		}},
		{kind: "vlan", make: func(s *space, lower, _, _ string) netlink.Link {
			return &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{ParentIndex: veth(s, lower)}, VlanId: 7}
		}},
		{kind: "ipvlan", make: func(s *space, lower, _, _ string) netlink.Link {
			return &netlink.IPVlan{LinkAttrs: netlink.LinkAttrs{ParentIndex: veth(s, lower)}, Mode: netlink.IPVLAN_MODE_L2}
		}},
		{kind: "vxlan", make: func(s *space, lower, local, remote string) netlink.Link {
			return &netlink.Vxlan{VxlanId: 9, VtepDevIndex: veth(s, lower), SrcAddr: net.ParseIP(local), Group: net.ParseIP(remote), Port: 4789, Learning: true}
		}},
		{kind: "geneve", make: func(_ *space, _, _, remote string) netlink.Link {
			return &netlink.Geneve{ID: 9, Remote: net.ParseIP(remote)}
		}},
		{kind: "ipip", bare: true, make: func(_ *space, _, local, remote string) netlink.Link {
			return &netlink.Iptun{Local: net.ParseIP(local), Remote: net.ParseIP(remote)}
		}},
		{kind: "gre", make: func(_ *space, _, local, remote string) netlink.Link {
			return &netlink.Gretun{Local: net.ParseIP(local), Remote: net.ParseIP(remote)}
		}},
		{kind: "gretap", make: func(_ *space, _, local, remote string) netlink.Link {
			return &netlink.Gretap{Local: net.ParseIP(local), Remote: net.ParseIP(remote)}
		}},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			needs.Root(t)
			a, b := pair(t)
			build := func(s *space, lower, local, remote, v4, v6 string) {
				l := tt.make(s, lower, local, remote)
				l.Attrs().Name = tt.kind + "7"
				s.add(l)
				if tt.bare {
					s.up(l.Attrs().Name, v4)
				} else {
					s.up(l.Attrs().Name, v4, v6)
				}
			}
			build(a.space, "left", "10.1.0.1", "10.1.0.2", "10.2.0.1/24", "fd02::1/64")
			build(b.space, "right", "10.1.0.2", "10.1.0.1", "10.2.0.2/24", "fd02::2/64")
			l := open(a, b)
			if tt.bare {
				talk(a.space, b.space, "10.2.0.2")
				talk(b.space, a.space, "10.2.0.1")
			} else {
				exchange(a.space, b.space, "10.2.0.1", "10.2.0.2", "fd02::1", "fd02::2")
			}
			moved := l.balance(nil)
			assert.Greater(t, moved[tt.kind+"7"].receivedBytes, uint64(4<<20))
			assert.Greater(t, moved[tt.kind+"7"].sentBytes, uint64(4<<20))
		})
	}
}

// A bridge and its port, with the addresses on the bridge; and one that has only ports, between two containers.
func TestKernelCountingBridge(t *testing.T) {
	needs.Root(t)
	a, b, c := newContainer(t), newContainer(t), newContainer(t)
	a.quiet()
	b.quiet()
	c.quiet()
	off := false
	a.add(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}, MulticastSnooping: &off})
	for port, other := range map[string]*container{"toB": b, "toC": c} {
		a.veth(port, other.space, "eth0")
		require.NoError(t, a.LinkSetMaster(a.link(port), a.link("br0")))
		a.set(port, unix.IFF_UP)
	}
	a.up("br0", "10.1.0.1/24", "fd01::1/64")
	b.up("eth0", "10.1.0.2/24", "fd01::2/64")
	c.up("eth0", "10.1.0.3/24", "fd01::3/64")
	l := open(a, b, c)
	exchange(a.space, b.space, "10.1.0.1", "10.1.0.2", "fd01::1", "fd01::2")
	exchange(b.space, c.space, "10.1.0.2", "10.1.0.3", "fd01::2", "fd01::3")
	moved := l.balance(nil)
	assert.Greater(t, moved["br0"].receivedBytes, uint64(8<<20))
	assert.Less(t, moved["br0"].receivedBytes, moved["toB"].receivedBytes-uint64(8<<20))
}

// tuntap opens a device of which the test is the other side.
func (s *space) tuntap(name string, flags uint16) *os.File {
	s.t.Helper()
	var file *os.File
	s.in(func() {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			s.t.Skip("no /dev/net/tun")
		}
		var request struct {
			name  [unix.IFNAMSIZ]byte
			flags uint16
			_     [22]byte
		}
		copy(request.name[:], name)
		request.flags = flags | unix.IFF_NO_PI
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&request)))
		require.Zero(s.t, errno)
		file = os.NewFile(uintptr(fd), name)
	})
	s.t.Cleanup(func() { file.Close() })
	return file
}

// datagram is an IPv4 packet with UDP, without a checksum of UDP.
func datagram(from, to [4]byte, port uint16, payload int) []byte {
	b := make([]byte, 28+payload)
	b[0], b[8], b[9] = 0x45, 64, unix.IPPROTO_UDP
	b[2], b[3] = byte(len(b)>>8), byte(len(b))
	copy(b[12:], from[:])
	copy(b[16:], to[:])
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	b[10], b[11] = byte(^sum>>8), byte(^sum)
	b[20], b[22], b[23] = 4, byte(port>>8), byte(port)
	b[24], b[25] = byte((8+payload)>>8), byte(8+payload)
	return b
}

func TestKernelCountingTun(t *testing.T) {
	for _, tt := range []struct {
		name  string
		flags uint16
		frame []byte // before the packet
	}{
		{"tun", unix.IFF_TUN, nil},
		{"tap", unix.IFF_TAP, []byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 8, 0}},
		{"tap with a VLAN tag", unix.IFF_TAP, []byte{2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 0x81, 0, 0, 7, 8, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			needs.Root(t)
			s := newContainer(t)
			s.quiet()
			file := s.tuntap("tt0", tt.flags)
			s.up("tt0", "10.3.0.1/24")
			if tt.frame != nil {
				require.NoError(t, s.LinkSetHardwareAddr(s.link("tt0"), net.HardwareAddr(tt.frame[:6])))
				require.NoError(t, s.NeighAdd(&netlink.Neigh{
					LinkIndex: s.index("tt0"), State: netlink.NUD_PERMANENT, IP: net.IPv4(10, 3, 0, 2), HardwareAddr: net.HardwareAddr(tt.frame[6:12]),
				}))
			}
			l := open(s)
			assert.Equal(t, tt.frame != nil, l.find(s.space, "tt0").Counting.Ethernet)
			var c net.PacketConn
			s.in(func() {
				var err error
				c, err = net.ListenPacket("udp", "10.3.0.1:0")
				require.NoError(t, err)
			})
			defer c.Close()
			require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
			require.NoError(t, file.SetDeadline(time.Now().Add(10*time.Second)))
			buffer := make([]byte, 2048)
			for size := 1; size < 1300; size += 13 {
				packet := datagram([4]byte{10, 3, 0, 2}, [4]byte{10, 3, 0, 1}, uint16(c.LocalAddr().(*net.UDPAddr).Port), size)
				_, err := file.Write(append(append([]byte{}, tt.frame...), packet...))
				require.NoError(t, err)
				if len(tt.frame) <= header { // a tag that nobody asked for is dropped later
					_, _, err = c.ReadFrom(buffer)
					require.NoError(t, err)
				}
				_, err = c.WriteTo(buffer[:size/2], &net.UDPAddr{IP: net.IPv4(10, 3, 0, 2), Port: 9})
				require.NoError(t, err)
				_, err = file.Read(buffer)
				require.NoError(t, err)
			}
			moved := l.balance(nil)
			assert.Equal(t, uint64(100), moved["tt0"].receivedPackets)
			assert.Equal(t, uint64(100), moved["tt0"].sentPackets)
		})
	}
}
