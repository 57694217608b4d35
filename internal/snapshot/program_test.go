// SPDX-License-Identifier: Apache-2.0

//go:build linux

package snapshot

import (
	"encoding/binary"
	"sync"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// cell is the value of the maps that the test's program writes: weight is always 3 times count.
type cell struct{ Count, Weight uint64 }

func (c cell) add(d cell) cell { return cell{c.Count + d.Count, c.Weight + d.Weight} }

func newMap(tb testing.TB, spec *ebpf.MapSpec) *ebpf.Map {
	tb.Helper()
	needs.Root(tb)
	m, err := ebpf.NewMap(spec)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = m.Close() })
	return m
}

// counters is a map whose rows a program counts up: a plain one, or one as SWAPPED_MAP of
// bpf/include/map.h makes it.
type counters struct {
	plain    *ebpf.Map
	outer    *ebpf.Map
	inner    [2]*ebpf.Map
	overflow *ebpf.Map
	produced *ebpf.Map // the truth: what the program counted, apart from the rows
	program  *ebpf.Program
}

// newSwapped has keys of 4 bytes below keys, a power of two.
func newSwapped(tb testing.TB, typ ebpf.MapType, entries, keys int) *counters {
	tb.Helper()
	c := &counters{}
	spec := &ebpf.MapSpec{Name: "inner", Type: typ, KeySize: 4, ValueSize: 16, MaxEntries: uint32(entries)}
	c.inner = [2]*ebpf.Map{newMap(tb, spec), newMap(tb, spec)}
	c.outer = newMap(tb, &ebpf.MapSpec{
		Name: "outer", Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: spec,
		Contents: []ebpf.MapKV{{Key: uint32(0), Value: c.inner[0]}},
	})
	c.overflow = newMap(tb, &ebpf.MapSpec{Name: "overflow", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 16, MaxEntries: 1})
	c.load(tb, keys)
	return c
}

func newPlain(tb testing.TB, typ ebpf.MapType, entries, keys int) *counters {
	tb.Helper()
	c := &counters{plain: newMap(tb, &ebpf.MapSpec{
		Name: "plain", Type: typ, KeySize: 4, ValueSize: 16, MaxEntries: uint32(entries),
	})}
	c.load(tb, keys)
	return c
}

// load makes the program. A run adds {1, 3} to the row of a random key, which it finds as the C macro
// does: looked up, made, or the overflow cell. Additions are atomic, since runs of
// several goroutines may preempt one another also on one CPU.
func (c *counters) load(tb testing.TB, keys int) {
	tb.Helper()
	c.produced = newMap(tb, &ebpf.MapSpec{Name: "produced", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	const key, slot, zero = -4, -8, -24
	pointer := func(r asm.Register, offset int32) asm.Instructions {
		return asm.Instructions{asm.Mov.Reg(r, asm.RFP), asm.Add.Imm(r, offset)}
	}
	var code asm.Instructions
	add := func(parts ...any) {
		for _, part := range parts {
			switch part := part.(type) {
			case asm.Instruction:
				code = append(code, part)
			case asm.Instructions:
				code = append(code, part...)
			}
		}
	}
	add(
		asm.FnGetPrandomU32.Call(),
		asm.And.Imm(asm.R0, int32(keys-1)),
		asm.StoreMem(asm.RFP, key, asm.R0, asm.Word),
		asm.Mov.Imm(asm.R0, 0),
		asm.StoreMem(asm.RFP, slot, asm.R0, asm.Word),
		asm.StoreMem(asm.RFP, zero, asm.R0, asm.DWord),
		asm.StoreMem(asm.RFP, zero+8, asm.R0, asm.DWord),
	)
	if c.plain != nil {
		add(asm.LoadMapPtr(asm.R7, c.plain.FD()))
	} else {
		add(
			asm.LoadMapPtr(asm.R1, c.outer.FD()), pointer(asm.R2, slot), asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "overflow"),
			asm.Mov.Reg(asm.R7, asm.R0),
		)
	}
	add(asm.Mov.Reg(asm.R1, asm.R7), pointer(asm.R2, key), asm.FnMapLookupElem.Call(), asm.JNE.Imm(asm.R0, 0, "found"))
	if c.plain == nil || c.plain.Type() == ebpf.Hash || c.plain.Type() == ebpf.PerCPUHash {
		add(
			asm.Mov.Reg(asm.R1, asm.R7), pointer(asm.R2, key), pointer(asm.R3, zero),
			asm.Mov.Imm(asm.R4, unix.BPF_NOEXIST), asm.FnMapUpdateElem.Call(),
			asm.Mov.Reg(asm.R1, asm.R7), pointer(asm.R2, key), asm.FnMapLookupElem.Call(),
			asm.JNE.Imm(asm.R0, 0, "found"),
		)
	}
	if c.overflow != nil {
		add(
			asm.LoadMapPtr(asm.R1, c.overflow.FD()).WithSymbol("overflow"),
			pointer(asm.R2, slot), asm.FnMapLookupElem.Call(),
			asm.JNE.Imm(asm.R0, 0, "found"),
		)
	}
	add(
		asm.Ja.Label("exit"),
		asm.Mov.Imm(asm.R1, 1).WithSymbol("found"),
		asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0),
		asm.Mov.Imm(asm.R1, 3),
		asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 8),
		asm.LoadMapPtr(asm.R1, c.produced.FD()), pointer(asm.R2, slot), asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "exit"),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("exit"),
		asm.Return(),
	)
	var err error
	c.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "count", Type: ebpf.SocketFilter, Instructions: code, License: "Dual BSD/GPL",
	})
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, c.program.Close()) })
}

