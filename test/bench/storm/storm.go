// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package storm makes ring-buffer records like those of ebpf.process.exec at any rate, for benchmarks. It is a probe of a
// user's own kind, which a receiver can load as any other.
package storm

import (
	"embed"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

// Files is the probe's folder.
//
//go:embed probe.yaml storm.bpf.o
var Files embed.FS

const (
	// Event is the name of the records' event.
	Event = "ebpf.bench.exec"
	// Sequence is the attribute that numbers the records from 0.
	Sequence = "ebpf.process.command_args.size"
)

// MaxBurst is the largest burst, in records.
const MaxBurst = 200

// Load attaches the probe, without a receiver. Each [Trigger] of the process pid then makes burst records.
func Load(pid, burst, ringSize int) (*probe.Probe, error) {
	spec, err := probe.Parse(Files, "storm/"+probe.SpecFile)
	if err != nil {
		return nil, err
	}
	settings, err := spec.Resolve(probe.Config{
		Options: map[string]any{"pid": pid, "burst": burst}, RingSize: ringSize,
	})
	if err != nil {
		return nil, err
	}
	p, err := probe.Load(spec, settings, probe.Environment{Kernel: kernel.New(kernel.Options{}), CgroupController: -1})
	if err != nil {
		return nil, err
	}
	if err := p.Attach(); err != nil {
		_ = p.Close() // the other error is why
		return nil, err
	}
	return p, nil
}

// Trigger makes one burst of records, from the calling process. All of them are in the ring when it returns.
func Trigger() error {
	name := [16]byte{'s', 't', 'o', 'r', 'm'}
	_, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name)), 0, 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("set the thread's name: %w", errno)
	}
	return nil
}
