// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// has waits until exactly these interfaces are attached in a namespace.
func (r *run) has(s *space, names ...string) {
	r.t.Helper()
	slices.Sort(names)
	var got []string
	ok := assert.Eventually(r.t, func() bool {
		got = r.attachedIn(s)
		slices.Sort(got)
		return slices.Equal(got, names)
	}, time.Minute, 2*time.Millisecond)
	require.True(r.t, ok, "attached: %v, not %v", got, names)
}

// ping sends datagrams of 100 bytes with their headers out of an interface of a namespace.
func (s *space) ping(address string, count int) {
	s.t.Helper()
	s.in(func() {
		c, err := net.ListenPacket("udp4", "") // not connected: nobody listens there
		require.NoError(s.t, err)
		defer c.Close()
		for range count {
			_, err := c.WriteTo(make([]byte, 58), &net.UDPAddr{IP: net.ParseIP(address), Port: 9})
			require.NoError(s.t, err)
		}
	})
}

// neighbour spares an interface the question who has an address.
func (s *space) neighbour(name, address string, hardware net.HardwareAddr) {
	s.t.Helper()
	require.NoError(s.t, s.NeighSet(&netlink.Neigh{
		LinkIndex: s.index(name), State: netlink.NUD_PERMANENT, IP: net.ParseIP(address), HardwareAddr: hardware,
	}))
}

// A host with a bridge, two containers on it, and a network of its own to the outside.
func TestKernelUplinks(t *testing.T) {
	needs.Root(t)
	host, one, two, outside := newContainer(t), newContainer(t), newContainer(t), newContainer(t)
	host.add(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}})
	for port, c := range map[string]*container{"veth1": one, "veth2": two} {
		host.veth(port, c.space, "eth0")
		require.NoError(t, host.LinkSetMaster(host.link(port), host.link("br0")))
	}
	host.veth("uplink", outside.space, "far")
	host.up("uplink", "10.1.0.1/24")
	host.add(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "overlay"}, VxlanId: 3, Port: 4789, SrcAddr: net.IPv4(10, 1, 0, 1)})
	host.add(&netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: "mac0", ParentIndex: host.index("uplink")}, Mode: netlink.MACVLAN_MODE_BRIDGE})
	host.add(&netlink.Macvlan{
		LinkAttrs: netlink.LinkAttrs{Name: "mac1", ParentIndex: host.index("uplink"), Namespace: netlink.NsFd(two.fd)},
		Mode:      netlink.MACVLAN_MODE_BRIDGE,
	})
	for _, l := range []netlink.Link{
		&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "vlan7", ParentIndex: host.index("uplink")}, VlanId: 7},
		&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "dummy7"}},
		&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: "ifb7"}},
	} {
		if err := host.LinkAdd(l); err != nil {
			require.ErrorIs(t, err, unix.EOPNOTSUPP)
		}
	}
	host.tuntap("vpn0", unix.IFF_TUN)

	// There is no hardware in namespaces of a test's own: what is linked to elsewhere are the uplinks.
	root := rootOf(t, host, one, two, outside)
	r := host.follow(Options{Namespaces: AllNamespaces, Root: root})
	r.has(host.space, "uplink")
	r.has(one.space, "eth0")
	r.has(two.space, "eth0", "mac1")
	r.has(outside.space, "far")
	a := r.find(host.space, "uplink")
	assert.True(t, a.Host)
	assert.True(t, a.PeerElsewhere)
	assert.True(t, a.Up)
	assert.Equal(t, "veth", a.Kind)
	assert.Equal(t, "veth", a.Driver)
	assert.False(t, a.Physical)
	assert.Equal(t, uint16(unix.ARPHRD_ETHER), a.Hardware)
	assert.False(t, r.find(one.space, "eth0").Host)
	assert.Empty(t, r.Limits())

	// A container that has only a tun device.
	rootless := newContainer(t)
	rootless.tuntap("tap0", unix.IFF_TAP)
	rootless.enter(root)
	require.NoError(t, r.Refresh(t.Context()))
	r.has(rootless.space, "tap0")

	// What leaves a bridge by it now is an uplink; what becomes a part of one is none any more.
	require.NoError(t, host.LinkSetNoMaster(host.link("veth1")))
	r.has(host.space, "uplink", "veth1")
	require.NoError(t, host.LinkSetMaster(host.link("veth1"), host.link("br0")))
	r.has(host.space, "uplink")
}

