// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"fmt"
	"math"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"
)

// Where the registers of classic BPF live. Packets are read with BPF_LD_ABS and BPF_LD_IND: they want the context in R6,
// put the result into R0 in host order, change R1 to R5, and end the function with 0 where the packet ends, which is just what
// classic BPF wants. A is therefore R0, and costs no move. A load takes a third of the time that bpf_skb_load_bytes takes, which
// would also need its result checked and swapped.
const (
	regA   = asm.R0
	regCtx = asm.R6
	regX   = asm.R7
	regTmp = asm.R8
)

// Members of struct __sk_buff, from linux/bpf.h.
var contextOffsets = map[bpf.Extension]int16{
	bpf.ExtLen:            0,
	bpf.ExtType:           4,
	bpf.ExtVLANTagPresent: 20,
	bpf.ExtVLANTag:        24,
	bpf.ExtInterfaceIndex: 40,
}

// maxHeader bounds an IPv4 header's length.
const maxHeader = 60

// A translator turns instructions of classic BPF into those of eBPF, one after the other.
type translator struct {
	out []asm.Instruction
	// targets are the instructions of classic BPF that jumps in out lead to.
	targets map[int]int
	// none is the target for "no match", if an instruction ends the program so.
	none int
	ends bool
}

func translate(classic []bpf.Instruction) asm.Instructions {
	t := &translator{targets: map[int]int{}, none: len(classic)}
	needsA, shortX := liveness(classic), headers(classic)
	starts := make([]int, len(classic)+1)
	t.add(asm.Mov.Reg(regCtx, asm.R1))
	for i, ins := range classic {
		starts[i] = len(t.out)
		t.instruction(i, ins, needsA[i], shortX[i])
	}
	starts[t.none] = len(t.out)
	if t.ends {
		t.add(asm.Mov.Imm32(regA, 0), asm.Return())
	}
	for at, target := range t.targets {
		// Jumps are numbers, not labels, so that the body has no symbols that could be those of the program it is put into.
		t.out[at].Offset = int16(starts[target] - at - 1) //nolint:gosec // at most 4096 instructions become 8 times as many
	}
	return t.out
}

func (t *translator) add(ins ...asm.Instruction) { t.out = append(t.out, ins...) }

// jump adds a jump to an instruction of classic BPF.
func (t *translator) jump(ins asm.Instruction, target int) {
	t.targets[len(t.out)] = target
	t.ends = t.ends || target == t.none
	t.add(ins)
}

func jump32(op asm.JumpOp, k uint32) asm.Instruction {
	return asm.Instruction{
		OpCode: asm.OpCode(asm.Jump32Class).SetJumpOp(op).SetSource(asm.ImmSource), Dst: regA, Constant: int64(int32(k)), //nolint:gosec // bits
	}
}

func jumpX(op asm.JumpOp, k uint32) asm.Instruction {
	ins := jump32(op, k)
	ins.Dst = regX
	return ins
}

func always() asm.Instruction {
	return asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Ja)}
}

var sizes = map[int]asm.Size{1: asm.Byte, 2: asm.Half, 4: asm.Word}

var aluOps = map[bpf.ALUOp]asm.ALUOp{
	bpf.ALUOpAdd: asm.Add, bpf.ALUOpSub: asm.Sub, bpf.ALUOpMul: asm.Mul, bpf.ALUOpDiv: asm.Div, bpf.ALUOpMod: asm.Mod,
	bpf.ALUOpAnd: asm.And, bpf.ALUOpOr: asm.Or, bpf.ALUOpXor: asm.Xor, bpf.ALUOpShiftLeft: asm.LSh, bpf.ALUOpShiftRight: asm.RSh,
}

func (t *translator) instruction(i int, ins bpf.Instruction, needsA, shortX bool) {
	switch ins := ins.(type) {
	case bpf.LoadConstant:
		dst := regA
		if ins.Dst == bpf.RegX {
			dst = regX
		}
		t.add(asm.Mov.Imm32(dst, int32(ins.Val))) //nolint:gosec // bits
	case bpf.LoadAbsolute:
		t.add(asm.LoadAbs(int32(ins.Off), sizes[ins.Size])) //nolint:gosec // the parser refuses offsets above
	case bpf.LoadIndirect:
		// The kernel adds with 32 bits, and has metadata at negative offsets.
		if !shortX || ins.Off > math.MaxInt32-maxHeader {
			t.jump(jumpX(asm.JGT, math.MaxInt32-ins.Off), t.none)
		}
		t.add(asm.LoadInd(regA, regX, int32(ins.Off), sizes[ins.Size])) //nolint:gosec // as above
	case bpf.LoadMemShift:
		if needsA {
			t.add(asm.Mov.Reg32(regTmp, regA))
		}
		t.add(asm.LoadAbs(int32(ins.Off), asm.Byte), asm.And.Imm32(regA, 0xf), asm.LSh.Imm32(regA, 2), asm.Mov.Reg32(regX, regA)) //nolint:gosec // as above
		if needsA {
			t.add(asm.Mov.Reg32(regA, regTmp))
		}
	case bpf.LoadExtension:
		t.add(asm.LoadMem(regA, regCtx, contextOffsets[ins.Num], asm.Word))
	case bpf.LoadScratch:
		dst := regA
		if ins.Dst == bpf.RegX {
			dst = regX
		}
		t.add(asm.LoadMem(dst, asm.RFP, scratchOffset(ins.N), asm.Word))
	case bpf.StoreScratch:
		t.add(asm.StoreMem(asm.RFP, scratchOffset(ins.N), regA, asm.Word))
	case bpf.ALUOpConstant:
		t.add(aluOps[ins.Op].Imm32(regA, int32(ins.Val))) //nolint:gosec // bits
	case bpf.ALUOpX:
		t.aluX(ins.Op)
	case bpf.TAX:
		t.add(asm.Mov.Reg32(regX, regA))
	case bpf.TXA:
		t.add(asm.Mov.Reg32(regA, regX))
	case bpf.Jump:
		t.jump(always(), i+1+int(ins.Skip))
	case bpf.JumpIf:
		t.branch(i, ins.Cond, ins.SkipTrue, ins.SkipFalse, func(op asm.JumpOp) asm.Instruction { return jump32(op, ins.Val) })
	case bpf.JumpIfX:
		t.branch(i, ins.Cond, ins.SkipTrue, ins.SkipFalse, func(op asm.JumpOp) asm.Instruction {
			return asm.Instruction{OpCode: asm.OpCode(asm.Jump32Class).SetJumpOp(op).SetSource(asm.RegSource), Dst: regA, Src: regX}
		})
	case bpf.RetConstant:
		var verdict int32
		if ins.Val != 0 {
			verdict = 1
		}
		t.add(asm.Mov.Imm32(regA, verdict), asm.Return())
	default:
		panic(fmt.Sprintf("filter: our own program has an instruction %T", ins))
	}
}

