// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
)

// interfering are helpers by which a program does more than observe.
var interfering = []asm.BuiltinFunc{
	asm.FnProbeWriteUser, asm.FnOverrideReturn, asm.FnSendSignal, asm.FnSendSignalThread, asm.FnSetsockopt,
}

// conduct checks what the programs that the spec names do: none changes anything, and none that can sleep uses a swapped map, of which
// the wait in snapshot knows only those that can not.
func (c *objectChecker) conduct() {
	seen := make(map[string]bool)
	for _, role := range sortedKeys(c.spec.Programs) {
		for _, candidate := range c.spec.Programs[role].Candidates {
			for _, name := range candidate.Programs {
				if program := c.object.Programs[name]; program != nil && !seen[name] {
					seen[name] = true
					c.program(name, program)
				}
			}
		}
	}
}

func (c *objectChecker) program(name string, program *ebpf.ProgramSpec) {
	var called []asm.BuiltinFunc
	for _, ins := range program.Instructions {
		if !ins.IsBuiltinCall() {
			continue
		}
		if f := asm.BuiltinFunc(ins.Constant); slices.Contains(interfering, f) && !slices.Contains(called, f) {
			called = append(called, f)
			c.addf("program "+name, "it calls %v: a probe observes", f)
		}
	}
	if program.Flags&unix.BPF_F_SLEEPABLE == 0 {
		return
	}
	for _, m := range c.object.references[name] {
		if spec, ok := c.object.Maps[m]; ok && isSwapped(spec) {
			c.addf("program "+name, "a program that can sleep must not use the swapped map %s: its snapshots would not be exact", m)
		}
	}
}

// summed checks that a number can be added up over CPUs, which is done in words of 8 bytes: a smaller one would carry into its neighbour.
// The overflow cell of a swapped map is per CPU, whatever its rows are.
func (c *objectChecker) summed(where string, m *ebpf.MapSpec, metric Metric, path string) {
	if m.Type != ebpf.PerCPUArray && m.Type != ebpf.PerCPUHash && !isSwapped(m) || metric.Type == Histogram {
		return
	}
	f, err := layout.FieldOf(row(m).Value, path)
	if err != nil {
		return // said before
	}
	if f.Size != 8 || f.Offset%8 != 0 {
		c.add(where, fmt.Errorf("field %q has %d bytes at offset %d, where values of several CPUs are added up as u64", path, f.Size, f.Offset))
	}
}