func TestKernelHostOnly(t *testing.T) {
	needs.Root(t)
	a, b := pair(t)
	r := a.follow(Options{Include: []string{"*"}, Exclude: []string{"l?"}})
	r.has(a.space, "left")
	assert.Empty(t, r.attachedIn(b.space))
	assert.Equal(t, 1, r.Namespaces())
}

// The receiver is in a container, and the host's network is another one.
func TestKernelRootPath(t *testing.T) {
	needs.Root(t)
	a, b := pair(t)
	r := a.follow(Options{Root: rootOf(t, b, a)})
	r.has(b.space, "right")
	r.has(a.space)
	assert.True(t, r.find(b.space, "right").Host)
	assert.Equal(t, b.inode, r.HostNamespace())
}

// declines refuses all interfaces, and remembers them.
type declines struct {
	mu   sync.Mutex
	seen []Interface
}

var errDeclined = errors.New("declined")

func (n *declines) attach(i Interface) (*ebpf.Program, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = append(n.seen, i)
	return nil, errDeclined
}

func (n *declines) list() []Interface {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.seen)
}

func TestKernelAttachFails(t *testing.T) {
	needs.Root(t)
	a, _ := pair(t)
	var declined declines
	r := a.follow(Options{Include: []string{"left"}, Attach: declined.attach, Interval: 5 * time.Millisecond})
	list := r.Attachments()
	require.Len(t, list, 1)
	assert.ErrorIs(t, list[0].Err, errDeclined)
	eventually(t, func() bool { return len(declined.list()) > 2 }, "it is not tried again")
}

// An interface that is renamed keeps its socket, one that goes down and up again its counts.
func TestKernelRenameDownUp(t *testing.T) {
	needs.Root(t)
	a, b := silent(t)
	r := a.follow(Options{})
	r.has(a.space, "left")
	key := r.find(a.space, "left").Key()
	c := r.counter(key)
	const each = 50

	sentBefore := func() uint64 { _, sent := c.read(t); return sent.Packets }
	base := sentBefore()
	before := a.counters(key.Index)
	same := func() {
		t.Helper()
		eventually(t, func() bool {
			now := a.counters(key.Index)
			return now.sentPackets-before.sentPackets == sentBefore()-base
		}, "counts differ from the counters")
	}
	a.ping("10.1.0.2", each)
	same()
	err := a.LinkSetName(a.link("left"), "renamed")
	if errors.Is(err, unix.EBUSY) {
		t.Skip("this kernel renames no interface that is up, which is so before Linux 6.2")
	}
	require.NoError(t, err)
	r.has(a.space, "renamed")
	name, ok := r.Interface(a.inode, key.Index)
	assert.True(t, ok)
	assert.Equal(t, "renamed", name)
	a.ping("10.1.0.2", each)
	same()

	a.set("renamed", 0)
	eventually(t, func() bool { return !r.find(a.space, "renamed").Up }, "it is not seen to be down")
	a.set("renamed", unix.IFF_UP)
	eventually(t, func() bool { return r.find(a.space, "renamed").Up }, "it is not seen to be up")
	a.neighbour("renamed", "10.1.0.2", b.link("right").Attrs().HardwareAddr)
	a.ping("10.1.0.2", each)
	eventually(t, func() bool { return sentBefore()-base >= 3*each }, "the socket is not bound any more")
	same()
	assert.Equal(t, 1, r.attached, "it was attached again")
	assert.Zero(t, r.detached)
}

