// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// A frame is a packet that a test looks at: its bytes behind the link-layer header are those of a raw IP device.
type frame struct {
	name string
	data []byte
	raw  bool // without a header of Ethernet
}

func be16(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }

func ether(typ int, payload ...[]byte) []byte {
	return etherTo("02:00:5e:00:53:02", typ, payload...)
}

func etherTo(to string, typ int, payload ...[]byte) []byte {
	dst, _ := parseMAC(to)
	src, _ := parseMAC("02:00:5e:00:53:01")
	return slices.Concat(append([][]byte{dst[:], src[:], be16(typ)}, payload...)...)
}

type ip4 struct {
	proto    int
	src, dst string
	options  int // words
	fragment int // flags and offset
	ttl      int
}

func (h ip4) of(payload ...[]byte) []byte {
	if h.src == "" {
		h.src = "10.1.2.3"
	}
	if h.dst == "" {
		h.dst = "192.0.2.1"
	}
	body := slices.Concat(payload...)
	src, dst := netip.MustParseAddr(h.src).As4(), netip.MustParseAddr(h.dst).As4()
	header := slices.Concat([]byte{byte(0x45 + h.options), 0}, be16(20+4*h.options+len(body)), be16(0x1234), be16(h.fragment),
		[]byte{byte(64 - h.ttl), byte(h.proto)}, be16(0), src[:], dst[:])
	for i := range h.options {
		header = append(header, 0x94, 4, 0, byte(i))
	}
	return append(header, body...)
}

type ip6 struct {
	next     int
	src, dst string
}

func (h ip6) of(payload ...[]byte) []byte {
	if h.src == "" {
		h.src = "2001:db8::1"
	}
	if h.dst == "" {
		h.dst = "2001:db8:0:1::2"
	}
	body := slices.Concat(payload...)
	src, dst := netip.MustParseAddr(h.src).As16(), netip.MustParseAddr(h.dst).As16()
	return slices.Concat([]byte{0x60, 0, 0, 0}, be16(len(body)), []byte{byte(h.next), 64}, src[:], dst[:], body)
}

func tcp(src, dst, flags int) []byte {
	return slices.Concat(be16(src), be16(dst), []byte{0, 0, 0, 1, 0, 0, 0, 2, 0x50, byte(flags)}, be16(512), be16(0), be16(0), []byte("GET /"))
}

func udp(src, dst int) []byte {
	return slices.Concat(be16(src), be16(dst), be16(12), be16(0), []byte("abcd"))
}

func sctp(src, dst int) []byte {
	return slices.Concat(be16(src), be16(dst), []byte{1, 2, 3, 4, 5, 6, 7, 8, 0, 3, 0, 4})
}

func icmp(typ, code int) []byte { return []byte{byte(typ), byte(code), 0, 0, 0, 1, 0, 1, 1, 2, 3, 4} }

func arp(op int, src, dst string) []byte {
	s, d := netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4()
	return slices.Concat([]byte{0, 1, 8, 0, 6, 4}, be16(op), []byte{2, 0, 0x5e, 0, 0x53, 1}, s[:], make([]byte, 6), d[:])
}

func tag(id, typ int) []byte { return slices.Concat(be16(0x2000|id), be16(typ)) }

func label(value, bottom int) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(value<<12|bottom<<8|64))
}

func pppoe(session, typ int) []byte {
	return slices.Concat([]byte{0x11, 0}, be16(session), be16(100), be16(typ))
}

// extension is an IPv6 extension header of 8 bytes.
func extension(next int) []byte { return []byte{byte(next), 0, 1, 4, 0, 0, 0, 0} }

