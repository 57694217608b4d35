// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ring

import (
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// flags of bpf_ringbuf_submit and bpf_ringbuf_output.
const (
	adaptive    = 0
	noWakeUp    = 1
	forceWakeUp = 2
)

func newRing(tb testing.TB, size int) *ebpf.Map {
	tb.Helper()
	needs.Root(tb)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "ring_test", Type: ebpf.RingBuf, MaxEntries: uint32(size)})
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, m.Close()) })
	return m
}

func newReader(tb testing.TB, m *ebpf.Map) *Reader {
	tb.Helper()
	r, err := NewReader(m)
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, r.Close()) })
	return r
}

// writer is a program that writes one record a run: u64 id, u64 sequence number, and the sequence
// number once more in the last 8 bytes.
type writer struct {
	program *ebpf.Program
	counts  *ebpf.Map // u64 produced, u64 failed
}

type recordSpec struct {
	id    int32
	size  int32 // multiple of 8
	flags int32
	// output copies a record of 24 to 256 bytes, by the sequence number, with bpf_ringbuf_output.
	output bool
	// discardOdd withdraws the records whose sequence number is odd.
	discardOdd bool
}

func newWriter(tb testing.TB, ring *ebpf.Map, spec recordSpec) *writer {
	tb.Helper()
	counts, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "ring_counts", Type: ebpf.Array, KeySize: 4, ValueSize: 16, MaxEntries: 1,
	})
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, counts.Close()) })

	const stack = -264
	code := asm.Instructions{
		asm.StoreImm(asm.RFP, -8, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, counts.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "exit"),
		asm.Mov.Reg(asm.R7, asm.R0),
		// r8 is the sequence number. One run at a time: the tests give each writer one goroutine.
		asm.LoadMem(asm.R8, asm.R7, 0, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R7, 0, asm.R1, asm.DWord),
	}
	if spec.output {
		// r9 is the size: 24 to 248, and no multiple of 8 in most cases.
		code = append(code,
			asm.Mov.Reg(asm.R9, asm.R8),
			asm.Mul.Imm(asm.R9, 13),
			asm.And.Imm(asm.R9, 127),
			asm.Add.Imm(asm.R9, 24),
		)
		for offset := int16(stack); offset < -8; offset += 8 {
			code = append(code, asm.StoreMem(asm.RFP, offset, asm.R8, asm.DWord))
		}
		code = append(code,
			asm.Mov.Imm(asm.R1, spec.id),
			asm.StoreMem(asm.RFP, stack, asm.R1, asm.DWord),
			asm.LoadMapPtr(asm.R1, ring.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, stack),
			asm.Mov.Reg(asm.R3, asm.R9),
			asm.Mov.Imm(asm.R4, spec.flags),
			asm.FnRingbufOutput.Call(),
			asm.JEq.Imm(asm.R0, 0, "exit"),
			asm.Ja.Label("failed"),
		)
	} else {
		code = append(code,
			asm.LoadMapPtr(asm.R1, ring.FD()),
			asm.Mov.Imm(asm.R2, spec.size),
			asm.Mov.Imm(asm.R3, 0),
			asm.FnRingbufReserve.Call(),
			asm.JEq.Imm(asm.R0, 0, "failed"),
			asm.Mov.Imm(asm.R1, spec.id),
			asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
			asm.StoreMem(asm.R0, 8, asm.R8, asm.DWord),
			asm.StoreMem(asm.R0, int16(spec.size-8), asm.R8, asm.DWord),
			asm.Mov.Reg(asm.R1, asm.R0),
			asm.Mov.Imm(asm.R2, spec.flags),
		)
		if spec.discardOdd {
			code = append(code,
				asm.And.Imm(asm.R8, 1),
				asm.JEq.Imm(asm.R8, 0, "submit"),
				asm.FnRingbufDiscard.Call(),
				asm.Ja.Label("exit"),
			)
		}
		code = append(code,
			asm.FnRingbufSubmit.Call().WithSymbol("submit"),
			asm.Ja.Label("exit"),
		)
	}
	code = append(code,
		asm.LoadMem(asm.R1, asm.R7, 8, asm.DWord).WithSymbol("failed"),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R7, 8, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("exit"),
		asm.Return(),
	)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "ring_writer", Type: ebpf.SocketFilter, Instructions: code, License: "Dual BSD/GPL",
	})
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, program.Close()) })
	return &writer{program: program, counts: counts}
}

// run runs the program at least n times: a signal, which Go's runtime sends, makes the kernel begin
// anew. What the program counted is the truth.
func (w *writer) run(tb testing.TB, n int) {
	if _, err := w.program.Run(&ebpf.RunOptions{Data: make([]byte, 14), Repeat: uint32(n)}); err != nil {
		tb.Errorf("run the writer: %v", err)
	}
}

func (w *writer) counted(tb testing.TB) (produced, failed uint64) {
	tb.Helper()
	var v [2]uint64
	require.NoError(tb, w.counts.Lookup(uint32(0), &v))
	return v[0], v[1]
}

func word(record []byte, offset int) uint64 { return binary.NativeEndian.Uint64(record[offset:]) }
