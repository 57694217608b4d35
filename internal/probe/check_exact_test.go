// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

func TestCheckExact(t *testing.T) {
	u32 := &btf.Int{Name: "u32", Size: 4}
	u64 := &btf.Int{Name: "u64", Size: 8}
	value := &btf.Struct{Name: "value", Size: 16, Members: []btf.Member{
		{Name: "wide", Type: u64}, {Name: "narrow", Type: u32, Offset: 64}, {Name: "other", Type: u32, Offset: 96},
	}}
	inner := &ebpf.MapSpec{Type: ebpf.Hash, Key: u64, Value: value, KeySize: 8, ValueSize: 16}
	cell := &ebpf.MapSpec{Type: ebpf.PerCPUArray, MaxEntries: 1, Key: u32, Value: value, KeySize: 4, ValueSize: 16}
	o := &object{
		CollectionSpec: &ebpf.CollectionSpec{
			Maps: map[string]*ebpf.MapSpec{
				"shared": {Type: ebpf.Array, Key: u32, Value: value, KeySize: 4, ValueSize: 16},
				"cells":  cell, "swapped": {Type: ebpf.ArrayOfMaps, MaxEntries: 1, InnerMap: inner}, "swapped_overflow": cell,
			},
			Programs: map[string]*ebpf.ProgramSpec{
				"signals": {Instructions: asm.Instructions{asm.FnSendSignal.Call(), asm.FnSendSignal.Call(), asm.FnKtimeGetNs.Call(), asm.Return()}},
				"sleeps":  {Flags: unix.BPF_F_SLEEPABLE},
				"unused":  {Instructions: asm.Instructions{asm.FnSendSignal.Call()}},
			},
		},
		references: map[string][]string{"signals": {"swapped"}, "sleeps": {"swapped", "cells"}},
	}
	metric := func(m, field string) Metric { return Metric{Type: Counter, Map: m, Value: field} }
	spec := &Spec{
		Programs: map[string]Role{"all": {Candidates: []Candidate{{Programs: []string{"signals", "sleeps"}}}}},
		Metrics: map[string]Metric{
			"a.shared": metric("shared", "narrow"), "b.wide": metric("cells", "wide"), "c.narrow": metric("cells", "narrow"),
			"d.swapped": metric("swapped", "other"), "e.points": {Type: Counter, Map: "cells", Points: []Point{{Value: "wide"}, {Value: "narrow"}}},
		},
	}
	assert.EqualError(t, errors.Join(checkObject(spec, o)...), `program signals: it calls FnSendSignal: a probe observes
program sleeps: a program that can sleep must not use the swapped map swapped: its snapshots would not be exact
metrics.c.narrow.value: field "narrow" has 4 bytes at offset 8, where values of several CPUs are added up as u64
metrics.d.swapped.value: field "other" has 4 bytes at offset 12, where values of several CPUs are added up as u64
metrics.e.points.points[1].value: field "narrow" has 4 bytes at offset 8, where values of several CPUs are added up as u64`)
}
