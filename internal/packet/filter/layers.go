// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"net/netip"

	"golang.org/x/net/bpf"
)

// linkKind is what a frame begins with, at the place that the expression has come to.
type linkKind uint8

const (
	linkEthernet linkKind = iota
	linkRaw
	linkPPP // after pppoes
)

// layers knows where the headers are. The words vlan, mpls and pppoes move them, for the rest of the expression.
type layers struct {
	values
	link    linkKind
	header  uint32 // the link-layer header
	typ     uint32 // its type field
	payload uint32 // behind the header, and behind the tags that were matched
	net     uint32 // the network header, from payload: behind the labels of MPLS
	labels  int
	vlans   int
	// beside is set while compiling for packets whose VLAN tag is beside the packet.
	beside bool
}

func newLayers(link Link, beside bool) layers {
	l := layers{values: values{}, beside: beside}
	if link == Ethernet {
		l.typ, l.payload = 12, 14
	} else {
		l.link = linkRaw
	}
	return l
}

// field is size bytes of the network header at offset.
func (l *layers) field(offset uint32, size uint8) *value {
	return l.load(l.payload+l.net+offset, nil, size)
}

// masked tests size bytes of the packet at an absolute offset.
func (l *layers) masked(offset uint32, size uint8, k, mask uint32) *cond {
	v := l.load(offset, nil, size)
	if mask != 1<<32-1 {
		v = l.alu(bpf.ALUOpAnd, v, l.imm(mask))
	}
	return check(cmpEQ, v, k)
}

// bytes tests a sequence of bytes at an absolute offset: words first, from the last one.
func (l *layers) bytes(offset uint32, b []byte) *cond {
	var conds []*cond
	for len(b) > 0 {
		size := 1
		if len(b) >= 4 {
			size = 4
		} else if len(b) >= 2 {
			size = 2
		}
		tail := b[len(b)-size:]
		b = b[:len(b)-size]
		var k uint32
		for _, c := range tail {
			k = k<<8 | uint32(c)
		}
		conds = append(conds, check(cmpEQ, l.load(offset+uint32(len(b)), nil, uint8(size)), k)) //nolint:gosec // at most 8 bytes
	}
	return and(conds...)
}

// etherType tests what follows the link-layer header: an Ethernet type, or a service access point of 802.2 if at most 1500.
// Behind labels of MPLS, only the IP version can tell; the caller has refused all else there.
func (l *layers) etherType(proto uint32) *cond {
	version := func(at, nibble uint32) *cond { return l.masked(at, 1, nibble<<4, 0xf0) }
	nibble := uint32(4)
	if proto == etherIPv6 {
		nibble = 6
	}
	switch {
	case l.labels > 0:
		bottom := l.masked(l.payload+l.net-2, 1, 1, 1)
		return and(bottom, version(l.payload+l.net, nibble))
	case l.link == linkRaw:
		if proto != etherIP && proto != etherIPv6 {
			return constant(false)
		}
		return version(l.payload, nibble)
	case l.link == linkPPP:
		if ppp, ok := pppTypes[proto]; ok {
			proto = ppp
		}
		return check(cmpEQ, l.load(l.typ, nil, 2), proto)
	}

	typ := l.load(l.typ, nil, 2)
	length := not(check(cmpGT, typ, etherMaxLen))
	is := check(cmpEQ, typ, proto)
	sap := func(size uint8, k uint32) *cond { return check(cmpEQ, l.load(l.payload, nil, size), k) }
	snap := func(organisation, k uint32) *cond {
		return l.bytes(l.payload, []byte{
			0xaa, 0xaa, 3, byte(organisation >> 16), byte(organisation >> 8), byte(organisation), byte(k >> 8), byte(k),
		})
	}
	switch proto {
	case sapISO, sapIP, sapNetBEUI:
		return and(length, sap(2, proto<<8|proto))
	case sapIPX:
		return or(check(cmpEQ, typ, etherIPX), and(length, or(snap(0, etherIPX), or(sap(1, sapIPX), sap(2, 0xffff)))))
	case etherAtalk:
		return or(is, and(length, snap(0x080007, proto)))
	case etherAARP:
		return or(is, and(length, snap(0, proto)))
	}
	if proto <= etherMaxLen {
		return and(length, sap(1, proto))
	}
	return is
}

// version4 and version6 test for IP, whatever the link is.
func (l *layers) version4() *cond { return l.etherType(etherIP) }
func (l *layers) version6() *cond { return l.etherType(etherIPv6) }

// direction combines a test of sources and one of destinations.
func direction(dir string, source, destination func() *cond) *cond {
	switch dir {
	case "src":
		return source()
	case "dst":
		return destination()
	case "src and dst":
		return and(source(), destination())
	default:
		return or(source(), destination())
	}
}

// address4 tests the addresses of one protocol: ip, arp or rarp.
func (l *layers) address4(proto, dir string, addr, mask uint32) *cond {
	typ, source, destination := uint32(etherIP), uint32(12), uint32(16)
	switch proto {
	case "arp":
		typ, source, destination = etherARP, 14, 24
	case "rarp":
		typ, source, destination = etherRARP, 14, 24
	}
	at := func(offset uint32) func() *cond {
		return func() *cond {
			return and(l.etherType(typ), l.masked(l.payload+l.net+offset, 4, addr, mask))
		}
	}
	return direction(dir, at(source), at(destination))
}

