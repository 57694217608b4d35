// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
)

// wants says what qualifiers have to be followed by.
func (q qualifiers) wants() string {
	switch q.typ {
	case "net":
		return "a network"
	case "port":
		return "a port"
	case "portrange":
		return "a range of ports, like 80-90"
	case "proto":
		return "a protocol"
	}
	return "an address"
}

// id reads one address, network, port or protocol.
func (p *parser) id(q qualifiers) (*cond, error) {
	t := p.take()
	if t.kind == tokEnd || t.kind == tokOp || t.kind == tokKeyword {
		if t.kind == tokKeyword && q.known {
			if _, ok := ipProtocols[t.word]; ok && q.typ == "proto" || etherProtocols[t.word] != 0 && q.typ == "proto" {
				return nil, p.errorf(t, "a word of the language; as a protocol's name it is written \\%s", t.word)
			}
		}
		return nil, p.unexpected(t, q.wants())
	}
	if !q.known {
		return nil, p.withoutQualifier(t)
	}
	if t.kind == tokMAC {
		return p.macID(t, q)
	}
	switch q.typ {
	case "port", "portrange":
		return p.portID(t, q)
	case "proto":
		return p.protoID(t, q)
	}
	switch t.kind {
	case tokIPv6:
		return p.address6ID(t, q)
	case tokName:
		if q.typ == "net" {
			return nil, p.errorf(t, "networks' names are not looked up; write an address")
		}
		return nil, p.errorf(t, "hosts' names are not looked up; write an address")
	}
	return p.address4ID(t, q)
}

func (p *parser) macID(t token, q qualifiers) (*cond, error) {
	if q.proto != "ether" || q.typ != "" && q.typ != "host" {
		return nil, p.errorf(t, "an Ethernet address; write ether host before it")
	}
	if p.link != linkEthernet {
		return p.ofEthernet(t, "only Ethernet frames have Ethernet addresses")
	}
	return p.mac(q.dir, t.mac), nil
}

// network reads the mask behind an IPv4 address or number: "/length" or "mask address".
func (p *parser) network(t token, q qualifiers) (addr, mask uint32, err error) {
	addr, mask = t.value, ^uint32(0)
	if t.kind == tokIPv4 {
		mask <<= 32 - t.bits
	} else if q.typ == "net" {
		// "net 10" is 10.0.0.0/8.
		for addr != 0 && addr>>24 == 0 {
			addr <<= 8
			mask <<= 8
		}
	}
	after := p.peek()
	switch {
	case after.is("/"):
		p.take()
		length := p.take()
		if length.kind != tokNumber || length.value > 32 {
			return 0, 0, p.errorf(length, "expected the network's length in bits, up to 32")
		}
		mask = ^uint32(0) << (32 - length.value)
	case after.is("mask"):
		p.take()
		m := p.take()
		if m.kind != tokIPv4 {
			return 0, 0, p.errorf(m, "expected a mask, like 255.255.0.0")
		}
		mask = m.value
	default:
		return addr, mask, nil
	}
	switch {
	case t.kind == tokNumber:
		return 0, 0, p.errorf(t, "a network with a mask is written with dots, like 10.0.0.0/8")
	case q.typ != "net":
		return 0, 0, p.errorf(after, "only a network has a mask; write net before it")
	case addr&^mask != 0:
		return 0, 0, p.errorf(t, "the network's address has bits set behind its mask of %s", maskText(mask))
	}
	return addr, mask, nil
}

func maskText(mask uint32) string {
	if length := bits.LeadingZeros32(^mask); mask == ^uint32(0)<<(32-length) {
		return fmt.Sprintf("/%d", length)
	}
	return netip.AddrFrom4([4]byte{byte(mask >> 24), byte(mask >> 16), byte(mask >> 8), byte(mask)}).String()
}

func (p *parser) address4ID(t token, q qualifiers) (*cond, error) {
	addr, mask, err := p.network(t, q)
	if err != nil {
		return nil, err
	}
	switch q.proto {
	case "ether":
		return nil, p.errorf(t, "not an Ethernet address, like 02:00:5e:00:53:01")
	case "ip6":
		return nil, p.errorf(t, "not an IPv6 address")
	case "ip", "arp", "rarp":
		if p.labels > 0 && q.proto != "ip" {
			return nil, p.errorf(t, "%s is not looked for behind mpls", q.proto)
		}
		return p.address4(q.proto, q.dir, addr, mask), nil
	case "":
		c := p.address4("ip", q.dir, addr, mask)
		if p.labels > 0 {
			return c, nil
		}
		return or(c, p.address4("arp", q.dir, addr, mask), p.address4("rarp", q.dir, addr, mask)), nil
	}
	return nil, p.errorf(t, "%s has no addresses; write %s and host", q.proto, q.proto)
}

