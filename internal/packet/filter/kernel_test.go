// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"flag"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// socketFilter loads testdata/socket.bpf.c with an expression joined to it.
func socketFilter(t testing.TB, name string, program *Program) *ebpf.Collection {
	t.Helper()
	spec, err := ebpf.LoadCollectionSpec("testdata/socket.bpf.o")
	require.NoError(t, err)
	for other := range spec.Programs {
		if other != name {
			delete(spec.Programs, other)
		}
	}
	if program != nil {
		require.NoError(t, Join(spec.Programs[name], "matches", program.Instructions()))
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	return c
}

// run gives a packet to a socket filter. The kernel takes the first 14 bytes off a packet that it runs a socket filter on as a test.
func run(t testing.TB, p *ebpf.Program, data []byte) bool {
	t.Helper()
	ret, err := p.Run(&ebpf.RunOptions{Data: append(make([]byte, 14), data...)})
	require.NoError(t, err)
	require.Contains(t, []uint32{1, 2}, ret)
	return ret == 2
}

var everyCut = flag.Bool("every-cut", false, "give packets of every length to the kernel, and not of every seventh only")

// The kernel's verdicts are those of tcpdump's programs in the virtual machine, for every expression and packet.
func TestKernelVerdictsAreThoseOfTcpdump(t *testing.T) {
	needs.Root(t)
	all := frames()
	every := 1
	if testing.Short() {
		every = 10
	}
	for link, name := range links {
		t.Run(name, func(t *testing.T) {
			compared := 0
			for i, g := range goldens(t, link) {
				if g.program == nil || i%every != 0 {
					continue
				}
				program, err := Compile(g.expression, link)
				require.NoError(t, err, g.expression)
				c := socketFilter(t, "packets", program)
				if want := vm(t, g.program); want != nil {
					for _, f := range all {
						if f.raw != (link == IP) {
							continue
						}
						for _, data := range f.cuts() {
							if len(data) == 0 || !*everyCut && len(data)%7 != 0 && len(data) != len(f.data) {
								continue
							}
							expected := verdict(t, want, data)
							if run(t, c.Programs["packets"], data) != expected {
								t.Errorf("%s\non %s, %d of %d bytes: tcpdump says %v", g.expression, f.name, len(data), len(f.data), expected)
								break
							}
							compared++
						}
					}
				}
				c.Close()
			}
			require.NotZero(t, compared)
			t.Logf("%d verdicts are equal", compared)
		})
	}
}
