// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/internal/netns"
)

// listings bounds how often a listing is made again at once when interfaces change while it is made.
const listings = 5

// namespace is a network namespace that is followed.
type namespace struct {
	inode  uint32
	host   bool
	attach bool // its interfaces are attached
	fd     int  // of its link, to enter it
	// netlink is subscribed in it.
	netlink *rtnetlink
	// process is a pidfd of a process in it, -1 for none; missing how often none was found in a row.
	process int
	missing int

	links map[int]*link
	// seen are the indices in a listing that is being made; nil when there is none.
	seen map[int]bool
	// stale: changes were lost, and the listing is to be made again.
	stale     bool
	addresses map[address]bool
}

func procBelow(root string) string {
	if root == "" {
		root = "/"
	}
	return filepath.Join(root, "proc")
}

// openHost opens the namespace of the calling thread, or with a root path that of process 1.
func (f *Follower) openHost() (*namespace, error) {
	link := netns.Thread
	if f.opts.Root != "" {
		link = filepath.Join(f.proc, "1", "ns", "net")
	}
	fd, inode, err := netns.Open(link)
	if errors.Is(err, fs.ErrPermission) && f.opts.Root != "" {
		// A Collector that shares the host's network, which is what most do, needs no right for it.
		f.limit("host", permission("see the host's network namespace (this process's own is taken for it)", "CAP_SYS_PTRACE", err))
		fd, inode, err = netns.Open(netns.Thread)
	}
	if err != nil {
		return nil, fmt.Errorf("the host's network namespace: %w", err)
	}
	return &namespace{inode: inode, host: true, attach: true, fd: fd, process: -1}, nil
}

// enter opens and follows a namespace that was found; nil when it is gone already.
func (f *Follower) enter(inode uint32, pids []int) (*namespace, error) {
	for _, pid := range pids {
		fd, found, err := netns.Open(filepath.Join(f.proc, strconv.Itoa(pid), "ns", "net"))
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH):
			continue
		case err != nil:
			return nil, permission("open other network namespaces", "CAP_SYS_PTRACE", err)
		case found != inode:
			_ = unix.Close(fd)
			continue
		}
		n := &namespace{inode: inode, fd: fd, process: -1, attach: f.opts.Namespaces == AllNamespaces}
		if err := f.add(n); err != nil {
			return nil, err
		}
		return n, nil
	}
	return nil, nil
}

// add follows a namespace, whose descriptor it takes, and attaches what is there.
func (f *Follower) add(n *namespace) error {
	err := netns.Within(n.fd, n.inode, func() (err error) {
		groups := uint32(unix.RTMGRP_LINK)
		if f.opts.Addresses {
			groups |= unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR
		}
		n.netlink, err = openNetlink(groups, f.buffer)
		return err
	})
	if err != nil {
		_ = unix.Close(n.fd)
		return permission("enter other network namespaces", "CAP_SYS_ADMIN", err)
	}
	n.links = make(map[int]*link)
	n.addresses = make(map[address]bool)
	if err := f.poll(n.netlink.fd, func() { f.read(n) }); err != nil {
		_ = n.netlink.close()
		_ = unix.Close(n.fd)
		return err
	}
	f.namespaces[n.inode] = n
	f.mu.Lock()
	f.owners.begin(n.inode)
	f.followed = len(f.namespaces)
	if n.host {
		f.owners.host = n.inode
	}
	f.mu.Unlock()
	f.list(n)
	f.reconcile(n)
	return nil
}

// remove lets go of a namespace, so that nothing of ours keeps it alive.
func (f *Follower) remove(n *namespace, now time.Time) {
	for index := range n.links {
		f.detach(Key{n.inode, index})
	}
	f.close(n.netlink.fd)
	if n.process >= 0 {
		f.close(n.process)
	}
	_ = unix.Close(n.fd)
	delete(f.namespaces, n.inode)
	f.mu.Lock()
	defer f.mu.Unlock()
	for a := range n.addresses {
		f.owners.removeAddress(a.ip, n.inode, now)
	}
	f.followed = len(f.namespaces)
}

// list makes sure that all of a namespace's interfaces and addresses are known, and only those.
func (f *Follower) list(n *namespace) {
	n.stale = true
	for range listings {
		n.seen = make(map[int]bool)
		fresh, err := n.netlink.list(unix.RTM_GETLINK, linkRequest(), func(m message) { f.apply(n, m) })
		seen := n.seen
		n.seen = nil
		if err == nil && fresh {
			for index := range n.links {
				if !seen[index] {
					f.gone(n, index)
				}
			}
			err = f.listAddresses(n)
			n.stale = err != nil
		}
		if err != nil {
			f.log.Debug("list interfaces", zap.Uint32("namespace", n.inode), zap.Error(err))
		}
		if !n.stale {
			break
		}
	}
	// What was lost may have been that an interface was removed and its index given to another one.
	for index := range n.links {
		if a := f.attached[Key{n.inode, index}]; a != nil && a.fd >= 0 && !bound(a.fd) {
			f.detach(a.Key())
		}
	}
}

// read handles what a namespace tells.
func (f *Follower) read(n *namespace) {
	if f.namespaces[n.inode] != n {
		return
	}
	lost, err := n.netlink.receive(func(m message) { f.apply(n, m) })
	if err != nil {
		f.log.Debug("read changes of interfaces", zap.Uint32("namespace", n.inode), zap.Error(err))
		n.stale = true
		f.soon(f.opts.Interval)
	}
	if lost {
		f.list(n)
	}
	f.reconcile(n)
}

