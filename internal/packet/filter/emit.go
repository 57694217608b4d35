// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"errors"
	"math"

	"golang.org/x/net/bpf"
)

const (
	// maxInstructions is BPF_MAXINSNS of linux/bpf_common.h.
	maxInstructions = 4096
	// scratch is the number of words that classic BPF can store.
	scratch = 16
	// accept is what a match returns: the number of bytes that a socket would keep, as libpcap has it.
	accept = 262144
)

var (
	errTooLong    = errors.New("the expression needs more than 4096 instructions")
	errTooComplex = errors.New("the arithmetic needs more than 16 words of scratch memory")
)

// registers is what is known to be in A and X.
type registers struct{ a, x *value }

// A block is the code of one node: it ends with a jump or a return.
type block struct {
	node  *node
	code  []bpf.Instruction
	start int
	// farYes and farNo are set where a follower is too far for a conditional jump, and is jumped to by an instruction of its own.
	farYes, farNo bool
}

type emitter struct {
	code []bpf.Instruction
	regs registers
	mem  int // words of scratch memory in use
}

// emit makes a program of a graph.
func emit(root *node) ([]bpf.Instruction, error) {
	nodes := order(root)
	blocks := make([]*block, len(nodes))
	index := make(map[*node]int, len(nodes))
	entry := map[*node]registers{root: {}}
	for i, n := range nodes {
		e := &emitter{regs: entry[n]}
		if n.terminal {
			var size uint32
			if n.verdict {
				size = accept
			}
			e.code = append(e.code, bpf.RetConstant{Val: size})
		} else {
			if err := e.test(n.t); err != nil {
				return nil, err
			}
			for _, to := range []*node{n.yes, n.no} {
				regs, ok := entry[to]
				if !ok {
					regs = e.regs
				}
				if regs.a != e.regs.a {
					regs.a = nil
				}
				if regs.x != e.regs.x {
					regs.x = nil
				}
				entry[to] = regs
			}
		}
		blocks[i] = &block{node: n, code: e.code}
		index[n] = i
	}
	return link(blocks, index)
}

// link puts blocks one behind the other, and fills in the jumps. They only lead forward, over 255 instructions at most unless they
// are unconditional.
func link(blocks []*block, index map[*node]int) ([]bpf.Instruction, error) {
	for {
		at := 0
		for _, b := range blocks {
			b.start = at
			at += len(b.code)
			if !b.node.terminal {
				at++
			}
			for _, far := range []bool{b.farYes, b.farNo} {
				if far {
					at++
				}
			}
		}
		if at > maxInstructions {
			return nil, errTooLong
		}
		changed := false
		program := make([]bpf.Instruction, 0, at)
		for _, b := range blocks {
			program = append(program, b.code...)
			if b.node.terminal {
				continue
			}
			yes, no := blocks[index[b.node.yes]].start, blocks[index[b.node.no]].start
			from := len(program) + 1
			skipYes, skipNo := yes-from, no-from
			var far []bpf.Instruction
			if b.farYes {
				skipYes = len(far)
				far = append(far, bpf.Jump{Skip: uint32(yes - from - skipYes - 1)}) //nolint:gosec // forward
			}
			if b.farNo {
				skipNo = len(far)
				far = append(far, bpf.Jump{Skip: uint32(no - from - skipNo - 1)}) //nolint:gosec // forward
			}
			if skipYes > math.MaxUint8 {
				b.farYes, changed = true, true
			}
			if skipNo > math.MaxUint8 {
				b.farNo, changed = true, true
			}
			program = append(program, jump(b.node.t, uint8(skipYes), uint8(skipNo))) //nolint:gosec // checked above
			program = append(program, far...)
		}
		if !changed {
			return program, nil
		}
	}
}

func jump(t test, yes, no uint8) bpf.Instruction {
	op := map[compare]bpf.JumpTest{cmpEQ: bpf.JumpEqual, cmpGT: bpf.JumpGreaterThan, cmpGE: bpf.JumpGreaterOrEqual, cmpSet: bpf.JumpBitsSet}[t.op]
	if t.x != nil {
		return bpf.JumpIfX{Cond: op, SkipTrue: yes, SkipFalse: no}
	}
	return bpf.JumpIf{Cond: op, Val: t.k, SkipTrue: yes, SkipFalse: no}
}

