// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

// Interface is a network interface as it was last seen.
type Interface struct {
	// Namespace is the inode of its network namespace, as in the link /proc/PID/ns/net.
	Namespace uint32
	// Host tells whether that is the namespace that the follower was started in; with a root path, that of the host's
	// process 1.
	Host bool
	// Index is unique in its namespace at any one time; the kernel may give it to another interface later.
	Index int
	Name  string
	// Kind is rtnetlink's IFLA_INFO_KIND: "veth", "bridge", "vlan". It is empty for most hardware and for loopback.
	Kind string
	// Hardware is the type of the link layer, ARPHRD_* of include/uapi/linux/if_arp.h.
	Hardware uint16
	// Driver is what ethtool -i says; empty for what has none, and for interfaces that are not attached.
	Driver string
	// Physical tells whether a device of some bus is behind it, a virtual machine's devices among them.
	Physical bool
	// Master is the index of the bridge, bond or the like that it is a part of, 0 for none.
	Master int
	// PeerElsewhere tells that what is on its other side (a veth's peer, a VLAN's parent, a tunnel's outer socket) is in
	// another namespace.
	PeerElsewhere bool
	Up            bool
	Counting      Counting
}

// Key is how an interface is known: indices are unique in a namespace only.
type Key struct {
	Namespace uint32
	Index     int
}

// Key is what tells the interface from others.
func (i Interface) Key() Key { return Key{i.Namespace, i.Index} }

// link is what rtnetlink says of an interface, as far as it is needed.
type link struct {
	index    int
	name     string
	kind     string
	hardware uint16
	flags    uint32
	master   int
	// elsewhere: the link's other side has an id of another namespace.
	elsewhere bool
	// parent: a device of a bus is named (since Linux 5.14).
	parent bool

	// What rtnetlink does not say, asked for when the interface is attached.
	described bool
	driver    string
	bus       string
	gro       bool
}

func (n *namespace) describe(l *link) Interface {
	i := Interface{
		Namespace:     n.inode,
		Host:          n.host,
		Index:         l.index,
		Name:          l.name,
		Kind:          l.kind,
		Hardware:      l.hardware,
		Driver:        l.driver,
		Physical:      l.parent || l.bus != "",
		Master:        l.master,
		PeerElsewhere: l.elsewhere,
		Up:            l.flags&flagUp != 0,
	}
	i.Counting = n.counting(l)
	return i
}
