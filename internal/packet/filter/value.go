// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"math"

	"golang.org/x/net/bpf"
)

type valueKind uint8

const (
	valImm  valueKind = iota // k
	valLen                   // the packet's length
	valExt                   // the kernel's metadata k, a bpf.Extension
	valLoad                  // size bytes of the packet at k, plus a if there is one
	valMSH                   // 4*(packet[k]&0xf): the length of the IPv4 header at k
	valALU                   // a op b
)

// A value is a 32-bit number that a packet has. Equal values are one pointer, so that they are computed once.
type value struct {
	kind valueKind
	op   bpf.ALUOp
	size uint8
	k    uint32
	a, b *value
}

// values interns values.
type values map[value]*value

func (vs values) get(v value) *value {
	if p := vs[v]; p != nil {
		return p
	}
	p := &v
	vs[v] = p
	return p
}

func (vs values) imm(k uint32) *value { return vs.get(value{kind: valImm, k: k}) }

func (vs values) ext(e bpf.Extension) *value {
	return vs.get(value{kind: valExt, k: uint32(e)}) //nolint:gosec // a small number
}

// load is packet[k+base:size]; base may be nil.
func (vs values) load(k uint32, base *value, size uint8) *value {
	if base != nil && base.kind == valImm {
		return vs.load(k+base.k, nil, size)
	}
	return vs.get(value{kind: valLoad, k: k, a: base, size: size})
}

// msh is the length of the IPv4 header at k.
func (vs values) msh(k uint32) *value { return vs.get(value{kind: valMSH, k: k}) }

// neg is a product, since the virtual machine has no negation.
func (vs values) neg(a *value) *value { return vs.alu(bpf.ALUOpMul, a, vs.imm(math.MaxUint32)) }

// alu computes what it can, like libpcap's optimiser: what does not decide the result is not loaded either. The caller has
// refused division by a constant 0 and shifts by more than 31.
func (vs values) alu(op bpf.ALUOp, a, b *value) *value {
	switch {
	case a.kind == valImm && b.kind == valImm:
		k, _ := compute(op, a.k, b.k)
		return vs.imm(k)
	case b.kind == valImm && b.k == 0:
		switch op {
		case bpf.ALUOpAdd, bpf.ALUOpSub, bpf.ALUOpShiftLeft, bpf.ALUOpShiftRight, bpf.ALUOpOr, bpf.ALUOpXor:
			return a
		case bpf.ALUOpMul, bpf.ALUOpAnd:
			return b
		}
	case a.kind == valImm && a.k == 0:
		switch op {
		case bpf.ALUOpAdd, bpf.ALUOpOr, bpf.ALUOpXor:
			return b
		case bpf.ALUOpMul, bpf.ALUOpDiv, bpf.ALUOpMod, bpf.ALUOpAnd, bpf.ALUOpShiftLeft, bpf.ALUOpShiftRight:
			return a
		}
	}
	return vs.get(value{kind: valALU, op: op, a: a, b: b})
}

// compute is the arithmetic of classic BPF; false for a division by zero.
func compute(op bpf.ALUOp, a, b uint32) (uint32, bool) {
	switch op {
	case bpf.ALUOpAdd:
		return a + b, true
	case bpf.ALUOpSub:
		return a - b, true
	case bpf.ALUOpMul:
		return a * b, true
	case bpf.ALUOpDiv:
		if b == 0 {
			return 0, false
		}
		return a / b, true
	case bpf.ALUOpMod:
		if b == 0 {
			return 0, false
		}
		return a % b, true
	case bpf.ALUOpAnd:
		return a & b, true
	case bpf.ALUOpOr:
		return a | b, true
	case bpf.ALUOpXor:
		return a ^ b, true
	case bpf.ALUOpShiftLeft:
		return a << b, true
	case bpf.ALUOpShiftRight:
		return a >> b, true
	}
	return 0, false
}

type compare uint8

const (
	cmpEQ compare = iota
	cmpGT
	cmpGE
	cmpSet // any bit of k is set
)

// A test compares a value with k, or with x if there is one.
type test struct {
	op   compare
	v, x *value
	k    uint32
}

// decided tells the outcome of a test of constants.
func (t test) decided() (outcome, ok bool) {
	if t.v.kind != valImm || t.x != nil && t.x.kind != valImm {
		return false, false
	}
	k := t.k
	if t.x != nil {
		k = t.x.k
	}
	switch t.op {
	case cmpEQ:
		return t.v.k == k, true
	case cmpGT:
		return t.v.k > k, true
	case cmpGE:
		return t.v.k >= k, true
	default:
		return t.v.k&k != 0, true
	}
}