// An interface that moves to another namespace is attached there; one that gets the index of a removed one is another one.
func TestKernelMoveAndReuse(t *testing.T) {
	needs.Root(t)
	a, b := silent(t)
	other := newContainer(t)
	r := a.follow(Options{Namespaces: AllNamespaces, Include: []string{"*"}, Exclude: []string{"lo"}, Root: rootOf(t, a, b, other)})
	r.has(a.space, "left")
	r.has(other.space)
	left := a.link("left")
	key := Key{a.inode, left.Attrs().Index}
	require.NoError(t, a.LinkSetNsFd(left, other.fd))
	r.has(a.space)
	r.has(other.space, "left")
	assert.Equal(t, 1, r.detached)
	name, ok := r.Interface(a.inode, key.Index)
	assert.True(t, ok, "the name is forgotten")
	assert.Equal(t, "left", name)

	reused := netlink.NewVeth(netlink.LinkAttrs{Name: "reused", Index: key.Index})
	reused.PeerName, reused.PeerNamespace = "far", netlink.NsFd(b.fd)
	a.add(reused)
	r.has(a.space, "reused")
	name, _ = r.Interface(a.inode, key.Index)
	assert.Equal(t, "reused", name)
	// At once, so that both are told in one go.
	require.NoError(t, a.LinkDel(a.link("reused")))
	reused.Name, reused.PeerName = "again", "far2"
	a.add(reused)
	r.has(a.space, "again")
	before := a.counters(key.Index)
	_, sent := r.counter(key).read(t)
	a.up("again", "10.5.0.1/24")
	b.up("far2", "10.5.0.2/24")
	a.neighbour("again", "10.5.0.2", b.link("far2").Attrs().HardwareAddr)
	a.running("again")
	a.ping("10.5.0.2", 20)
	eventually(t, func() bool {
		now := a.counters(key.Index)
		_, counted := r.counter(key).read(t)
		grown := counted.Packets - sent.Packets
		// What it sends in the moment between being up and the kernel's telling so to packet sockets is seen by none.
		return grown >= 20 && grown <= now.sentPackets-before.sentPackets
	}, "the new interface is not the one that is counted")
}

// Programs that let packets pass are told by what the socket had to drop.
func TestKernelStatistics(t *testing.T) {
	needs.Root(t)
	s := newContainer(t)
	var c *counter
	defer func() { c.close() }()
	r := s.follow(Options{Include: []string{"lo"}, Attach: func(i Interface) (_ *ebpf.Program, err error) {
		if c, err = newCounter(i, 0xffff); err != nil {
			return nil, err
		}
		return c.program, nil
	}})
	require.NoError(t, r.Attachments()[0].Err)
	const packets = 3000
	s.ping("127.0.0.1", packets)
	eventually(t, func() bool { received, _ := c.read(t); return received.Packets >= packets }, "they do not arrive")
	a := r.Attachments()[0]
	again := r.Attachments()[0]
	assert.GreaterOrEqual(t, a.Passed, uint64(packets))
	assert.Positive(t, a.Dropped)
	assert.Less(t, a.Dropped, a.Passed)
	assert.Equal(t, a.Dropped, again.Dropped, "reading sets the kernel's count back")
	dropped := a.Dropped
	require.NoError(t, r.Follower.Close())
	assert.Equal(t, dropped, r.Dropped(), "forgotten after the end")
}

// When a feature changes how counters count, another program takes over, and no packet is lost or counted twice.
func TestKernelProgramSwap(t *testing.T) {
	needs.Root(t)
	if !vethMerges() {
		t.Skip("on this kernel no feature of a veth changes its counters, which is so before Linux 5.13")
	}
	_, b := silent(t)
	var mu sync.Mutex
	var programs []*counter
	var seen []Counting
	r := b.follow(Options{Include: []string{"right"}, Attach: func(i Interface) (*ebpf.Program, error) {
		mu.Lock()
		defer mu.Unlock()
		c, err := newCounter(i, 0)
		if err != nil {
			return nil, err
		}
		programs, seen = append(programs, c), append(seen, i.Counting)
		return c.program, nil
	}})
	before := b.counters(b.index("right"))
	stop := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				b.ping("10.1.0.1", 100)
			}
		}
	})
	for i := range 10 {
		b.ethtool("right", setGRO, i%2 == 0)
		eventually(t, func() bool { return r.Attachments()[0].Counting.WireReceive == (i%2 == 0) }, "the change is not seen")
	}
	close(stop)
	load.Wait()
	mu.Lock()
	defer mu.Unlock()
	assert.Len(t, programs, 11)
	assert.NotEqual(t, seen[0], seen[1])
	eventually(t, func() bool {
		grown := b.counters(b.index("right")).since(before)
		var sent uint64
		for _, c := range programs {
			_, s := c.read(t)
			sent += s.Packets
		}
		return sent == grown.sentPackets+grown.sentDropped
	}, "packets were lost or counted twice")
	require.NoError(t, r.Follower.Close())
	for _, c := range programs {
		c.close()
	}
}
