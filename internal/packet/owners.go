// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// address is an address of an interface.
type address struct {
	ip    netip.Addr
	index int
	bits  uint8
}

// owners are the namespaces that have addresses and processes. The caller holds the follower's lock.
type owners struct {
	host uint32
	// live are the namespaces that have an address, each once for every interface that has it.
	live map[netip.Addr][]uint32
	// past are those that had it last.
	past *memory[netip.Addr, uint32]
	pids *memory[uint32, []int]
}

func newOwners() *owners {
	return &owners{
		live: make(map[netip.Addr][]uint32),
		past: newMemory[netip.Addr, uint32](goneMax),
		pids: newMemory[uint32, []int](goneMax),
	}
}

func (o *owners) addAddress(ip netip.Addr, namespace uint32) {
	o.live[ip] = append(o.live[ip], namespace)
}

func (o *owners) removeAddress(ip netip.Addr, namespace uint32, now time.Time) {
	list := o.live[ip]
	at := slices.Index(list, namespace)
	if at < 0 {
		return
	}
	if list = slices.Delete(list, at, at+1); len(list) > 0 {
		o.live[ip] = list
		return
	}
	delete(o.live, ip)
	o.past.put(ip, namespace)
	o.past.leave(ip, now)
}

func (o *owners) of(ip netip.Addr) (namespace uint32, ok bool) {
	list := o.live[ip]
	if len(list) == 0 {
		return o.past.get(ip)
	}
	for _, other := range list[1:] {
		if other != list[0] {
			return 0, false
		}
	}
	return list[0], true
}

// setPids takes what a look at all processes found.
func (o *owners) setPids(found map[uint32][]int, now time.Time) {
	for inode, e := range o.pids.entries {
		if _, there := found[inode]; !there && e.element == nil {
			o.pids.leave(inode, now)
		}
	}
	for inode, pids := range found {
		o.pids.put(inode, pids)
	}
}

// begin forgets what a namespace had that is gone, since a new one has its number: the kernel uses them again at once.
func (o *owners) begin(namespace uint32) {
	for ip, e := range o.past.entries {
		if e.value == namespace {
			o.past.drop(ip)
		}
	}
	if e := o.pids.entries[namespace]; e != nil && e.element != nil {
		o.pids.drop(namespace)
	}
}

func (o *owners) expire(now time.Time) {
	o.past.expire(now)
	o.pids.expire(now)
}

// Pids are the processes that were in a namespace when it was last looked at, the oldest numbers first, at most 64. After the last
// one ended, it is they that are remembered, for some minutes.
func (f *Follower) Pids(namespace uint32) []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	pids, _ := f.owners.pids.get(namespace)
	return slices.Clone(pids)
}

// NamespaceOf tells which network namespace has a unicast address of global scope; not ok when none or several have it. When a
// namespace is gone, its addresses are remembered for some minutes, unless another one has them.
func (f *Follower) NamespaceOf(ip netip.Addr) (namespace uint32, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.owners.of(ip.Unmap().WithZone(""))
}

// HostNamespace is the inode of the host's network namespace.
func (f *Follower) HostNamespace() uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.owners.host
}

// listAddresses makes sure that all of a namespace's addresses are known, and only those.
func (f *Follower) listAddresses(n *namespace) error {
	if !f.opts.Addresses {
		return nil
	}
	old := n.addresses
	n.addresses = make(map[address]bool)
	fresh, err := n.netlink.list(unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg), func(m message) { f.apply(n, m) })
	if err == nil && !fresh {
		err = errBusy
	}
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	for a := range old {
		switch {
		case err != nil && !n.addresses[a]:
			n.addresses[a] = true // not known to be gone
		default:
			f.owners.removeAddress(a.ip, n.inode, now)
		}
	}
	return err
}

func (f *Follower) applyAddress(n *namespace, m message) {
	a, ok := parseAddress(m.data)
	if !ok || !f.opts.Addresses {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case m.kind == unix.RTM_NEWADDR && !n.addresses[a]:
		n.addresses[a] = true
		f.owners.addAddress(a.ip, n.inode)
	case m.kind == unix.RTM_DELADDR && n.addresses[a]:
		delete(n.addresses, a)
		f.owners.removeAddress(a.ip, n.inode, time.Now())
	}
}

// parseAddress reads an RTM_NEWADDR or RTM_DELADDR of a unicast address of global scope; others are not ok.
func parseAddress(data []byte) (a address, ok bool) {
	if len(data) < unix.SizeofIfAddrmsg || data[3] != unix.RT_SCOPE_UNIVERSE {
		return a, false
	}
	a.bits = data[1]
	a.index = int(int32(binary.NativeEndian.Uint32(data[4:])))
	var local, peer netip.Addr
	attributes(data[unix.SizeofIfAddrmsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(value)
		case unix.IFA_ADDRESS: // on a point-to-point link, that of the other side
			peer, _ = netip.AddrFromSlice(value)
		}
	})
	if a.ip = local; !local.IsValid() {
		a.ip = peer
	}
	return a, a.ip.IsValid() && a.ip.IsGlobalUnicast()
}
