// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/internal/packet"
	"github.com/ebpfreceiver/ebpfreceiver/internal/packet/filter"
)

// attachmentSize is that of struct attachment in bpf/include/packet.h.
const attachmentSize = 12

// attachment is a struct attachment: what a socket filter knows of the interface that it is attached to.
type attachment [attachmentSize]byte

// The namespace is a part of it only where it makes a difference: there may be hundreds.
func attachmentOf(i packet.Interface, namespace bool) (a attachment) {
	if namespace {
		binary.NativeEndian.PutUint32(a[0:], i.Namespace)
	}
	a[4], a[5] = byte(i.Counting.Receive), byte(i.Counting.Transmit)
	a[6] = byte(boolean(i.Counting.Ethernet))
	a[7] = byte(boolean(i.Counting.WireReceive))
	a[8] = byte(boolean(i.Counting.WireTransmit))
	a[9] = byte(boolean(i.Counting.VLANReceive))
	a[10] = byte(boolean(i.Counting.VLANTransmit))
	return a
}

// compileFilter compiles an expression for both kinds of frames, those without an Ethernet header first. The error points into it.
func compileFilter(expression string) (filters [2]*filter.Program, err error) {
	if filters[1], err = filter.Compile(expression, filter.Ethernet); err != nil {
		return filters, err
	}
	filters[0], err = filter.Compile(expression, filter.IPBesideEthernet)
	return filters, err
}

// instances are the programs that one socket filter is loaded as: one for each kind of interface, so that the kernel
// removes what the kind has no use for. They share all maps but the one that tells them of the interface.
type instances struct {
	load func(attachment) (*ebpf.Program, error)
	// namespaces tells whether each network namespace has instances of its own.
	namespaces bool

	mu     sync.Mutex
	loaded map[attachment]*ebpf.Program
	// ended is what those cost that are unloaded.
	ended ebpf.ProgramStats
	// users are the interfaces that each is attached to; one without any is unloaded.
	users map[packet.Key]attachment
}

// newInstances prepares a program for interfaces. It stays good as long as the maps do.
func (l *loader) newInstances(name string, spec *ebpf.ProgramSpec, o *object, loaded map[string]*ebpf.Map) *instances {
	section := o.Variables[attachmentVariable].SectionName
	filters := sync.OnceValues(func() ([2]*filter.Program, error) { return compileFilter(l.settings.PacketFilter) })
	return &instances{
		namespaces: asks(l.spec, l.settings, "ifindex"),
		loaded:     make(map[attachment]*ebpf.Program),
		users:      make(map[packet.Key]attachment),
		load: func(a attachment) (*ebpf.Program, error) {
			own := o.copy()
			if err := own.Variables[attachmentVariable].Set(a[:]); err != nil {
				return nil, err
			}
			fillSection(own.Maps[section], section, own.Variables)
			m, err := l.createMap(section, own.Maps[section])
			if err != nil {
				return nil, err
			}
			defer m.Close() // the program holds it
			maps := make(map[string]*ebpf.Map, len(loaded))
			for name, m := range loaded {
				maps[name] = m
			}
			maps[section] = m
			program := spec.Copy()
			if err := l.joinFilter(program, a, filters); err != nil {
				return nil, err
			}
			return l.loadProgram(name, program, own, maps)
		},
	}
}

// joinFilter puts the user's expression into the program.
func (l *loader) joinFilter(program *ebpf.ProgramSpec, a attachment, compiled func() ([2]*filter.Program, error)) error {
	if l.settings.PacketFilter == "" {
		return nil
	}
	filters, err := compiled()
	if err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	if err := filter.Join(program, packetFilterFunction, filters[a[6]].Instructions()); err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	return nil
}

// typical is the attachment of most interfaces.
var typical = attachment{6: 1}

// of is the program for an interface.
func (i *instances) of(on packet.Interface) (*ebpf.Program, error) {
	a := attachmentOf(on, i.namespaces)
	i.mu.Lock()
	defer i.mu.Unlock()
	program := i.loaded[a]
	if program == nil {
		var err error
		if program, err = i.load(a); err != nil {
			return nil, err
		}
		i.loaded[a] = program
	}
	i.forsake(on.Key(), a)
	i.users[on.Key()] = a
	return program, nil
}

// gone is told of an interface that is not attached any more.
func (i *instances) gone(on packet.Interface) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.forsake(on.Key(), attachment{})
}

// forsake takes an interface from the program that it has, unless it keeps that one. A socket holds its program itself.
func (i *instances) forsake(on packet.Key, next attachment) {
	a, ok := i.users[on]
	if !ok || a == next {
		return
	}
	delete(i.users, on)
	for _, other := range i.users {
		if other == a {
			return
		}
	}
	if program := i.loaded[a]; program != nil {
		if s, err := program.Stats(); err == nil {
			addStats(&i.ended, s)
		}
		_ = program.Close() // a descriptor
		delete(i.loaded, a)
	}
}

func (i *instances) close() error {
	if i == nil {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	var errs []error
	for _, program := range i.loaded {
		errs = append(errs, program.Close())
	}
	clear(i.loaded)
	return errors.Join(errs...)
}

// add adds what all programs cost.
func (i *instances) add(sum *ebpf.ProgramStats) error {
	if i == nil {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	addStats(sum, &i.ended)
	for _, program := range i.loaded {
		s, err := program.Stats()
		if err != nil {
			return err
		}
		addStats(sum, s)
	}
	return nil
}

func addStats(sum, s *ebpf.ProgramStats) {
	sum.RunCount += s.RunCount
	sum.Runtime += s.Runtime
	sum.RecursionMisses += s.RecursionMisses
}

// follow attaches a socket filter to the interfaces that there are and that come.
func (p *Probe) follow(program *loadedProgram) error {
	if p.follower != nil {
		return errTwoSocketFilters
	}
	namespaces := packet.HostNamespace
	if p.Settings.Interfaces.AllNamespaces {
		namespaces = packet.AllNamespaces
	}
	follower, err := packet.Follow(context.Background(), packet.Options{
		Include: p.Settings.Interfaces.Include, Exclude: p.Settings.Interfaces.Exclude,
		Namespaces: namespaces, Addresses: asks(p.Spec, p.Settings, layout.ContainerAddress), Root: p.env.Root,
		Logger: p.env.Logger, Attach: program.instances.of, Detach: program.instances.gone,
	})
	if err != nil {
		return p.refused("attach program "+program.name, err)
	}
	p.follower = follower
	return nil
}

var errTwoSocketFilters = errors.New("a probe has one socket filter, and another one is attached")

// asks tells whether an attribute of an enabled metric or event is made by a decoder.
func asks(spec *Spec, settings Settings, decoder string) bool {
	for _, metric := range settings.Metrics {
		for _, dimension := range metric.Attributes {
			if spec.Dimensions[dimension].As == decoder {
				return true
			}
		}
	}
	for name := range settings.Events {
		for _, attribute := range spec.Events[name].Attributes {
			if attribute.As == decoder {
				return true
			}
		}
	}
	return false
}

// Interfaces follows the interfaces that a socket filter is attached to; nil when there is none. It knows their names even after Close.
func (p *Probe) Interfaces() *packet.Follower {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.follower
}
