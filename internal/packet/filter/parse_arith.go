// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"math"

	"golang.org/x/net/bpf"
)

// An operand of arithmetic has a value, and a condition under which it means something: that the protocol is there.
type operand struct {
	v *value
	c *cond // may be nil
}

// relationAhead tells whether arithmetic and a comparison stand here, where "(" and numbers can also begin something else.
func (p *parser) relationAhead() bool {
	pos, depth := p.pos, p.depth
	defer func() { p.pos, p.depth = pos, depth }()
	if _, err := p.arithmetic(0); err != nil {
		return false
	}
	_, _, ok := p.peek().relation()
	return ok
}

// relation is the comparison that an operator means: not(op) for the three that classic BPF does not have.
func (t token) relation() (op compare, inverse, ok bool) {
	if t.kind != tokOp {
		return 0, false, false
	}
	switch t.text {
	case ">":
		return cmpGT, false, true
	case ">=":
		return cmpGE, false, true
	case "=":
		return cmpEQ, false, true
	case "<=":
		return cmpGT, true, true
	case "<":
		return cmpGE, true, true
	case "!=":
		return cmpEQ, true, true
	}
	return 0, false, false
}

// operates tells whether a token behind a number says that it is arithmetic, even if a mistake follows.
func (t token) operates() bool {
	_, ok := precedences[t.text]
	_, _, compares := t.relation()
	return t.kind == tokOp && ok || compares
}

// relation reads "arithmetic op arithmetic". If a protocol that it looks into is not there, it is false, whatever the operator.
func (p *parser) relation() (*cond, error) {
	left, err := p.arithmetic(0)
	if err != nil {
		return nil, err
	}
	t := p.take()
	op, inverse, ok := t.relation()
	if !ok {
		return nil, p.unexpected(t, "a comparison, like = or >")
	}
	right, err := p.arithmetic(0)
	if err != nil {
		return nil, err
	}
	c := comparing(op, left.v, right.v)
	if inverse {
		c = not(c)
	}
	return and(left.c, right.c, c), nil
}

// precedences of operators. As in libpcap's grammar, "%" and "^" have none: what stands right of one is its operand as far as
// it goes, and they take what stands left of them from any other operator.
var precedences = map[string]int{"|": 1, "&": 2, "<<": 3, ">>": 3, "+": 4, "-": 4, "*": 5, "/": 5, "%": 0, "^": 0}

const precedenceMinus = 6

var operators = map[string]bpf.ALUOp{
	"+": bpf.ALUOpAdd, "-": bpf.ALUOpSub, "*": bpf.ALUOpMul, "/": bpf.ALUOpDiv, "%": bpf.ALUOpMod,
	"&": bpf.ALUOpAnd, "|": bpf.ALUOpOr, "^": bpf.ALUOpXor, "<<": bpf.ALUOpShiftLeft, ">>": bpf.ALUOpShiftRight,
}

func (p *parser) arithmetic(least int) (operand, error) {
	if p.depth++; p.depth > maxDepth {
		return operand{}, p.errorf(p.peek(), "nested too deeply")
	}
	defer func() { p.depth-- }()
	left, err := p.factor()
	for err == nil {
		t := p.peek()
		precedence, ok := precedences[t.text]
		if !ok || t.kind != tokOp || precedence > 0 && precedence < least {
			return left, nil
		}
		p.take()
		next := precedence + 1
		if precedence == 0 {
			next = 0
		}
		var right operand
		if right, err = p.arithmetic(next); err == nil {
			left, err = p.compute(t, left, right)
		}
	}
	return left, err
}

func (p *parser) compute(t token, left, right operand) (operand, error) {
	op := operators[t.text]
	if right.v.kind == valImm {
		switch op {
		case bpf.ALUOpDiv, bpf.ALUOpMod:
			if right.v.k == 0 {
				return left, p.errorf(t, "division by zero")
			}
		case bpf.ALUOpShiftLeft, bpf.ALUOpShiftRight:
			if right.v.k > 31 {
				return left, p.errorf(t, "shift by more than 31 bits")
			}
		}
	}
	return operand{p.alu(op, left.v, right.v), and(left.c, right.c)}, nil
}

func (p *parser) factor() (operand, error) {
	t := p.take()
	switch {
	case t.kind == tokNumber:
		return operand{v: p.imm(t.value)}, nil
	case t.is("len"):
		return operand{v: p.get(value{kind: valLen})}, nil
	case t.is("-"):
		o, err := p.arithmetic(precedenceMinus)
		if err != nil {
			return o, err
		}
		return operand{p.neg(o.v), o.c}, nil
	case t.is("("):
		o, err := p.arithmetic(0)
		if err == nil && !p.accept(")") {
			err = p.unexpected(p.peek(), "an operator or )")
		}
		return o, err
	case t.kind == tokKeyword && protocolWords[t.text]:
		if !p.accept("[") {
			return operand{}, p.errorf(p.peek(), "expected [ after %s", t.text)
		}
		return p.accessor(t)
	case t.kind == tokName:
		return operand{}, p.errorf(t, "unknown word in arithmetic; a minus needs a blank before it, and names of ports are not numbers")
	}
	return operand{}, p.unexpected(t, "a number or an accessor, like tcp[13]")
}

// accessor reads the rest of "proto[offset]" or "proto[offset:size]".
func (p *parser) accessor(t token) (operand, error) {
	index, err := p.arithmetic(0)
	if err != nil {
		return operand{}, err
	}
	size := uint8(1)
	if p.accept(":") {
		n := p.take()
		if n.kind != tokNumber || n.value != 1 && n.value != 2 && n.value != 4 {
			return operand{}, p.errorf(n, "expected a size of 1, 2 or 4 bytes")
		}
		size = uint8(n.value)
	}
	if !p.accept("]") {
		return operand{}, p.unexpected(p.peek(), "] or :size")
	}
	start := p.payload + p.net
	var base *value
	var c *cond
	switch t.text {
	case "ether":
		start, c = p.header, index.c
	case "ip", "arp", "rarp", "atalk", "decnet", "sca", "lat", "moprc", "mopdl", "ip6":
		if p.labels > 0 && t.text != "ip" && t.text != "ip6" {
			return operand{}, p.errorf(t, "%s is not looked for behind mpls", t.text)
		}
		c = and(index.c, p.etherType(etherProtocols[t.text]))
	case "sctp", "tcp", "udp", "icmp", "igmp", "igrp", "pim", "vrrp", "carp":
		// IPv4 alone, and not a later fragment, which has no such header.
		base = p.msh(start)
		c = and(p.version4(), index.c, p.transport(t.text), p.firstFragment())
	case "icmp6":
		c = and(index.c, p.version6(), check(cmpEQ, p.field(6, 1), protoICMPv6))
		start += 40
	default:
		return operand{}, p.errorf(t, "%s cannot be looked into; write ip[...] or ether[...]", t.text)
	}
	if index.v.kind != valImm {
		if base == nil {
			base = index.v
		} else {
			base = p.alu(bpf.ALUOpAdd, index.v, base)
		}
	} else {
		start += index.v.k
		if start > math.MaxInt32 {
			return operand{}, p.errorf(t, "the offset is outside of any packet")
		}
	}
	return operand{p.load(start, base, size), c}, nil
}
