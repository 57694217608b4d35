// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ebpfreceiver/ebpfreceiver/internal/host"
	"github.com/ebpfreceiver/ebpfreceiver/internal/packet"
)

const (
	// ownerTTL is how long it is taken for true whose a network namespace is. Its first processes make it, and others join.
	ownerTTL = 10 * time.Second
	// maxOwners bounds how many are remembered.
	maxOwners = 4096
)

// owners finds the containers of network namespaces, and so of addresses.
type owners struct {
	cgroups *host.Cgroups
	now     func() time.Time

	mu    sync.Mutex
	known map[uint32]owner
}

// owner is the innermost cgroup that all processes of a namespace lie in; 0 for none but the root.
type owner struct {
	cgroup uint64
	pids   []int // by whom it was found
	until  time.Time
}

func newOwners(cgroups *host.Cgroups) *owners {
	return &owners{cgroups: cgroups, now: time.Now, known: make(map[uint32]owner)}
}

// of is the cgroup of whoever alone has an address.
func (o *owners) of(f *packet.Follower, address netip.Addr) uint64 {
	namespace, ok := f.NamespaceOf(address)
	if !ok || namespace == f.HostNamespace() {
		return 0
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now, pids := o.now(), f.Pids(namespace)
	before, same := o.known[namespace], false
	// The kernel gives the numbers of namespaces to new ones at once: other processes may be another container's.
	if same = slices.Equal(pids, before.pids); same && now.Before(before.until) {
		return before.cgroup
	}
	found := o.find(pids)
	if found == 0 && same {
		found = before.cgroup // they have ended since: it is still what it was
	}
	if len(o.known) >= maxOwners {
		clear(o.known)
	}
	o.known[namespace] = owner{found, pids, now.Add(ownerTTL)}
	return found
}

func (o *owners) find(pids []int) uint64 {
	var cgroups []uint64
	for _, pid := range pids {
		if cgroup, ok := o.cgroups.OfProcess(pid); ok {
			cgroups = append(cgroups, cgroup)
		}
	}
	return o.cgroups.Common(cgroups...)
}