// run runs the program at least n times; a signal, which Go's runtime sends, makes the kernel begin anew.
func (c *counters) run(tb testing.TB, n int) {
	if _, err := c.program.Run(&ebpf.RunOptions{Data: make([]byte, 14), Repeat: uint32(n)}); err != nil {
		tb.Errorf("run the program: %v", err)
	}
}

// storm runs the program in three goroutines, beside each other, until stop is called. stop returns
// when they have ended.
func (c *counters) storm(tb testing.TB) (stop func()) {
	stopped := make(chan struct{})
	var running sync.WaitGroup
	for range 3 {
		running.Go(func() {
			for {
				select {
				case <-stopped:
					return
				default:
					c.run(tb, 1000)
				}
			}
		})
	}
	return sync.OnceFunc(func() {
		close(stopped)
		running.Wait()
	})
}

func (c *counters) total(tb testing.TB) uint64 {
	tb.Helper()
	var total uint64
	require.NoError(tb, c.produced.Lookup(uint32(0), &total))
	return total
}

func (c *counters) table(tb testing.TB, opts ...Option) Table {
	tb.Helper()
	var table Table
	var err error
	if c.plain != nil {
		table, err = NewPlain(c.plain, opts...)
	} else {
		table, err = NewSwapped(c.outer, c.inner, c.overflow, opts...)
	}
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, table.Close()) })
	return table
}

// content is what rows add up to.
type content struct {
	rows     map[uint32]cell
	overflow cell
}

func newContent() *content { return &content{rows: map[uint32]cell{}} }

func decode(value []byte) cell {
	return cell{binary.NativeEndian.Uint64(value), binary.NativeEndian.Uint64(value[8:])}
}

func (c *content) add(r Rows) {
	for i := range r.N {
		if r.Overflow {
			c.overflow = c.overflow.add(decode(r.Value(i)))
			continue
		}
		key := binary.NativeEndian.Uint32(r.Key(i))
		c.rows[key] = c.rows[key].add(decode(r.Value(i)))
	}
}

func (c *content) sum() cell {
	sum := c.overflow
	for _, v := range c.rows {
		sum = sum.add(v)
	}
	return sum
}

// oracle is the content of a map as cilium/ebpf's own iterator sees it.
func oracle(tb testing.TB, m *ebpf.Map) map[uint32]cell {
	tb.Helper()
	rows := map[uint32]cell{}
	entries := m.Iterate()
	var key uint32
	if m.Type() == ebpf.Hash || m.Type() == ebpf.Array {
		var value cell
		for entries.Next(&key, &value) {
			rows[key] = value
		}
	} else {
		var values []cell
		for entries.Next(&key, &values) {
			for _, v := range values {
				rows[key] = rows[key].add(v)
			}
		}
	}
	require.NoError(tb, entries.Err())
	return rows
}

// fillRows puts n rows into a hash with values of 16 bytes.
func fillRows(tb testing.TB, m *ebpf.Map, n int) {
	tb.Helper()
	cpus := 1
	if m.Type() == ebpf.PerCPUHash {
		var err error
		cpus, err = ebpf.PossibleCPU()
		require.NoError(tb, err)
	}
	const step = 10_000
	keys := make([]uint32, 0, step)
	values := make([]cell, 0, step*cpus)
	for from := 0; from < n; from += step {
		keys, values = keys[:0], values[:0]
		for key := from; key < min(from+step, n); key++ {
			keys = append(keys, uint32(key))
			for cpu := range cpus {
				values = append(values, cell{uint64(key), uint64(cpu + 1)})
			}
		}
		done, err := m.BatchUpdate(keys, values, nil)
		require.NoError(tb, err)
		require.Equal(tb, len(keys), done)
	}
}

// intercept makes a table call sys, which may answer in the kernel's place, or call it.
func intercept(sys func(cmd int, kernel func() unix.Errno, batch *batchAttr) unix.Errno) Option {
	return func(o *options) {
		o.sys = func(cmd int, attr unsafe.Pointer, size uintptr) unix.Errno {
			var batch *batchAttr
			if size == unsafe.Sizeof(batchAttr{}) {
				batch = (*batchAttr)(attr)
			}
			return sys(cmd, func() unix.Errno { return bpf(cmd, attr, size) }, batch)
		}
	}
}
