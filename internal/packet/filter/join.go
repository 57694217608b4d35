// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

var (
	// ErrNoFunction is returned for a program that has no function of the name.
	ErrNoFunction = errors.New("the program calls no such function")
	// ErrNoBTF is returned for a function without BTF, in which the kernel does not allow to read packets.
	ErrNoBTF = errors.New("the function has no BTF")
)

// Join replaces the body of a function of a program. The function is one that the program calls, not the program itself:
//
//	static __attribute__((noinline)) int matches(struct __sk_buff *skb)
//	{
//		int match = 1;
//
//		asm volatile("" : "+r"(match) : "r"(skb));
//		return match;
//	}
//
// The asm statement keeps the compiler from concluding that the function always returns 1, and that it needs no argument.
//
// Nothing else changes: calls find the function by its name, and jumps lead nowhere outside of their function. The function keeps
// its BTF, with which the kernel wants to know that it returns an int.
func Join(spec *ebpf.ProgramSpec, function string, body asm.Instructions) error {
	if len(body) == 0 {
		return fmt.Errorf("joining a filter to %s: empty body", spec.Name)
	}
	start, end := -1, len(spec.Instructions)
	for i, ins := range spec.Instructions {
		switch {
		case ins.Symbol() == "":
		case start >= 0:
			end = i
		case ins.Symbol() == function:
			start = i
		}
		if start >= 0 && end <= i {
			break
		}
	}
	if start <= 0 {
		return fmt.Errorf("joining a filter to %s at %s: %w", spec.Name, function, ErrNoFunction)
	}
	first := spec.Instructions[start]
	fn := btf.FuncMetadata(&first)
	if fn == nil {
		return fmt.Errorf("joining a filter to %s at %s: %w", spec.Name, function, ErrNoBTF)
	}
	if proto, ok := fn.Type.(*btf.FuncProto); !ok || len(proto.Params) != 1 || !isInt(proto.Return) {
		return fmt.Errorf("joining a filter to %s: %s is not int (struct __sk_buff *)", spec.Name, function)
	}

	joined := make(asm.Instructions, 0, start+len(body)+len(spec.Instructions)-end)
	joined = append(joined, spec.Instructions[:start]...)
	joined = append(joined, body...)
	joined = append(joined, spec.Instructions[end:]...)
	// Where any function has line information, the kernel wants it at the beginning of each.
	joined[start] = btf.WithFuncMetadata(body[0].WithSymbol(function).WithSource(first.Source()), fn)
	spec.Instructions = joined
	return nil
}

func isInt(t btf.Type) bool {
	i, ok := btf.UnderlyingType(t).(*btf.Int)
	return ok && i.Size == 4
}
