// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package floor has the least that a program which counts packets by flow can be, for benchmarks.
package floor

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

//go:embed floor.bpf.o
var object []byte

// Programs are attached to an interface.
type Programs struct {
	// Wide and Narrow load the headers, look up a hash and add twice, with keys that have room for IPv6 or not. Nothing returns.
	Wide, Narrow, Nothing *ebpf.Program

	collection *ebpf.Collection
	sockets    []int
}

// Attach attaches all of them to an interface of the calling thread's network namespace.
func Attach(index int) (*Programs, error) {
	return attach(index, func(p *Programs) []*ebpf.Program { return []*ebpf.Program{p.Wide, p.Narrow, p.Nothing} })
}

// AttachNothing attaches only the one that returns.
func AttachNothing(index int) (*Programs, error) {
	return attach(index, func(p *Programs) []*ebpf.Program { return []*ebpf.Program{p.Nothing} })
}

func attach(index int, which func(*Programs) []*ebpf.Program) (*Programs, error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, fmt.Errorf("read the floor's object: %w", err)
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load the floor: %w", err)
	}
	p := &Programs{collection: c, Wide: c.Programs["floor_wide"], Narrow: c.Programs["floor_narrow"], Nothing: c.Programs["floor_nothing"]}
	for _, program := range which(p) {
		if err := p.attach(program, index); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	return p, nil
}

func (p *Programs) attach(program *ebpf.Program, index int) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a packet socket: %w", err)
	}
	p.sockets = append(p.sockets, fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, program.FD()); err != nil {
		return fmt.Errorf("attach the floor: %w", err)
	}
	all := uint16(unix.ETH_P_ALL)
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: index})
}

// Close detaches and unloads them.
func (p *Programs) Close() error {
	var errs []error
	for _, fd := range p.sockets {
		errs = append(errs, unix.Close(fd))
	}
	p.collection.Close()
	return errors.Join(errs...)
}
