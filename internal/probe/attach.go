// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
)

// HookError says that a program's hook is of a kind that probes can not have yet. It matches [kernel.ErrNotSupported].
type HookError struct {
	// Program is its name, and Hook its ELF section's.
	Program, Hook string
}

func (e *HookError) Error() string {
	return fmt.Sprintf("hooks of the type %q are not supported yet", e.Hook)
}

// Is makes every HookError match [kernel.ErrNotSupported].
func (e *HookError) Is(target error) bool { return target == kernel.ErrNotSupported }

// canAttach tells whether attach knows the program's kind of hook. Kinds that can change what the kernel does (fmod_ret,
// writable raw tracepoints) are left out on purpose.
func canAttach(spec *ebpf.ProgramSpec) bool {
	switch spec.Type {
	case ebpf.Tracing:
		switch spec.AttachType {
		case ebpf.AttachTraceRawTp, ebpf.AttachTraceFEntry, ebpf.AttachTraceFExit:
			return spec.AttachTo != ""
		case ebpf.AttachTraceIter:
			return spec.AttachTo != "" && spec.AttachTo != "sockmap"
		}
		return false
	case ebpf.SocketFilter:
		return true
	case ebpf.LSM:
		return spec.AttachType == ebpf.AttachLSMMac && spec.AttachTo != ""
	case ebpf.RawTracepoint:
		return spec.AttachTo != ""
	case ebpf.TracePoint:
		group, name, ok := strings.Cut(spec.AttachTo, "/")
		return ok && group != "" && name != ""
	case ebpf.Kprobe:
		return spec.AttachTo != "" && (hookKind(spec) == "kprobe" || hookKind(spec) == "kretprobe")
	}
	return false
}

// hookKind is a hook's part before the slash.
func hookKind(spec *ebpf.ProgramSpec) string {
	kind, _, _ := strings.Cut(spec.SectionName, "/")
	return kind
}

// attachMayFail tells whether a program that loads is known to fail to attach on some kernels: trampolines want room in a
// function's prologue, kprobes may be denied for a function, perf events may be restricted.
func attachMayFail(spec *ebpf.ProgramSpec) bool {
	return spec.Type != ebpf.RawTracepoint && spec.Type != ebpf.SocketFilter && !(spec.Type == ebpf.Tracing &&
		(spec.AttachType == ebpf.AttachTraceRawTp || spec.AttachType == ebpf.AttachTraceIter))
}

// overElements tells whether the program is an iterator over the elements of a map: of one of those whose keys are bytes, or of a
// socket storage.
func overElements(spec *ebpf.ProgramSpec) bool {
	return spec.Type == ebpf.Tracing && spec.AttachType == ebpf.AttachTraceIter &&
		(spec.AttachTo == "bpf_map_elem" || spec.AttachTo == "bpf_sk_storage_map")
}

// attach attaches a program; elements is the map that an iterator goes over.
func attach(program *ebpf.Program, spec *ebpf.ProgramSpec, elements *ebpf.Map) (link.Link, error) {
	switch spec.Type {
	case ebpf.Tracing:
		if spec.AttachType == ebpf.AttachTraceIter {
			return link.AttachIter(link.IterOptions{Program: program, Map: elements})
		}
		return link.AttachTracing(link.TracingOptions{Program: program})
	case ebpf.LSM:
		return link.AttachLSM(link.LSMOptions{Program: program})
	case ebpf.RawTracepoint:
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: spec.AttachTo, Program: program})
	case ebpf.TracePoint:
		group, name, _ := strings.Cut(spec.AttachTo, "/")
		return link.Tracepoint(group, name, program, nil)
	case ebpf.Kprobe:
		if hookKind(spec) == "kretprobe" {
			return link.Kretprobe(spec.AttachTo, program, nil)
		}
		return link.Kprobe(spec.AttachTo, program, nil)
	}
	return nil, &HookError{Program: spec.Name, Hook: spec.SectionName}
}

// Attach attaches all programs and runs each iterator once, as what later runs are compared with. The error is a
// [*ProgramError] that names the program; nothing is attached then.
func (p *Probe) Attach() error {
	defer p.lock()()
	if p.state != loaded {
		return fmt.Errorf("attach probe %s: it is attached or closed already", p.Spec.Name)
	}
	p.Started = time.Now()
	err := p.attachAll()
	if err == nil {
		err = p.runIterators(context.Background())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("attach probe %s: %w", p.Spec.Name, err), p.detach(), p.closeIterators())
	}
	p.state = attached
	return nil
}

