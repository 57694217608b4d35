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

func attachmentOf(i packet.Interface) (a attachment) {
	binary.NativeEndian.PutUint32(a[0:], i.Namespace)
	a[4], a[5] = byte(i.Counting.Receive), byte(i.Counting.Transmit)
	a[6] = byte(boolean(i.Counting.Ethernet))
	a[7] = byte(boolean(i.Counting.WireReceive))
	a[8] = byte(boolean(i.Counting.WireTransmit))
	a[9] = byte(boolean(i.Counting.VLANReceive))
	a[10] = byte(boolean(i.Counting.VLANTransmit))
	return a
}

// compileFilter compiles an expression for both kinds of frames. The error points into it.
func compileFilter(expression string) (filters [2]*filter.Program, err error) {
	for i, link := range []filter.Link{filter.IP, filter.Ethernet} {
		if filters[i], err = filter.Compile(expression, link); err != nil {
			return filters, err
		}
	}
	return filters, nil
}

// instances are the programs that one socket filter is loaded as: one for each kind of interface, so that the kernel
// removes what the kind has no use for. They share all maps but the one that tells them of the interface.
type instances struct {
	load func(attachment) (*ebpf.Program, error)

	mu     sync.Mutex
	loaded map[attachment]*ebpf.Program
}

// newInstances prepares a program for interfaces. It stays good as long as the maps do.
func (l *loader) newInstances(name string, spec *ebpf.ProgramSpec, o *object, loaded map[string]*ebpf.Map) *instances {
	section := o.Variables[attachmentVariable].SectionName
	return &instances{
		loaded: make(map[attachment]*ebpf.Program),
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
			if err := l.joinFilter(program, a); err != nil {
				return nil, err
			}
			return l.loadProgram(name, program, own, maps)
		},
	}
}

// joinFilter puts the user's expression into the program.
func (l *loader) joinFilter(program *ebpf.ProgramSpec, a attachment) error {
	if l.settings.PacketFilter == "" {
		return nil
	}
	filters, err := compileFilter(l.settings.PacketFilter)
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
	a := attachmentOf(on)
	i.mu.Lock()
	defer i.mu.Unlock()
	if program := i.loaded[a]; program != nil {
		return program, nil
	}
	program, err := i.load(a)
	if err != nil {
		return nil, err
	}
	i.loaded[a] = program
	return program, nil
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

// stats are the sums over all programs.
func (i *instances) add(sum *ebpf.ProgramStats) error {
	if i == nil {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, program := range i.loaded {
		s, err := program.Stats()
		if err != nil {
			return err
		}
		sum.RunCount += s.RunCount
		sum.Runtime += s.Runtime
		sum.RecursionMisses += s.RecursionMisses
	}
	return nil
}

// follow attaches a socket filter to the interfaces that there are and that come.
func (p *Probe) follow(program *loadedProgram) error {
	namespaces := packet.HostNamespace
	if p.Settings.Interfaces.AllNamespaces {
		namespaces = packet.AllNamespaces
	}
	follower, err := packet.Follow(context.Background(), packet.Options{
		Include: p.Settings.Interfaces.Include, Exclude: p.Settings.Interfaces.Exclude,
		Namespaces: namespaces, Addresses: p.asksForOwners(), Root: p.env.Root,
		Logger: p.env.Logger, Attach: program.instances.of,
	})
	if err != nil {
		return p.refused("attach program "+program.name, err)
	}
	p.follower = follower
	return nil
}

// asksForOwners tells whether a metric or an event asks whose an address is.
func (p *Probe) asksForOwners() bool {
	for name := range p.Settings.Metrics {
		for _, dimension := range p.Settings.Metrics[name].Attributes {
			if p.Spec.Dimensions[dimension].As == layout.ContainerAddress {
				return true
			}
		}
	}
	for name := range p.EventIDs {
		for _, attribute := range p.Spec.Events[name].Attributes {
			if attribute.As == layout.ContainerAddress {
				return true
			}
		}
	}
	return false
}

// Interfaces follows the interfaces that socket filters are attached to; nil when there are none. It answers until the probe is closed.
func (p *Probe) Interfaces() *packet.Follower {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.follower
}