func (l *layers) address6(dir string, prefix netip.Prefix) *cond {
	addr := prefix.Addr().As16()
	at := func(offset uint32) func() *cond {
		return func() *cond {
			conds := []*cond{l.version6()}
			for i := range 4 {
				k := uint32(addr[4*i])<<24 | uint32(addr[4*i+1])<<16 | uint32(addr[4*i+2])<<8 | uint32(addr[4*i+3])
				bits := min(max(prefix.Bits()-32*i, 0), 32)
				mask := ^uint32(0) << (32 - bits)
				conds = append(conds, l.masked(l.payload+l.net+offset+uint32(4*i), 4, k, mask)) //nolint:gosec // at most 12
			}
			return and(conds...)
		}
	}
	return direction(dir, at(8), at(24))
}

func (l *layers) mac(dir string, mac [6]byte) *cond {
	at := func(offset uint32) func() *cond {
		return func() *cond { return l.bytes(l.header+offset, mac[:]) }
	}
	return direction(dir, at(6), at(0))
}

// firstFragment is not a fragment of IPv4 other than the first.
func (l *layers) firstFragment() *cond { return not(check(cmpSet, l.field(6, 2), 0x1fff)) }

// ports tests for a port from low to high, of one transport protocol or, if that is 0, of any that has ports. In IPv6, only a
// packet without extension headers is recognised.
func (l *layers) ports(low, high, protocol uint32, dir string) *cond {
	protocols := []uint32{protocol}
	if protocol == 0 {
		protocols = []uint32{protoSCTP, protoTCP, protoUDP}
	}
	within := func(port *value) *cond {
		if low == high {
			return check(cmpEQ, port, low)
		}
		return and(check(cmpGE, port, low), not(check(cmpGT, port, high)))
	}
	start := l.payload + l.net
	at := func(base *value, header, offset uint32) func() *cond {
		return func() *cond { return within(l.load(start+header+offset, base, 2)) }
	}
	var v4, v6 []*cond
	for _, number := range protocols {
		base := l.msh(start)
		v6 = append(v6, and(check(cmpEQ, l.field(6, 1), number), direction(dir, at(nil, 40, 0), at(nil, 40, 2))))
		v4 = append(v4, and(check(cmpEQ, l.field(9, 1), number), l.firstFragment(), direction(dir, at(base, 0, 0), at(base, 0, 2))))
	}
	return or(and(l.version6(), or(v6...)), and(l.version4(), or(v4...)))
}

// protocol4 and protocol6 test for what IP carries. In IPv6, it may also stand behind a fragment header.
func (l *layers) protocol4(number uint32) *cond {
	return and(l.version4(), check(cmpEQ, l.field(9, 1), number))
}

func (l *layers) protocol6(number uint32) *cond {
	next := l.field(6, 1)
	return and(l.version6(), or(check(cmpEQ, next, number),
		and(check(cmpEQ, next, protoFrag), check(cmpEQ, l.field(40, 1), number))))
}

// transport tests for a protocol by its keyword.
func (l *layers) transport(keyword string) *cond {
	t := transports[keyword]
	var v4, v6 *cond
	if t.v4 {
		v4 = l.protocol4(t.number)
	}
	if t.v6 {
		v6 = l.protocol6(t.number)
	}
	return or(v6, v4)
}

// iso tests the protocol above 802.2's ISO access point.
func (l *layers) iso(number uint32) *cond {
	skip := uint32(0)
	if l.link == linkEthernet {
		skip = 3
	}
	return and(l.etherType(sapISO), check(cmpEQ, l.load(l.payload+l.net+skip, nil, 1), number))
}

// vlan matches a tag, of any id if id is negative, and moves what follows behind it.
func (l *layers) vlan(id int64) *cond {
	first := l.vlans == 0
	l.vlans++
	if first && l.beside {
		if id < 0 {
			return constant(true)
		}
		return check(cmpEQ, l.alu(bpf.ALUOpAnd, l.ext(bpf.ExtVLANTag), l.imm(0xfff)), uint32(id)) //nolint:gosec // checked
	}
	c := or(l.etherType(etherVLAN), l.etherType(etherQinQ), l.etherType(etherQinQOld))
	if id >= 0 {
		c = and(c, l.masked(l.payload, 2, uint32(id), 0xfff)) //nolint:gosec // checked
	}
	l.typ += 4
	l.payload += 4
	return c
}

// mpls matches a label, of any value if it is negative.
func (l *layers) mpls(label int64) *cond {
	var c *cond
	switch {
	case l.labels > 0:
		c = l.masked(l.payload+l.net-2, 1, 0, 1) // not the bottom of the stack
	case l.link == linkPPP:
		c = l.etherType(0x0281)
	default:
		c = l.etherType(etherMPLS)
	}
	if label >= 0 {
		c = and(c, l.masked(l.payload+l.net, 4, uint32(label)<<12, 0xfffff000)) //nolint:gosec // checked
	}
	l.net += 4
	l.labels++
	return c
}

// pppoes matches a PPPoE session, of any id if it is negative. What follows is PPP.
func (l *layers) pppoes(session int64) *cond {
	c := l.etherType(etherPPPoES)
	if session >= 0 {
		c = and(c, l.masked(l.payload+l.net, 4, uint32(session), 0xffff)) //nolint:gosec // checked
	}
	l.link = linkPPP
	l.header = l.payload + l.net + 6
	l.typ = l.header
	l.payload = l.header + 2
	l.net = 0
	return c
}