func (p *Probe) attachAll() error {
	for _, program := range p.programs {
		if program.instances != nil {
			if err := p.follow(program); err != nil {
				return &ProgramError{Program: program.name, Doing: doingAttach, Err: err}
			}
			continue
		}
		l, err := attach(program.Program, program.spec, p.maps[p.Spec.Iterate[program.name]])
		if err != nil {
			err = p.refused("attach program "+program.name, err)
			return &ProgramError{Program: program.name, Doing: doingAttach, Err: err}
		}
		if iter, ok := l.(*link.Iter); ok {
			p.iters = append(p.iters, iterator{iter, overSockets(program.spec)})
			continue
		}
		p.links = append(p.links, l)
	}
	return nil
}

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL of include/uapi/linux/membarrier.h.
const membarrierGlobal = 1

// waitForPrograms waits until programs that were running when they were detached have ended: they run in RCU read-side critical
// sections, and MEMBARRIER_CMD_GLOBAL is one grace period (kernel/sched/membarrier.c). Where the kernel refuses, for it
// does so with nohz_full, the programs end as soon, but unseen.
func waitForPrograms() {
	_, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
}

// iteratorBuffer is the size of one read of an iterator, in bytes. Programs write nothing into it.
const iteratorBuffer = 4096

func (p *Probe) runIterators(ctx context.Context) error {
	if len(p.iters) > 0 && p.buffer == nil {
		p.buffer = make([]byte, iteratorBuffer)
	}
	shown := false
	for _, iter := range p.iters {
		var err error
		switch {
		case !iter.sockets:
			err = runIterator(ctx, iter.Iter, p.buffer)
		case !shown:
			err = p.showSockets(ctx)
			shown = true
		}
		if err != nil {
			return fmt.Errorf("probe %s: run iterator: %w", p.Spec.Name, err)
		}
	}
	return nil
}

const (
	// pause is how long an iterator rests that asked for it.
	pause = time.Millisecond
	// maxPauses bounds how long a collection waits for an iterator in all: about half a second.
	maxPauses = 500
)

// showSockets runs all iterators over sockets in one network namespace after the other.
func (p *Probe) showSockets(ctx context.Context) error {
	if p.networks == nil {
		var err error
		if p.networks, err = openNetworkNamespaces(p.env.Root); err != nil {
			return err
		}
	}
	refused := p.networks.refused
	err := p.networks.each(func(inode uint32) (known bool, err error) {
		for _, iter := range p.iters {
			if !iter.sockets {
				continue
			}
			if err := runIterator(ctx, iter.Iter, p.buffer); err != nil {
				return false, err
			}
		}
		return p.visited(inode), nil
	}, func(inode uint32) {
		if m := p.maps[knownNamespacesMap]; m != nil {
			_ = m.Delete(inode) // which leaves its room to another
		}
	})
	if refused == nil && p.networks.refused != nil {
		p.env.Logger.Warn("sockets that are there already are not known in all network namespaces: needs CAP_SYS_ADMIN and CAP_SYS_PTRACE",
			zap.String("probe", p.Spec.Name), zap.Error(p.networks.refused))
	}
	return err
}

// What is known of a network namespace, as flags; bpf/tcp has the same.
const (
	namespaceKnown   uint32 = 1 << iota // all sockets that it had when it was visited
	namespaceOwn                        // it has been visited, and is at each collection
	namespaceCrowded                    // the program's: there was no room for one of them
)

// visited tells the program that a namespace's sockets have all been shown to it, and returns whether it has room for all of them.
func (p *Probe) visited(inode uint32) bool {
	m := p.maps[knownNamespacesMap]
	if m == nil {
		return true
	}
	var flags uint32
	_ = m.Lookup(inode, &flags) // nothing is known of a new one
	own := inode == p.networks.inode
	switch crowded := flags&namespaceCrowded != 0; {
	case own && crowded:
		flags = namespaceOwn
	case own:
		flags = namespaceOwn | namespaceKnown
	case crowded:
		_ = m.Delete(inode)
		return false
	default:
		flags = namespaceKnown
	}
	return m.Put(inode, flags) == nil || own // what there is no room for is tried again
}

// runIterator reads an iterator to its end, which makes its program see every object. A read ends with EAGAIN when it went over a
// million objects without output, to give the CPU away, and when the program returned 1, to see the same object again once the
// ring buffer has room (bpf_seq_read and bpf_iter_run_prog in kernel/bpf/bpf_iter.c). Objects that the program has to wait
// too long for are left to the next collection.
func runIterator(ctx context.Context, iter *link.Iter, buffer []byte) error {
	r, err := iter.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	for pauses := 0; pauses < maxPauses; {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := r.Read(buffer)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, unix.EAGAIN):
			pauses++
			time.Sleep(pause)
		case err != nil:
			return err
		}
	}
	return nil
}

func (p *Probe) closeIterators() error {
	var errs []error
	for _, iter := range p.iters {
		errs = append(errs, iter.Close())
	}
	p.iters = nil
	errs = append(errs, p.networks.close())
	p.networks = nil
	return errors.Join(errs...)
}