func (p *parser) address6ID(t token, q qualifiers) (*cond, error) {
	length := 128
	if slash := p.peek(); slash.is("/") {
		p.take()
		number := p.take()
		if number.kind != tokNumber || number.value > 128 {
			return nil, p.errorf(number, "expected the network's length in bits, up to 128")
		}
		length = int(number.value)
		if q.typ != "net" && length != 128 {
			return nil, p.errorf(slash, "only a network has a mask; write net before it")
		}
	}
	prefix := netip.PrefixFrom(t.addr, length)
	if prefix.Masked().Addr() != t.addr {
		return nil, p.errorf(t, "the network's address has bits set behind its mask of /%d", length)
	}
	switch q.proto {
	case "", "ip6":
		return p.address6(q.dir, prefix), nil
	case "ether":
		return nil, p.errorf(t, "not an Ethernet address, like 02:00:5e:00:53:01")
	case "ip", "arp", "rarp":
		return nil, p.errorf(t, "an IPv6 address; %s has IPv4 addresses", q.proto)
	}
	return nil, p.errorf(t, "%s has no addresses; write %s and host", q.proto, q.proto)
}

func (p *parser) portID(t token, q qualifiers) (*cond, error) {
	if q.proto != "" && q.proto != "tcp" && q.proto != "udp" && q.proto != "sctp" {
		return nil, p.errorf(t, "%s has no ports", q.proto)
	}
	protocol := transports[q.proto].number
	var low, high service
	switch {
	case t.kind == tokNumber:
		low = service{port: t.value}
		high = low
	case t.kind != tokName:
		return nil, p.errorf(t, "an address; expected %s", q.wants())
	case q.typ == "port":
		s, ok := port(t.text)
		if !ok {
			return nil, p.errorf(t, "unknown port; write its number%s", suggest(t.text, services))
		}
		low, high = s, s
	default:
		first, last, _ := strings.Cut(t.text, "-")
		var ok bool
		if low, ok = port(first); ok {
			high, ok = port(last)
		}
		if !ok {
			return nil, p.errorf(t, "expected a range of ports, like 80-90")
		}
		if low.protocol != high.protocol {
			low.protocol = 0
		}
	}
	for _, s := range []service{low, high} {
		if s.port > 65535 {
			return nil, p.errorf(t, "the highest port is 65535")
		}
	}
	if low.port > high.port {
		low.port, high.port = high.port, low.port
	}
	if protocol == 0 {
		protocol = low.protocol
	} else if low.protocol != 0 && low.protocol != protocol {
		return nil, p.errorf(t, "not a port of %s", q.proto)
	}
	return p.ports(low.port, high.port, protocol, q.dir), nil
}

// port is a number, or a name that the table has.
func port(name string) (service, bool) {
	if s, ok := services[name]; ok {
		return s, true
	}
	var n uint32
	for _, c := range []byte(name) {
		if !isDigit(c) || n > 65535 {
			return service{}, false
		}
		n = 10*n + uint32(c-'0')
	}
	return service{port: n}, name != ""
}

func (p *parser) protoID(t token, q qualifiers) (*cond, error) {
	names, kind := ipProtocols, "IP"
	switch q.proto {
	case "", "ip", "ip6":
	case "ether":
		names, kind = etherProtocols, "Ethernet"
	case "iso":
		names, kind = isoProtocols, "ISO"
	default:
		return nil, p.errorf(t, "%s does not carry protocols that can be looked for; write %s[offset]", q.proto, q.proto)
	}
	number := t.value
	switch t.kind {
	case tokNumber:
	case tokName:
		var ok bool
		if number, ok = names[t.text]; !ok {
			return nil, p.errorf(t, "unknown %s protocol; write its number%s", kind, suggest(t.text, names))
		}
	default:
		return nil, p.errorf(t, "an address; expected a protocol")
	}
	switch q.proto {
	case "ip":
		return p.protocol4(number), nil
	case "ip6":
		return p.protocol6(number), nil
	case "iso":
		if p.labels > 0 {
			return nil, p.errorf(t, "iso is not looked for behind mpls")
		}
		return p.iso(number), nil
	case "ether":
		if p.labels > 0 && number != etherIP && number != etherIPv6 {
			return nil, p.errorf(t, "behind mpls, only ip and ip6 are looked for")
		}
		return p.etherType(number), nil
	}
	return or(p.protocol4(number), p.protocol6(number)), nil
}
