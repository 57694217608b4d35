// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
)

// TypedTracepoint tells whether tp_btf/NAME can be attached to: whether the kernel, or a module that is loaded, describes the
// tracepoint's arguments. The error is an [*UnsupportedError] when it does not.
func (k *Kernel) TypedTracepoint(name string) error {
	_, err := k.tracepointProto(name)
	return err
}

func (k *Kernel) tracepointProto(name string) (*btf.FuncProto, error) {
	var typedef *btf.Typedef
	err := k.lookup("btf_trace_"+name, &typedef)
	if errors.Is(err, btf.ErrNotFound) {
		return nil, &UnsupportedError{Feature: "tracepoint " + name, Err: err}
	}
	if err != nil && !errors.Is(err, btf.ErrMultipleMatches) {
		return nil, fmt.Errorf("look up tracepoint %s: %w", name, err)
	}
	if typedef != nil {
		if pointer, ok := typedef.Type.(*btf.Pointer); ok {
			if proto, ok := pointer.Target.(*btf.FuncProto); ok {
				return proto, nil
			}
		}
	}
	return nil, &UnsupportedError{Feature: "tracepoint " + name, Reason: "its type is not that of a tracepoint"}
}

// lookup finds a named type in the kernel or else in a module.
func (k *Kernel) lookup(name string, typ any) error {
	types, err := k.Types()
	if err != nil {
		return err
	}
	err = types.TypeByName(name, typ)
	if !errors.Is(err, btf.ErrNotFound) || k.types != nil {
		return err
	}
	cache := k.Cache()
	modules, listErr := cache.Modules()
	if listErr != nil {
		return err
	}
	for _, module := range modules {
		types, loadErr := cache.Module(module)
		if loadErr != nil {
			continue // the module may have gone
		}
		if found := types.TypeByName(name, typ); !errors.Is(found, btf.ErrNotFound) {
			return found
		}
	}
	return err
}

// CheckProgram tells whether the kernel has the program's hook and knows its type, without loading it. Nil means that nothing
// speaks against it; only loading and attaching tells for certain. The error is an [*UnsupportedError], or a
// [*PermissionError] where this process may not even look.
func (k *Kernel) CheckProgram(spec *ebpf.ProgramSpec) error {
	return k.checkHook(spec)
}

// missingHelper is not nil when the program calls a helper that the kernel does not know. That alone does not
// make the program fail: a call that CO-RE cuts out is never seen by the verifier. It explains a failure to load.
func (k *Kernel) missingHelper(spec *ebpf.ProgramSpec) *UnsupportedError {
	known, err := k.helperNumbers()
	if err != nil {
		return nil // a kernel without the enumeration in its BTF is not judged
	}
	for i := range spec.Instructions {
		ins := &spec.Instructions[i]
		if ins.IsBuiltinCall() && !known[uint64(uint32(ins.Constant))] {
			return &UnsupportedError{Feature: "eBPF helper " + asm.BuiltinFunc(ins.Constant).String()}
		}
	}
	return nil
}

func (k *Kernel) checkHook(spec *ebpf.ProgramSpec) error {
	if spec.Type == ebpf.Tracing {
		switch spec.AttachType {
		case ebpf.AttachTraceRawTp:
			return k.TypedTracepoint(spec.AttachTo)
		case ebpf.AttachTraceIter:
			return renamed(k.haveFunc("bpf_iter_"+spec.AttachTo), "iterator "+spec.AttachTo)
		default: // fentry, fexit
			return k.answer("trampoline/"+spec.AttachTo, func() error {
				var fn *btf.Func
				return found(k.lookup(spec.AttachTo, &fn), "function "+spec.AttachTo)
			})
		}
	}
	switch spec.Type {
	case ebpf.LSM:
		if err := k.activeLSM(); err != nil {
			return err
		}
		return renamed(k.haveFunc("bpf_lsm_"+spec.AttachTo), "LSM hook "+spec.AttachTo)
	case ebpf.TracePoint:
		group, name, _ := strings.Cut(spec.AttachTo, "/")
		if err := k.Tracepoint(group, name); err != nil {
			return err
		}
	case ebpf.RawTracepoint:
		if err := k.TypedTracepoint(spec.AttachTo); err != nil {
			return err
		}
	case ebpf.Kprobe:
		if err := k.kprobes(); err != nil {
			return err
		}
	}
	err := features.HaveProgramType(spec.Type)
	if errors.Is(err, ErrNotSupported) {
		return &UnsupportedError{Feature: "program type " + spec.Type.String(), Err: err}
	}
	if err != nil {
		return k.Refused("load a program of type "+spec.Type.String(), err)
	}
	return nil
}

// renamed says the same of a feature in words that the probe's author used.
func renamed(err error, feature string) error {
	if errors.Is(err, ErrNotSupported) {
		var lacks *UnsupportedError
		if errors.As(err, &lacks) && strings.HasPrefix(lacks.Feature, "function ") {
			return &UnsupportedError{Feature: feature, Err: err}
		}
	}
	return err
}

func found(err error, feature string) error {
	if errors.Is(err, btf.ErrNotFound) {
		return &UnsupportedError{Feature: feature, Err: err}
	}
	return err
}

// activeLSM tells whether the security modules' hooks reach eBPF programs. Where the list is not to be seen, it is taken to
// be so.
func (k *Kernel) activeLSM() error {
	text, err := fs.ReadFile(k.fs, "sys/kernel/security/lsm")
	if err != nil {
		return nil
	}
	for module := range strings.SplitSeq(strings.TrimSpace(string(text)), ",") {
		if module == "bpf" {
			return nil
		}
	}
	return &UnsupportedError{
		Feature: "eBPF security module",
		Reason:  "/sys/kernel/security/lsm does not list bpf",
		Remedy:  "add bpf to the lsm= boot parameter",
	}
}

// kprobes tells whether the kernel was built with them: as a perf event source, or in tracefs before that.
func (k *Kernel) kprobes() error {
	return k.answer("kprobes", func() error {
		if _, err := fs.Stat(k.fs, "sys/bus/event_source/devices/kprobe"); err == nil {
			return nil
		}
		for _, dir := range tracefsPaths {
			if _, err := fs.Stat(k.fs, path.Join(dir, "kprobe_events")); err == nil {
				return nil
			}
		}
		return &UnsupportedError{Feature: "kprobes", Reason: "built without CONFIG_KPROBE_EVENTS, or /sys is not the host's"}
	})
}

// helperNumbers are the values of enum bpf_func_id.
func (k *Kernel) helperNumbers() (map[uint64]bool, error) {
	k.mu.Lock()
	known := k.helpers
	k.mu.Unlock()
	if known != nil {
		return known, nil
	}
	types, err := k.Types()
	if err != nil {
		return nil, err
	}
	var enum *btf.Enum
	if err := types.TypeByName("bpf_func_id", &enum); err != nil {
		return nil, err
	}
	known = make(map[uint64]bool, len(enum.Values))
	for _, v := range enum.Values {
		if v.Name != "__BPF_FUNC_MAX_ID" {
			known[v.Value] = true
		}
	}
	k.mu.Lock()
	k.helpers = known
	k.mu.Unlock()
	return known, nil
}