// frames are the packets that every expression of the corpus is tried on, whole and cut at every length.
func frames() []frame {
	var all []frame
	add := func(name string, data []byte) { all = append(all, frame{name: name, data: data}) }
	type inner struct {
		name string
		typ  int
		data []byte
	}
	inners := []inner{
		{"tcp4 http syn", etherIP, ip4{proto: 6}.of(tcp(40000, 80, 2))},
		{"tcp4 https back", etherIP, ip4{proto: 6, src: "192.0.2.1", dst: "10.1.2.3"}.of(tcp(443, 40000, 0x12))},
		{"tcp4 ssh to 10.1.2.3", etherIP, ip4{proto: 6, src: "172.16.5.6", dst: "10.1.2.3"}.of(tcp(50000, 22, 0x18))},
		{"tcp4 to 10.1.2.3", etherIP, ip4{proto: 6, src: "172.16.5.6", dst: "10.1.2.3"}.of(tcp(50000, 5432, 0x11))},
		{"tcp4 options", etherIP, ip4{proto: 6, options: 2}.of(tcp(80, 22, 0x14))},
		{"tcp4 most options", etherIP, ip4{proto: 6, options: 10, ttl: 63}.of(tcp(443, 53, 4))},
		{"udp4 dns", etherIP, ip4{proto: 17}.of(udp(33000, 53))},
		{"udp4 dns back", etherIP, ip4{proto: 17, src: "8.8.8.8", dst: "10.1.2.3"}.of(udp(53, 33000))},
		{"udp4 ntp options", etherIP, ip4{proto: 17, options: 5}.of(udp(123, 123))},
		{"udp4 first fragment", etherIP, ip4{proto: 17, fragment: 0x2000}.of(udp(53, 80))},
		{"udp4 other fragment", etherIP, ip4{proto: 17, fragment: 0x2005}.of(udp(53, 80))},
		{"tcp4 last fragment", etherIP, ip4{proto: 6, fragment: 0x00b9}.of(tcp(80, 80, 2))},
		{"sctp4", etherIP, ip4{proto: 132}.of(sctp(2905, 80))},
		{"icmp4 echo", etherIP, ip4{proto: 1}.of(icmp(8, 0))},
		{"icmp4 unreachable", etherIP, ip4{proto: 1, src: "192.0.2.255"}.of(icmp(3, 3), ip4{proto: 17}.of(udp(53, 53)))},
		{"igmp4", etherIP, ip4{proto: 2, dst: "224.0.0.1", options: 1}.of(icmp(0x11, 0))},
		{"gre4", etherIP, ip4{proto: 47}.of([]byte{0, 0, 8, 0}, ip4{proto: 6}.of(tcp(80, 80, 2)))},
		{"ipip4", etherIP, ip4{proto: 4}.of(ip4{proto: 6}.of(tcp(80, 22, 2)))},
		{"esp4", etherIP, ip4{proto: 50}.of(icmp(1, 2))},
		{"ah4", etherIP, ip4{proto: 51}.of(icmp(6, 4))},
		{"pim4", etherIP, ip4{proto: 103, dst: "239.1.2.3"}.of(icmp(0x20, 0))},
		{"vrrp4", etherIP, ip4{proto: 112, dst: "224.0.0.18"}.of(icmp(0x21, 1))},
		{"ospf4", etherIP, ip4{proto: 89}.of(icmp(2, 1))},
		{"ip4 short header", etherIP, append([]byte{0x41}, ip4{proto: 6}.of(tcp(80, 22, 2))[1:]...)},
		{"ip4 empty", etherIP, ip4{proto: 17, dst: "255.255.255.255"}.of()},
		{"tcp6 http", etherIPv6, ip6{next: 6}.of(tcp(40000, 80, 2))},
		{"tcp6 ssh back", etherIPv6, ip6{next: 6, src: "2001:db8:0:1::2", dst: "2001:db8::1"}.of(tcp(22, 40000, 0x12))},
		{"tcp6 loopback", etherIPv6, ip6{next: 6, src: "::1", dst: "::1"}.of(tcp(443, 8080, 0x10))},
		{"udp6 dns", etherIPv6, ip6{next: 17, dst: "2001:4860:4860::8888"}.of(udp(33000, 53))},
		{"udp6 mdns", etherIPv6, ip6{next: 17, src: "fe80::1", dst: "ff02::fb"}.of(udp(5353, 5353))},
		{"sctp6", etherIPv6, ip6{next: 132}.of(sctp(80, 2905))},
		{"icmp6 echo", etherIPv6, ip6{next: 58}.of(icmp(128, 0))},
		{"icmp6 neighbour", etherIPv6, ip6{next: 58, src: "fe80::1", dst: "ff02::1:ff00:2"}.of(icmp(135, 0))},
		{"tcp6 first fragment", etherIPv6, ip6{next: 44}.of([]byte{6, 0, 0, 1, 0, 0, 0, 9}, tcp(80, 443, 2))},
		{"udp6 other fragment", etherIPv6, ip6{next: 44}.of([]byte{17, 0, 0, 0x50, 0, 0, 0, 9}, udp(53, 53))},
		{"tcp6 hop-by-hop", etherIPv6, ip6{next: 0}.of(extension(6), tcp(80, 22, 2))},
		{"udp6 destination options", etherIPv6, ip6{next: 60}.of(extension(17), udp(53, 123))},
		{"icmp6 routing", etherIPv6, ip6{next: 43}.of(extension(58), icmp(1, 4))},
		{"ah6", etherIPv6, ip6{next: 51}.of(extension(6), tcp(80, 22, 2))},
		{"esp6", etherIPv6, ip6{next: 50}.of(extension(6))},
		{"pim6", etherIPv6, ip6{next: 103, dst: "ff02::d"}.of(icmp(0x20, 0))},
		{"no next header", etherIPv6, ip6{next: 59}.of()},
	}
	for _, p := range inners {
		add(p.name, ether(p.typ, p.data))
		all = append(all, frame{name: p.name, data: p.data, raw: true})
	}
	all = append(all, frame{name: "neither 4 nor 6", data: []byte{0x50, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, raw: true})
	for _, i := range []int{0, 2, 6, 10, 13, 25, 28, 31, 33, 35} {
		p := inners[i]
		add("vlan 5 "+p.name, ether(etherVLAN, tag(5, p.typ), p.data))
		add("qinq 100 200 "+p.name, ether(etherQinQ, tag(100, etherVLAN), tag(200, p.typ), p.data))
		add("mpls "+p.name, ether(etherMPLS, label(5, 1), p.data))
		add("mpls mpls "+p.name, ether(etherMPLS, label(100000, 0), label(1024, 1), p.data))
		add("pppoe "+p.name, ether(etherPPPoES, pppoe(5, int(pppTypes[uint32(p.typ)])), p.data))
	}
	tcp4 := inners[0].data
	add("vlan 9100", ether(etherQinQOld, tag(4095, etherIP), tcp4))
	add("vlan arp", ether(etherVLAN, tag(1, etherARP), arp(1, "10.1.2.3", "192.0.2.1")))
	add("vlan mpls", ether(etherVLAN, tag(300, etherMPLS), label(16, 1), tcp4))
	add("arp request", etherTo("ff:ff:ff:ff:ff:ff", etherARP, arp(1, "10.1.2.3", "192.0.2.1")))
	add("arp reply", ether(etherARP, arp(2, "192.0.2.1", "10.1.2.3")))
	add("rarp", ether(etherRARP, arp(3, "10.1.2.3", "10.1.2.3")))
	add("ip4 broadcast", etherTo("ff:ff:ff:ff:ff:ff", etherIP, inners[24].data))
	add("ip4 multicast", etherTo("01:00:5e:00:00:01", etherIP, inners[15].data))
	add("ip6 multicast", etherTo("33:33:00:00:00:fb", etherIPv6, inners[29].data))
	add("pppoe discovery", ether(etherPPPoED, []byte{0x11, 9, 0, 0, 0, 0}))
	add("pppoe other session", ether(etherPPPoES, pppoe(0x1234, 0x21), tcp4))
	add("stp", etherTo("01:80:c2:00:00:00", 38, []byte{0x42, 0x42, 3, 0, 0, 0, 0, 0}))
	add("isis", etherTo("01:80:c2:00:00:14", 100, []byte{0xfe, 0xfe, 3, 0x83, 1, 2, 3, 4, 5}))
	add("esis", ether(100, []byte{0xfe, 0xfe, 3, 0x82, 1, 2, 3, 4, 5}))
	add("netbeui", ether(50, []byte{0xf0, 0xf0, 3, 1, 2, 3}))
	add("ipx raw", ether(80, []byte{0xff, 0xff, 0, 30, 0, 0, 1, 2, 3}))
	add("ipx 802.2", ether(80, []byte{0xe0, 0xe0, 3, 30, 0, 0, 1, 2, 3}))
	add("ipx snap", ether(80, []byte{0xaa, 0xaa, 3, 0, 0, 0, 0x81, 0x37, 1}))
	add("ipx ethernet", ether(etherIPX, []byte{0xff, 0xff}))
	add("atalk snap", ether(80, []byte{0xaa, 0xaa, 3, 8, 0, 7, 0x80, 0x9b, 1}))
	add("aarp snap", ether(80, []byte{0xaa, 0xaa, 3, 0, 0, 0, 0x80, 0xf3, 1}))
	add("atalk", ether(etherAtalk, []byte{1, 2, 3}))
	add("decnet", ether(etherDECnet, []byte{1, 2, 3}))
	add("lldp", etherTo("01:80:c2:00:00:0e", 0x88cc, []byte{2, 7, 4, 1, 2, 3}))
	return all
}

// cuts are a packet's beginnings, of every length.
func (f frame) cuts() [][]byte {
	all := make([][]byte, 0, len(f.data)+1)
	for n := range len(f.data) + 1 {
		all = append(all, f.data[:n])
	}
	return all
}
