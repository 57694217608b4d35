// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"math"
	"slices"

	"golang.org/x/net/bpf"
)

// packetOutgoing is PACKET_OUTGOING of linux/if_packet.h.
const packetOutgoing = 4

// abbreviation is a protocol's name alone.
func (p *parser) abbreviation(t token, proto string) (*cond, error) {
	if _, ok := transports[proto]; ok {
		return p.transport(proto), nil
	}
	number, ok := etherProtocols[proto]
	if !ok {
		return nil, p.errorf(t, "expected host, proto, broadcast, multicast or [ after %s", t.word)
	}
	if p.labels > 0 && number != etherIP && number != etherIPv6 {
		return nil, p.errorf(t, "%s is not looked for behind mpls", proto)
	}
	return p.etherType(number), nil
}

// cast is broadcast or multicast, of Ethernet, IPv4 or IPv6.
func (p *parser) cast(t token, proto string) (*cond, error) {
	word := p.take()
	multicast := word.is("multicast")
	switch {
	case proto == "" || proto == "ether":
		if p.link != linkEthernet {
			return p.ofEthernet(word, "only Ethernet has %s addresses; write ip %s or ip6 %s", word.text, word.text, word.text)
		}
		if multicast {
			return check(cmpSet, p.load(p.header, nil, 1), 1), nil
		}
		return p.mac("dst", [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}), nil
	case proto == "ip" && multicast:
		return and(p.version4(), check(cmpGE, p.field(16, 1), 224)), nil
	case proto == "ip6" && multicast:
		return and(p.version6(), check(cmpEQ, p.field(24, 1), 255)), nil
	case proto == "ip":
		return nil, p.errorf(t, "ip broadcast needs a netmask, which is not known here; write dst host and the address, or ether broadcast")
	}
	return nil, p.errorf(t, "%s has no %s", proto, word.text)
}

// other is a word that takes no qualifiers.
func (p *parser) other() (*cond, error) {
	t := p.take()
	switch t.text {
	case "less", "greater":
		n, err := p.number("a length")
		if err != nil {
			return nil, err
		}
		length := p.get(value{kind: valLen})
		if t.text == "less" {
			return not(check(cmpGT, length, n)), nil
		}
		return check(cmpGE, length, n), nil
	case "byte":
		return p.byteOp()
	case "inbound", "outbound":
		c := check(cmpEQ, p.ext(bpf.ExtType), packetOutgoing)
		if t.text == "inbound" {
			c = not(c)
		}
		return c, nil
	case "ifindex":
		n, err := p.number("an interface's index")
		if err != nil {
			return nil, err
		}
		return check(cmpEQ, p.ext(bpf.ExtInterfaceIndex), n), nil
	case "pppoed":
		if p.labels > 0 {
			return nil, p.errorf(t, "pppoed is not looked for behind mpls")
		}
		return p.etherType(etherPPPoED), nil
	case "vlan", "mpls", "pppoes":
		return p.tag(t)
	}
	return nil, p.unexpected(t, "an expression")
}

// byteOp is "byte offset op number". libpcap forgets to load the byte for & and |.
func (p *parser) byteOp() (*cond, error) {
	offset, err := p.number("an offset")
	if err != nil {
		return nil, err
	}
	op := p.take()
	if !op.is("=") && !op.is("<") && !op.is(">") {
		if op.is("&") || op.is("|") {
			return nil, p.errorf(op, "not supported here; write ether[%d] %s ...", offset, op.text)
		}
		return nil, p.unexpected(op, "=, < or >")
	}
	n, err := p.number("a number")
	if err != nil {
		return nil, err
	}
	if uint64(offset)+uint64(p.header) > math.MaxInt32 {
		return nil, p.errorf(op, "the offset is outside of any packet")
	}
	v := p.load(p.header+offset, nil, 1)
	switch op.text {
	case "<":
		return not(check(cmpGE, v, n)), nil
	case ">":
		return check(cmpGT, v, n), nil
	}
	return check(cmpEQ, v, n), nil
}

