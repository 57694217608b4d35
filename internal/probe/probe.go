// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/ebpfreceiver/ebpfreceiver/internal/packet"
	"github.com/ebpfreceiver/ebpfreceiver/internal/ring"
	"github.com/ebpfreceiver/ebpfreceiver/internal/snapshot"
)

// Probe is a probe that is in the kernel. Its exported fields are set by [Load] and do not change, but for Started.
type Probe struct {
	Spec     *Spec
	Settings Settings
	// Tables, one for each map that feeds at least one metric that is enabled and available, sorted by the map's name.
	Tables []*Table
	// Ring has the records of events; nil when none is enabled and available.
	Ring *ring.Reader
	// EventIDs are the ids that records carry, and EventTypes what they are, of each event that is enabled and available.
	EventIDs   map[string]uint32
	EventTypes map[string]*btf.Struct
	// Missing are the enabled metrics and events that are not to be had here, with the reason.
	Missing map[string]error
	// Without has what else is not to be had here, in the words of [Role.Optional], with the reason: all that is enabled works without it.
	Without map[string]error
	// AddressNames are the names of ranges of addresses, by what stands in a key for an address that lies in one.
	AddressNames map[netip.Addr]string
	// Programs tells what became of each program of the spec: roles by name, candidates and programs as they are listed.
	Programs []ProgramInfo
	// Started is when programs began to count: set by [Probe.Attach], just before the first is attached.
	Started time.Time

	// iterating is held, before mu, while iterators run. They may wait for whoever reads the ring, who asks for what only mu guards.
	iterating sync.Mutex
	iters     []iterator // in the order of programs
	networks  *networkNamespaces
	buffer    []byte

	mu       sync.Mutex
	state    state
	programs []*loadedProgram
	maps     map[string]*ebpf.Map
	inner    map[string][2]*ebpf.Map
	links    []link.Link                         // must be referenced: the garbage collector detaches links that are not
	refused  func(doing string, err error) error // kernel.Kernel.Refused
	env      Environment
	follower *packet.Follower // nil unless socket filters are attached; stays after Detach, since it knows names
}

type state int

const (
	loaded state = iota
	attached
	detached
	closed
)

// Table is a map whose rows become metrics.
type Table struct {
	// Map is its name in the object.
	Map string
	snapshot.Table
	// Key and Value are the types of a row. Of the key, a row has the first KeySize bytes: fields beyond belong to dimensions that
	// nobody selected.
	Key, Value btf.Type
	KeySize    int
	// Metrics that are made of it, sorted.
	Metrics []string
}

// ProgramInfo tells what became of a program.
type ProgramInfo struct {
	// Role and Candidate are its place in the spec.
	Role      string
	Candidate int
	// Name is the program's, and Hook its ELF section's: "tp_btf/sched_switch".
	Name, Hook string
	// Taken programs are loaded. Of the others, Err is why not; nil when a candidate before it was taken, or the role is not needed.
	Taken bool
	Err   error
	// Instructions that the verifier processed; 0 when it is not taken or the kernel does not say: before Linux 5.16 it does with
	// [Environment.VerifierStatistics] only.
	Instructions uint32
}

// loadedProgram is a program in the kernel.
type loadedProgram struct {
	*ebpf.Program
	name string
	spec *ebpf.ProgramSpec // without instructions
	// instances are what a socket filter is loaded as for each kind of interface; nil for programs of other types.
	instances *instances
}

func (p *loadedProgram) instructions() uint32 {
	info, err := p.Info()
	if err != nil {
		return 0
	}
	if n, ok := info.VerifiedInstructions(); ok {
		return n
	}
	return processed(p.VerifierLog)
}

// processed is the number of instructions in the verifier's statistics (print_verification_stats() in kernel/bpf/verifier.c); 0 where there are none.
func processed(log string) (n uint32) {
	if _, text, ok := strings.Cut(log, "processed "); ok {
		_, _ = fmt.Sscanf(text, "%d insns", &n) // which leaves 0
	}
	return n
}

// lock takes both locks, and returns what gives them back: for what changes the probe's state.
func (p *Probe) lock() (unlock func()) {
	p.iterating.Lock()
	p.mu.Lock()
	return func() {
		p.mu.Unlock()
		p.iterating.Unlock()
	}
}

// Collect runs the probe's iterators, each to its end, so that the tables are up to date. Call it before reading them.
// It may be called from Attach to Close; Detach leaves iterators, for a last collection. The error is [os.ErrClosed] after Close.
func (p *Probe) Collect(ctx context.Context) error {
	p.iterating.Lock()
	defer p.iterating.Unlock()
	switch p.current() {
	case closed:
		return os.ErrClosed
	case loaded:
		return fmt.Errorf("probe %s: %w", p.Spec.Name, errNotAttached)
	}
	return p.runIterators(ctx)
}

func (p *Probe) current() state {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Iterates tells whether the probe has iterators, which only Collect runs.
func (p *Probe) Iterates() bool {
	p.iterating.Lock()
	defer p.iterating.Unlock()
	return len(p.iters) > 0
}

var errNotAttached = errors.New("not attached")

// Detach stops the programs: when it returns, those that were running have ended and no new occurrence is counted. (Sleepable programs
// may take longer.) Tables and the ring can still be read. It does nothing when the probe is not attached.
func (p *Probe) Detach() error {
	defer p.lock()()
	if p.state == attached {
		p.state = detached
	}
	errs := []error{p.detach()}
	if m := p.maps[endingMap]; m != nil {
		errs = append(errs, m.Put(uint32(0), uint32(1)))
	}
	return errors.Join(errs...)
}

func (p *Probe) detach() error {
	var errs []error
	for _, l := range p.links {
		if err := l.Close(); err != nil {
			errs = append(errs, fmt.Errorf("detach: %w", err))
		}
	}
	if len(p.links) > 0 {
		waitForPrograms()
	}
	p.links = nil
	if p.follower != nil {
		errs = append(errs, p.follower.Close())
	}
	return errors.Join(errs...)
}

// Close detaches the programs, and takes them and the maps out of the kernel. It ends the ring's reader and the tables. A second
// Close does nothing.
func (p *Probe) Close() error {
	defer p.lock()()
	if p.state == closed {
		return nil
	}
	p.state = closed
	errs := []error{p.detach(), p.closeIterators()}
	if p.Ring != nil {
		errs = append(errs, p.Ring.Close())
	}
	for _, t := range p.Tables {
		errs = append(errs, t.Close())
	}
	for _, program := range p.programs {
		errs = append(errs, program.Close(), program.instances.close())
	}
	p.programs = nil
	for _, inner := range p.inner {
		closeAll(inner[:])
	}
	closeMaps(p.maps)
	p.inner, p.maps = nil, nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close probe %s: %w", p.Spec.Name, err)
	}
	return nil
}