// apply handles one message.
func (f *Follower) apply(n *namespace, m message) {
	switch m.kind {
	case unix.RTM_NEWLINK:
		l, ok := parseLink(m.data)
		if !ok {
			return
		}
		old := n.links[l.index]
		if old != nil && old.kind == l.kind {
			l.driver, l.bus = old.driver, old.bus
		}
		if old == nil && l.elsewhere {
			f.soon(soonest) // whose other side may be in a namespace that is not known yet
		}
		n.links[l.index] = l
		if n.seen != nil {
			n.seen[l.index] = true
		}
	case unix.RTM_DELLINK:
		if l, ok := parseLink(m.data); ok {
			f.gone(n, l.index)
		}
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		f.applyAddress(n, m)
	}
}

// gone handles that an interface was removed, or left for another namespace.
func (f *Follower) gone(n *namespace, index int) {
	delete(n.links, index)
	delete(n.seen, index)
	f.detach(Key{n.inode, index})
}

// reconcile attaches what is selected and not attached, and detaches what is attached and not selected any more.
func (f *Follower) reconcile(n *namespace) {
	if !n.attach {
		return
	}
	selected := f.rule.selected(n.links)
	wanted := make(map[int]bool, len(selected))
	for _, index := range selected {
		wanted[index] = true
	}
	for index := range n.links {
		if !wanted[index] {
			f.detach(Key{n.inode, index})
		}
	}
	for _, index := range selected {
		l := n.links[index]
		n.inquire(l)
		f.keep(n, n.describe(l))
	}
}

// inquire asks what rtnetlink does not tell.
func (n *namespace) inquire(l *link) {
	if l.described {
		return
	}
	l.described = true
	switch l.kind {
	case "veth":
		l.gro = gro(n.netlink.fd, l.name) && vethMerges()
		l.driver = l.kind
	case "bond":
		for _, member := range n.links {
			if member.master == l.index {
				n.inquire(member)
			}
		}
		l.driver = "bonding"
	default:
		if l.driver == "" {
			l.driver, l.bus = driver(n.netlink.fd, l.name)
		}
	}
}

// keep makes sure that an interface is attached, with the program for what it is now.
func (f *Follower) keep(n *namespace, i Interface) {
	key := i.Key()
	a := f.attached[key]
	if a == nil || a.Name != i.Name {
		// Before the program sees a packet.
		f.mu.Lock()
		f.names.put(key, i.Name)
		f.mu.Unlock()
	}
	if a == nil {
		a = &attachment{fd: -1}
	}
	now := time.Now()
	settled := a.Counting == i.Counting && (a.fd >= 0 && a.Err == nil || now.Before(a.retry))
	if settled && a.Interface == i {
		return
	}
	fd, err := a.fd, a.Err
	if !settled {
		fd, err = f.attach(n, a, i)
	}
	f.mu.Lock()
	a.Interface, a.fd, a.Err = i, fd, err
	f.attached[key] = a // not before: it is listed with its outcome
	f.mu.Unlock()
	if settled {
		return
	}
	if err == nil {
		a.wait = 0
		f.log.Debug("attached to an interface", zap.String("interface", i.Name), zap.Uint32("namespace", i.Namespace))
		return
	}
	a.wait = min(max(2*a.wait, f.opts.Interval), time.Minute)
	a.retry = now.Add(a.wait)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.Is(err, os.ErrClosed) {
		return // removed meanwhile
	}
	f.log.Debug("an interface is not attached", zap.String("interface", i.Name), zap.Uint32("namespace", i.Namespace), zap.Error(err))
}

// attach gives an interface a socket, or the socket that it has another program.
func (f *Follower) attach(n *namespace, a *attachment, i Interface) (fd int, err error) {
	program, err := f.opts.Attach(i)
	switch {
	case err != nil:
		return a.fd, err
	case program == nil:
		return a.fd, errors.New("there is no program for it")
	case a.fd >= 0:
		err = setProgram(a.fd, program.FD())
		if !errors.Is(err, unix.ENOMEM) {
			return a.fd, err
		}
		// Until one has taken the other's place, a socket is charged for both (net.core.optmem_max, 20 KiB before Linux 6.7). A socket
		// of its own has room for it. What passes in between is not counted.
		f.mu.Lock()
		a.count()
		_ = unix.Close(a.fd)
		a.fd = -1
		f.mu.Unlock()
	}
	fd = -1
	err = netns.Within(n.fd, n.inode, func() (err error) {
		fd, err = attach(i.Index, program.FD(), i.Counting.Loopback)
		return err
	})
	return fd, err
}

// detach closes an interface's socket, if it has one. What was counted stays in the program's maps.
func (f *Follower) detach(key Key) {
	a := f.attached[key]
	if a == nil {
		return
	}
	f.mu.Lock()
	a.count()
	f.released.Passed += a.Passed
	f.released.Dropped += a.Dropped
	delete(f.attached, key)
	f.names.leave(key, time.Now())
	f.mu.Unlock()
	f.release(a.fd)
	if f.opts.Detach != nil {
		f.opts.Detach(a.Interface)
	}
}

// release closes a socket. The kernel takes an RCU grace period for each, some 20 ms, which those that are closed at a time share.
func (f *Follower) release(fd int) {
	if fd < 0 {
		return
	}
	f.releasing <- struct{}{}
	f.releases.Go(func() {
		_ = unix.Close(fd)
		<-f.releasing
	})
}