func (e *emitter) add(i bpf.Instruction) { e.code = append(e.code, i) }

// test brings the operands of a test into A and X.
func (e *emitter) test(t test) error {
	if t.x == nil {
		return e.intoA(t.v)
	}
	return e.both(t.v, t.x)
}

// intoA computes a value.
func (e *emitter) intoA(v *value) error {
	if e.regs.a == v {
		return nil
	}
	switch v.kind {
	case valImm:
		e.add(bpf.LoadConstant{Dst: bpf.RegA, Val: v.k})
	case valLen:
		e.add(bpf.LoadExtension{Num: bpf.ExtLen})
	case valExt:
		e.add(bpf.LoadExtension{Num: bpf.Extension(v.k)})
	case valMSH:
		e.lengthIntoX(v)
		e.add(bpf.TXA{})
	case valLoad:
		switch {
		case v.a == nil:
			e.add(bpf.LoadAbsolute{Off: v.k, Size: int(v.size)})
		case v.a.kind == valMSH:
			e.lengthIntoX(v.a)
			e.add(bpf.LoadIndirect{Off: v.k, Size: int(v.size)})
		default:
			if err := e.intoA(v.a); err != nil {
				return err
			}
			e.add(bpf.TAX{})
			e.regs.x = v.a
			e.add(bpf.LoadIndirect{Off: v.k, Size: int(v.size)})
		}
	case valALU:
		if v.b.kind == valImm {
			if err := e.intoA(v.a); err != nil {
				return err
			}
			e.add(bpf.ALUOpConstant{Op: v.op, Val: v.b.k})
			break
		}
		if err := e.both(v.a, v.b); err != nil {
			return err
		}
		e.add(bpf.ALUOpX{Op: v.op})
	}
	e.regs.a = v
	return nil
}

// lengthIntoX loads X with the length of an IPv4 header.
func (e *emitter) lengthIntoX(v *value) {
	if e.regs.x != v {
		e.add(bpf.LoadMemShift{Off: v.k})
		e.regs.x = v
	}
}

// both computes two values, into A and X.
func (e *emitter) both(a, x *value) error {
	switch {
	case x.kind == valMSH:
		if err := e.intoA(a); err != nil {
			return err
		}
		e.lengthIntoX(x)
		return nil
	case !a.usesX():
		if e.regs.x != x {
			if err := e.intoA(x); err != nil {
				return err
			}
			e.add(bpf.TAX{})
			e.regs.x = x
		}
		return e.intoA(a)
	}
	// The operand that needs more scratch memory comes first, so that sums of any length need one word.
	first, second := x, a
	if a.words() > x.words() {
		first, second = a, x
	}
	if err := e.intoA(first); err != nil {
		return err
	}
	if e.mem == scratch {
		return errTooComplex
	}
	word := e.mem
	e.mem++
	e.add(bpf.StoreScratch{Src: bpf.RegA, N: word})
	if err := e.intoA(second); err != nil {
		return err
	}
	e.mem--
	if first == x {
		e.add(bpf.LoadScratch{Dst: bpf.RegX, N: word})
	} else {
		e.add(bpf.TAX{})
		e.add(bpf.LoadScratch{Dst: bpf.RegA, N: word})
		e.regs.a = a
	}
	e.regs.x = x
	return nil
}

// words is the number of words of scratch memory that computing a value takes.
func (v *value) words() int {
	switch {
	case v.kind == valLoad && v.a != nil && v.a.kind != valMSH:
		return v.a.words()
	case v.kind != valALU:
		return 0
	case v.b.kind == valImm || v.b.kind == valMSH:
		return v.a.words()
	case !v.a.usesX():
		return v.b.words()
	}
	a, b := v.a.words(), v.b.words()
	if a == b {
		return a + 1
	}
	return max(a, b)
}

// usesX tells whether computing a value changes X.
func (v *value) usesX() bool {
	switch v.kind {
	case valMSH:
		return true
	case valLoad:
		return v.a != nil
	case valALU:
		return v.b.kind != valImm || v.a.usesX()
	}
	return false
}
