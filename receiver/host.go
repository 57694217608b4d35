// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/ebpfreceiver/ebpfreceiver/internal/host"
	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/internal/packet"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/emit"
	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/metadata"
)

// hostIdentity turns the kernel's numbers into names, for one receiver.
type hostIdentity struct {
	cgroups    *host.Cgroups
	names      *cgroupNames // nil where they can not be watched
	clock      *host.Clock
	devices    *host.Devices
	interfaces *host.Interfaces
	users      *host.Users
	// nameless is why containers have no names; nil where they have.
	nameless error
	symbols  kernel.Symbols
	enabled  metadata.ResourceAttributesConfig
	owners   *owners
	// packets are the probes that are attached to interfaces.
	packets []*probe.Probe
}

var (
	_ layout.Names  = (*hostIdentity)(nil)
	_ emit.Identity = (*hostIdentity)(nil)
)

func newHostIdentity(cfg *Config) (*hostIdentity, error) {
	want := cfg.CgroupHierarchy
	if want == hierarchyAuto {
		want = ""
	}
	cgroups, err := findCgroups(cfg.RootPath, want)
	var nameless error
	if errors.Is(err, host.ErrNoHierarchy) && want == "" {
		// That costs the names and nothing else.
		nameless = fmt.Errorf("containers have no names: %w", err)
		cgroups, err = host.NoCgroups(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("finding the cgroups: %w", err)
	}
	clock, err := host.NewClock(nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the clock: %w", err), cgroups.Close())
	}
	return &hostIdentity{
		cgroups:    cgroups,
		clock:      clock,
		devices:    host.NewDevices(cfg.RootPath, time.Now),
		interfaces: host.NewInterfaces(cfg.RootPath, time.Now),
		users:      host.NewUsers(cfg.RootPath, time.Now),
		owners:     newOwners(cgroups),
		enabled:    cfg.ResourceAttributes,
		nameless:   nameless,
	}, nil
}

func findCgroups(root, want string) (*host.Cgroups, error) {
	hierarchy, err := host.FindHierarchy(root, want)
	if err != nil {
		return nil, err
	}
	return host.NewCgroups(host.CgroupOptions{Root: root, Hierarchy: hierarchy})
}

func (h *hostIdentity) close() error { return errors.Join(h.names.close(), h.cgroups.Close()) }

// Resource implements [emit.Identity]. It has just what is enabled, so that what nobody can tell apart is one resource.
func (h *hostIdentity) Resource(cgroup uint64) (r emit.Resource) {
	c := h.cgroup(cgroup)
	if h.enabled.ContainerID.Enabled {
		r.ContainerID = c.ContainerID
	}
	if h.enabled.ContainerName.Enabled {
		r.ContainerName = c.ContainerName
	}
	if h.enabled.ContainerRuntimeName.Enabled {
		r.Runtime = c.Runtime
	}
	if h.enabled.K8sPodUID.Enabled {
		r.PodUID = c.PodUID
	}
	return r
}

// cgroup asks the kernel's events of a cgroup that is not known: it may have been made since they were looked at, and be gone already.
func (h *hostIdentity) cgroup(id uint64) *host.Cgroup {
	c := h.cgroups.Resolve(id)
	if c.Path != "" || id == 0 {
		return c
	}
	h.names.learn()
	return h.cgroups.Resolve(id)
}

// Describe implements [emit.Identity].
func (h *hostIdentity) Describe(r emit.Resource, dst pcommon.Resource) {
	put := func(key, value string) {
		if value != "" {
			dst.Attributes().PutStr(key, value)
		}
	}
	put("container.id", r.ContainerID)
	put("container.name", r.ContainerName)
	put("container.runtime.name", r.Runtime)
	put("k8s.pod.uid", r.PodUID)
}

func (h *hostIdentity) followers() []*packet.Follower {
	var list []*packet.Follower
	for _, p := range h.packets {
		if f := p.Interfaces(); f != nil {
			list = append(list, f)
		}
	}
	return list
}

// The rest implements [layout.Names].

func (h *hostIdentity) CgroupPath(id uint64) string { return h.cgroup(id).Path }

func (h *hostIdentity) Device(dev uint32) string { return known(h.devices.Resolve(dev)) }

// Interface asks those who follow the interfaces first: they know what an interface was called that has gone.
func (h *hostIdentity) Interface(namespace, index uint32) string {
	for _, f := range h.followers() {
		if name, ok := f.Interface(namespace, int(index)); ok {
			return name
		}
	}
	if namespace != 0 {
		return ""
	}
	return known(h.interfaces.Resolve(index))
}

// Owner finds the one container in the namespace that has the address.
func (h *hostIdentity) Owner(address netip.Addr) uint64 {
	for _, f := range h.followers() {
		if cgroup := h.owners.of(f, address); cgroup != 0 {
			return cgroup
		}
	}
	return 0
}

func (h *hostIdentity) Symbol(address uint64) string { return h.symbols.Resolve(address) }

func (h *hostIdentity) Syscall(number int64) string { return known(host.SyscallName(number)) }

func (h *hostIdentity) User(uid uint32) string { return known(h.users.Resolve(uid)) }

func (h *hostIdentity) Wall(boot uint64) time.Time { return h.clock.Wall(boot) }

func known(name string, ok bool) string {
	if !ok {
		return ""
	}
	return name
}