// ofEthernet is for what has no answer without Ethernet's header.
func (p *parser) ofEthernet(t token, format string, args ...any) (*cond, error) {
	if p.link == linkRaw && p.besideEthernet {
		return constant(false), nil
	}
	return nil, p.errorf(t, format, args...)
}

// tag is vlan, mpls or pppoes, which move what follows in the expression.
func (p *parser) tag(t token) (*cond, error) {
	switch {
	case p.link == linkPPP && t.text == "vlan":
		return nil, p.errorf(t, "vlan is not looked for behind pppoes")
	case p.labels > 0 && t.text != "mpls":
		return nil, p.errorf(t, "%s is not looked for behind mpls", t.text)
	}
	limit := map[string]uint32{"vlan": 4095, "mpls": 1<<20 - 1, "pppoes": 65535}[t.text]
	id := int64(-1)
	n := 0
	for p.peekAt(n).is("(") {
		n++
	}
	if p.peekAt(n).kind == tokNumber {
		number, err := p.number("")
		if err != nil {
			return nil, err
		}
		if number > limit {
			return nil, p.errorf(p.tokens[p.pos-1], "the highest number of %s is %d", t.text, limit)
		}
		id = int64(number)
	}
	switch {
	case p.link == linkRaw && t.text != "pppoes":
		return p.ofEthernet(t, "only Ethernet frames have %s", t.text)
	case t.text == "vlan":
		return p.vlan(id), nil
	case t.text == "mpls":
		return p.mpls(id), nil
	}
	return p.pppoes(id), nil
}

// number reads a number, which may stand in parentheses.
func (p *parser) number(what string) (uint32, error) {
	open := 0
	for p.accept("(") {
		open++
	}
	t := p.take()
	if t.kind != tokNumber {
		return 0, p.unexpected(t, what)
	}
	for range open {
		if !p.accept(")") {
			return 0, p.unexpected(p.peek(), ")")
		}
	}
	return t.value, nil
}

// unexpected says what a token is, and what should have been there.
func (p *parser) unexpected(t token, expected string) error {
	switch {
	case t.kind == tokKeyword && unsupported[t.text]:
		return p.errorf(t, "not supported: it is for other kinds of links, or looks into other encapsulations")
	case t.kind == tokName:
		message := "unknown word"
		if other := closest(t.text, keywords); other != "" {
			message += "; did you mean " + other + "?"
		}
		return p.errorf(t, "%s", message)
	}
	return p.errorf(t, "expected %s", expected)
}

// withoutQualifier is what stands where nothing says what it is.
func (p *parser) withoutQualifier(t token) error {
	switch t.kind {
	case tokName:
		return p.unexpected(t, "")
	case tokNumber:
		return p.errorf(t, "a number alone; write what it is before it, like port or net")
	case tokMAC:
		return p.errorf(t, "an Ethernet address; write ether host before it")
	}
	return p.errorf(t, "an address alone; write host or net before it")
}

// afterProtocol is what may not follow a protocol's name.
func (p *parser) afterProtocol(proto string, t token) error {
	switch t.kind {
	case tokName:
		return p.unexpected(t, "")
	case tokOp:
		return p.errorf(t, "expected a qualifier, and, or, or [ after %s", proto)
	}
	return p.errorf(t, "expected host, net, port, proto or the like after %s", proto)
}

// suggest ends a message with the name in a table that is closest to one that is not.
func suggest[V any](name string, table map[string]V) string {
	if other := closest(name, table); other != "" {
		return ", or " + other + "?"
	}
	return ""
}

// closest is the name in a table that one or two typing errors turn into another; ties go to the first in order.
func closest[V any](name string, table map[string]V) string {
	best, distance := "", 3
	if len(name) <= 3 {
		distance = 2
	}
	if len(name) > 32 {
		return ""
	}
	candidates := make([]string, 0, len(table))
	for other := range table {
		candidates = append(candidates, other)
	}
	slices.Sort(candidates)
	for _, other := range candidates {
		if unsupported[other] {
			continue
		}
		if d := typos(name, other); d < distance {
			best, distance = other, d
		}
	}
	return best
}

// typos is the number of letters that were left out, added, mistaken or swapped (the optimal string alignment distance).
func typos(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