func scratchOffset(n int) int16 { return int16(-4 * (n + 1)) } //nolint:gosec // 16 words

// aluX computes A op X. eBPF divides by zero without ending, and shifts by the lowest 5 bits only.
func (t *translator) aluX(op bpf.ALUOp) {
	switch op {
	case bpf.ALUOpDiv, bpf.ALUOpMod:
		t.jump(jumpX(asm.JEq, 0), t.none)
	case bpf.ALUOpShiftLeft, bpf.ALUOpShiftRight:
		fits, past := jumpX(asm.JLE, 31), always()
		fits.Offset, past.Offset = 2, 1
		t.add(fits, asm.Mov.Imm32(regA, 0), past)
	}
	t.add(aluOps[op].Reg32(regA, regX))
}

// branch jumps on a condition, with as few instructions as the followers' places allow.
func (t *translator) branch(i int, cond bpf.JumpTest, skipTrue, skipFalse uint8, compare func(asm.JumpOp) asm.Instruction) {
	ops := map[bpf.JumpTest][2]asm.JumpOp{
		bpf.JumpEqual: {asm.JEq, asm.JNE}, bpf.JumpGreaterThan: {asm.JGT, asm.JLE}, bpf.JumpGreaterOrEqual: {asm.JGE, asm.JLT},
		bpf.JumpBitsSet: {asm.JSet, asm.InvalidJumpOp},
	}[cond]
	if skipTrue == 0 && ops[1] != asm.InvalidJumpOp {
		t.jump(compare(ops[1]), i+1+int(skipFalse))
		return
	}
	t.jump(compare(ops[0]), i+1+int(skipTrue))
	if skipFalse != 0 {
		t.jump(always(), i+1+int(skipFalse))
	}
}

// followers calls fn with what may come after an instruction. All are behind it.
func followers(i int, ins bpf.Instruction, fn func(int)) {
	switch ins := ins.(type) {
	case bpf.RetConstant:
	case bpf.Jump:
		fn(i + 1 + int(ins.Skip))
	case bpf.JumpIf:
		fn(i + 1 + int(ins.SkipTrue))
		fn(i + 1 + int(ins.SkipFalse))
	case bpf.JumpIfX:
		fn(i + 1 + int(ins.SkipTrue))
		fn(i + 1 + int(ins.SkipFalse))
	default:
		fn(i + 1)
	}
}

// liveness tells for each instruction whether A is read after it before it is written.
func liveness(classic []bpf.Instruction) []bool {
	after := make([]bool, len(classic))
	before := make([]bool, len(classic)+1)
	for i := len(classic) - 1; i >= 0; i-- {
		followers(i, classic[i], func(next int) { after[i] = after[i] || before[next] })
		switch ins := classic[i].(type) {
		case bpf.LoadAbsolute, bpf.LoadIndirect, bpf.LoadExtension, bpf.TXA, bpf.RetConstant:
			before[i] = false
		case bpf.LoadConstant:
			before[i] = after[i] && ins.Dst != bpf.RegA
		case bpf.LoadScratch:
			before[i] = after[i] && ins.Dst != bpf.RegA
		case bpf.LoadMemShift, bpf.Jump:
			before[i] = after[i]
		default:
			before[i] = true
		}
	}
	return after
}

// headers tells for each instruction whether X has the length of an IPv4 header, whichever way it was reached.
func headers(classic []bpf.Instruction) []bool {
	short := make([]bool, len(classic)+1)
	reached := make([]bool, len(classic)+1)
	for i, ins := range classic {
		after := short[i]
		switch ins := ins.(type) {
		case bpf.LoadMemShift:
			after = true
		case bpf.TAX:
			after = false
		case bpf.LoadConstant:
			after = after && ins.Dst != bpf.RegX
		case bpf.LoadScratch:
			after = after && ins.Dst != bpf.RegX
		}
		followers(i, ins, func(next int) {
			short[next] = after && (short[next] || !reached[next])
			reached[next] = true
		})
	}
	return short
}
