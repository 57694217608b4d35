// SPDX-License-Identifier: Apache-2.0

package filter

import "golang.org/x/net/bpf"

type condKind uint8

const (
	condTest condKind = iota
	condConst
	condNot
	condAnd
	condOr
)

// A cond is a boolean expression over tests. Its operands are evaluated from left to right, and only as far as needed:
// which bytes are looked at decides what becomes of a truncated packet.
type cond struct {
	kind condKind
	t    test
	yes  bool
	a, b *cond
}

func constant(yes bool) *cond { return &cond{kind: condConst, yes: yes} }

func not(c *cond) *cond {
	if c.kind == condNot {
		return c.a
	}
	return &cond{kind: condNot, a: c}
}

// and is all of the conditions; nil ones are left out.
func and(conds ...*cond) *cond { return fold(condAnd, conds) }

// or is any of the conditions.
func or(conds ...*cond) *cond { return fold(condOr, conds) }

func fold(kind condKind, conds []*cond) *cond {
	var all *cond
	for _, c := range conds {
		switch {
		case c == nil:
		case all == nil:
			all = c
		default:
			all = &cond{kind: kind, a: all, b: c}
		}
	}
	return all
}

// check makes a test, in the form that costs the fewest instructions.
func check(op compare, v *value, k uint32) *cond {
	if op == cmpEQ && k == 0 && v.kind == valALU && v.op == bpf.ALUOpAnd && v.b.kind == valImm {
		return not(check(cmpSet, v.a, v.b.k))
	}
	return &cond{t: test{op: op, v: v, k: k}}
}

// comparing makes a test of two values.
func comparing(op compare, v, x *value) *cond {
	switch {
	case x.kind == valImm:
		return check(op, v, x.k)
	case op == cmpEQ && v.kind == valImm:
		return check(op, x, v.k)
	}
	return &cond{t: test{op: op, v: v, x: x}}
}
