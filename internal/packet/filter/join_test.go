// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

func testSpec(t testing.TB) *ebpf.ProgramSpec {
	t.Helper()
	spec, err := ebpf.LoadCollectionSpec("testdata/socket.bpf.o")
	require.NoError(t, err)
	return spec.Programs["packets"]
}

// functions are the instructions of a program by function, in order.
func functions(spec *ebpf.ProgramSpec) (names []string, bodies map[string]asm.Instructions) {
	bodies = map[string]asm.Instructions{}
	for _, ins := range spec.Instructions {
		if name := ins.Symbol(); name != "" {
			names = append(names, name)
		}
		last := names[len(names)-1]
		bodies[last] = append(bodies[last], ins)
	}
	return names, bodies
}

func TestJoinReplacesOneFunction(t *testing.T) {
	spec := testSpec(t)
	before, old := functions(spec)
	require.Equal(t, []string{"packets", "count", "matches", "verdict"}, before)
	program, err := Compile("tcp and port 80", Ethernet)
	require.NoError(t, err)

	for range 2 { // also over an earlier filter
		body := program.Instructions()
		require.NoError(t, Join(spec, "matches", body))
		after, now := functions(spec)
		require.Equal(t, before, after)
		for name := range old {
			if name != "matches" {
				require.Equal(t, old[name], now[name], name)
			}
		}
		require.Len(t, now["matches"], len(body))
		first := now["matches"][0]
		require.Equal(t, "matches", btf.FuncMetadata(&first).Name)
		require.NotNil(t, first.Source())
		require.Equal(t, body[0].OpCode, first.OpCode)
		require.Equal(t, body[1:], now["matches"][1:])
		require.Empty(t, body[0].Symbol(), "the body that was given is left alone")
	}
}

func TestJoinRefuses(t *testing.T) {
	program, err := Compile("tcp", Ethernet)
	require.NoError(t, err)
	spec := testSpec(t)
	require.ErrorIs(t, Join(spec, "absent", program.Instructions()), ErrNoFunction)
	require.ErrorIs(t, Join(spec, "packets", program.Instructions()), ErrNoFunction, "the program itself")
	require.ErrorContains(t, Join(spec, "matches", nil), "empty")
	require.ErrorContains(t, Join(spec, "count", program.Instructions()), "is not int (struct __sk_buff *)")
	for i, ins := range spec.Instructions {
		if ins.Symbol() == "matches" {
			spec.Instructions[i] = asm.Mov.Imm(asm.R0, 1).WithSymbol("matches")
		}
	}
	require.ErrorIs(t, Join(spec, "matches", program.Instructions()), ErrNoBTF)
}

// The program around the filter works as before: it counts what it sees and what matches, and its other functions run.
func TestKernelJoinedProgram(t *testing.T) {
	needs.Root(t)
	program, err := Compile("udp port 53", Ethernet)
	require.NoError(t, err)
	c := socketFilter(t, "packets", program)
	defer c.Close()
	for _, f := range []struct {
		data []byte
		want bool
	}{
		{ether(etherIP, ip4{proto: 17}.of(udp(33000, 53))), true},
		{ether(etherIP, ip4{proto: 17}.of(udp(33000, 54))), false},
		{ether(etherIP, ip4{proto: 6}.of(tcp(33000, 53, 2))), false},
		{ether(etherIPv6, ip6{next: 17}.of(udp(53, 33000))), true},
	} {
		require.Equal(t, f.want, run(t, c.Programs["packets"], f.data))
	}
	for key, want := range []uint64{4, 2} {
		var n uint64
		require.NoError(t, c.Maps["seen"].Lookup(uint32(key), &n))
		require.Equal(t, want, n)
	}
}

// The longest programs that compile load as well.
func TestKernelLongPrograms(t *testing.T) {
	needs.Root(t)
	for _, expression := range []string{"port 1" + manyPorts(400), "not (tcp port 1" + manyPorts(250) + ")", "tcp[0]" + repeatMinus(200) + " = 1"} {
		program, err := Compile(expression, Ethernet)
		require.NoError(t, err)
		c := socketFilter(t, "packets", program)
		machine := vm(t, program.Classic())
		for _, f := range frames() {
			if !f.raw {
				require.Equal(t, verdict(t, machine, f.data), run(t, c.Programs["packets"], f.data), f.name)
			}
		}
		c.Close()
		t.Log(len(program.Classic()), "instructions of classic BPF,", len(program.Instructions()), "of eBPF")
	}
}
