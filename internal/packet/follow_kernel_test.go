// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"errors"
	"fmt"
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
	}, 10*time.Second, 2*time.Millisecond)
	require.True(r.t, ok, "attached: %v, not %v", got, names)
}

// ping sends datagrams of 100 bytes with their headers out of an interface of a namespace.
func (s *space) ping(address string, count int) {
	s.t.Helper()
	s.in(func() {
		c, err := net.Dial("udp4", net.JoinHostPort(address, "9"))
		require.NoError(s.t, err)
		defer c.Close()
		for range count {
			_, err := c.Write(make([]byte, 58))
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
	needRoot(t)
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
	r := host.follow(Options{Namespaces: AllNamespaces})
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
	require.NoError(t, r.Refresh(t.Context()))
	r.has(rootless.space, "tap0")

	// What leaves a bridge by it now is an uplink; what becomes a part of one is none any more.
	require.NoError(t, host.LinkSetNoMaster(host.link("veth1")))
	r.has(host.space, "uplink", "veth1")
	require.NoError(t, host.LinkSetMaster(host.link("uplink"), host.link("br0")))
	r.has(host.space, "veth1")
}

func TestKernelHostOnly(t *testing.T) {
	needRoot(t)
	a, b := pair(t)
	r := a.follow(Options{Include: []string{"*"}, Exclude: []string{"l?"}})
	r.has(a.space, "left")
	assert.Empty(t, r.attachedIn(b.space))
	assert.Equal(t, 1, r.Namespaces())
}

// The receiver in a container of which the host's network is another.
func TestKernelRootPath(t *testing.T) {
	needRoot(t)
	a, _ := pair(t)
	var declined atomicNames
	var f *Follower
	var err error
	a.in(func() {
		f, err = Follow(t.Context(), Options{Root: "/", Include: []string{"*"}, Attach: declined.attach})
	})
	require.NoError(t, err)
	defer f.Close()
	for _, i := range declined.list() {
		assert.NotEqual(t, a.inode, i.Namespace, "%+v", i)
		assert.True(t, i.Host)
	}
	assert.NotEmpty(t, declined.list())
}

// atomicNames declines all interfaces, and remembers them.
type atomicNames struct {
	mu   sync.Mutex
	seen []Interface
}

var errDeclined = errors.New("declined")

func (n *atomicNames) attach(i Interface) (*ebpf.Program, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = append(n.seen, i)
	return nil, errDeclined
}

func (n *atomicNames) list() []Interface {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.seen)
}

func TestKernelAttachFails(t *testing.T) {
	needRoot(t)
	a, _ := pair(t)
	var declined atomicNames
	r := a.follow(Options{Include: []string{"left"}, Attach: declined.attach, Interval: 5 * time.Millisecond})
	list := r.Attachments()
	require.Len(t, list, 1)
	assert.ErrorIs(t, list[0].Err, errDeclined)
	eventually(t, func() bool { return len(declined.list()) > 2 }, "it is not tried again")
}

// An interface that is renamed keeps its socket, one that goes down and up again its counts.
func TestKernelRenameDownUp(t *testing.T) {
	needRoot(t)
	a, b := pair(t)
	a.neighbour("left", "10.1.0.2", b.link("right").Attrs().HardwareAddr)
	r := a.follow(Options{})
	r.has(a.space, "left")
	key := r.find(a.space, "left").Key()
	c := r.counter(key)
	const each = 50

	sentBefore := func() uint64 { _, sent := c.read(t); return sent.Packets }
	base := sentBefore()
	before, _ := a.counters(key.Index)
	same := func() {
		t.Helper()
		eventually(t, func() bool {
			now, _ := a.counters(key.Index)
			return now.sentPackets-before.sentPackets == sentBefore()-base
		}, "counts differ from the counters")
	}
	a.ping("10.1.0.2", each)
	same()
	require.NoError(t, a.LinkSetName(a.link("left"), "renamed"))
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
	needRoot(t)
	a, b := pair(t)
	other := newContainer(t)
	r := a.follow(Options{Namespaces: AllNamespaces, Include: []string{"*"}, Exclude: []string{"lo"}})
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
	before, _ := a.counters(key.Index)
	_, sent := r.counter(key).read(t)
	a.up("again", "10.5.0.1/24")
	b.up("far2", "10.5.0.2/24")
	a.neighbour("again", "10.5.0.2", b.link("far2").Attrs().HardwareAddr)
	a.ping("10.5.0.2", 20)
	eventually(t, func() bool {
		now, _ := a.counters(key.Index)
		_, counted := r.counter(key).read(t)
		return now.sentPackets-before.sentPackets >= 20 && now.sentPackets-before.sentPackets == counted.Packets-sent.Packets
	}, "the new interface is not the one that is counted")
}

// Programs that let packets pass are told by what the socket had to drop.
func TestKernelStatistics(t *testing.T) {
	needRoot(t)
	s := newSpace(t)
	var c *counter
	defer func() { c.close() }()
	r := s.follow(Options{Include: []string{"lo"}, Attach: func(i Interface) (*ebpf.Program, error) {
		c = newCounter(t, i, 0xffff)
		return c.program, nil
	}})
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
	needRoot(t)
	a, b := pair(t)
	b.neighbour("right", "10.1.0.1", a.link("left").Attrs().HardwareAddr)
	var mu sync.Mutex
	var programs []*counter
	var seen []Counting
	r := b.follow(Options{Include: []string{"right"}, Attach: func(i Interface) (*ebpf.Program, error) {
		mu.Lock()
		defer mu.Unlock()
		c := newCounter(t, i, 0)
		programs, seen = append(programs, c), append(seen, i.Counting)
		return c.program, nil
	}})
	before, _ := b.counters(b.index("right"))
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
		now, _ := b.counters(b.index("right"))
		var sent uint64
		for _, c := range programs {
			_, s := c.read(t)
			sent += s.Packets
		}
		return sent == now.sentPackets-before.sentPackets
	}, "packets were lost or counted twice")
	for _, c := range programs {
		c.close()
	}
}

// A namespace is let go of when its last process has ended, and then is gone: the other ends of its veths are, too.
func TestKernelNamespaceEnds(t *testing.T) {
	needRoot(t)
	host := newContainer(t)
	r := host.follow(Options{Namespaces: AllNamespaces, Addresses: true, Exclude: []string{"none"}})
	require.NoError(t, r.Refresh(t.Context()))
	open, followed := descriptors(t), r.Namespaces()
	for round := range 4 {
		var list []*container
		for i := range 6 {
			c := newContainer(t)
			host.veth(fmt.Sprintf("v%d", i), c.space, "eth0")
			c.up("eth0", fmt.Sprintf("10.7.%d.%d/24", round, i+1))
			list = append(list, c)
		}
		for i, c := range list {
			r.has(c.space, "eth0")
			assert.Equal(t, []int{c.process.Process.Pid}, r.Pids(c.inode))
			require.Contains(t, r.attachedIn(host.space), fmt.Sprintf("v%d", i))
		}
		for _, c := range list {
			c.kill()
		}
		begin := time.Now()
		eventually(t, func() bool {
			links, err := host.LinkList()
			return err == nil && len(links) == 1
		}, "namespaces stay alive")
		t.Logf("round %d: %d namespaces went in %v", round, len(list), time.Since(begin))
		for _, c := range list {
			name, ok := r.Interface(c.inode, 2)
			assert.True(t, ok)
			assert.Equal(t, "eth0", name)
		}
	}
	r.has(host.space)
	eventually(t, func() bool { return r.Namespaces() == followed }, "namespaces are still followed")
	assert.Equal(t, open+len(r.counters), descriptors(t)-len(r.counters), "descriptors are left")
}

// Hundreds of interfaces come and go while traffic flows on one; messages get lost when there are too many to be read.
func TestKernelChurn(t *testing.T) {
	needRoot(t)
	before := descriptors(t)
	a, b := pair(t)
	a.neighbour("left", "10.1.0.2", b.link("right").Attrs().HardwareAddr)
	shared := newCounter(t, Interface{}, 0)
	var left *counter
	opts := Options{Include: []string{"*"}, Exclude: []string{"lo"}, Namespaces: AllNamespaces}
	opts.Attach = func(i Interface) (*ebpf.Program, error) {
		if i.Name == "left" {
			if left == nil {
				left = newCounter(t, i, 0)
			}
			return left.program, nil
		}
		return shared.program, nil
	}
	r := a.follow(opts)
	index := a.index("left")
	start, _ := a.counters(index)
	stop := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				a.ping("10.1.0.2", 50)
			}
		}
	})
	const pairs = 300
	for i := range pairs {
		a.veth(fmt.Sprintf("a%d", i), b.space, fmt.Sprintf("b%d", i))
	}
	eventually(t, func() bool { return len(r.attachedIn(a.space)) == pairs+1 && len(r.attachedIn(b.space)) == pairs+1 },
		"%d and %d are attached", len(r.attachedIn(a.space)), len(r.attachedIn(b.space)))
	for i := range pairs {
		l := a.link(fmt.Sprintf("a%d", i))
		switch i % 3 {
		case 0:
			require.NoError(t, a.LinkDel(l))
		case 1:
			require.NoError(t, a.LinkSetName(l, fmt.Sprintf("c%d", i)))
		case 2:
			require.NoError(t, a.LinkSetNsFd(l, b.fd))
		}
	}
	eventually(t, func() bool {
		return len(r.attachedIn(a.space)) == pairs/3+1 && len(r.attachedIn(b.space)) == pairs/3*3+1
	}, "not all changes are seen")
	for i := range pairs {
		if i%3 == 1 {
			assert.NotNil(t, r.find(a.space, fmt.Sprintf("c%d", i)))
		}
	}
	close(stop)
	load.Wait()
	eventually(t, func() bool {
		now, _ := a.counters(index)
		_, sent := left.read(t)
		return now.sentPackets-start.sentPackets == sent.Packets && now.sentBytes-start.sentBytes == sent.Bytes
	}, "the one that stayed was not counted exactly")
	r.close()
	shared.close()
	left.close()
	a.kill()
	b.kill()
	assert.LessOrEqual(t, descriptors(t), before+2) // the pipes to the processes are closed later
}

// A socket whose queue overflows makes everything be listed again.
func TestKernelOverrun(t *testing.T) {
	needRoot(t)
	a, b := pair(t)
	shared := newCounter(t, Interface{}, 0)
	defer shared.close()
	var hold sync.Mutex
	r := a.follow(Options{Include: []string{"*"}, Attach: func(Interface) (*ebpf.Program, error) {
		hold.Lock()
		defer hold.Unlock()
		return shared.program, nil
	}})
	r.has(a.space, "lo", "left")
	// While the follower waits for a program, nobody reads.
	require.NoError(t, unix.SetsockoptInt(r.namespaces[a.inode].netlink.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096))
	hold.Lock()
	a.veth("first", b.space, "f")
	for i := range 50 {
		a.veth(fmt.Sprintf("a%d", i), b.space, fmt.Sprintf("b%d", i))
		if i%2 == 0 {
			require.NoError(t, a.LinkDel(a.link(fmt.Sprintf("a%d", i))))
		}
	}
	require.NoError(t, a.LinkDel(a.link("left")))
	hold.Unlock()
	want := []string{"lo", "first"}
	for i := 1; i < 50; i += 2 {
		want = append(want, fmt.Sprintf("a%d", i))
	}
	r.has(a.space, want...)
}

func TestKernelLifecycle(t *testing.T) {
	needRoot(t)
	a, _ := pair(t)
	before := descriptors(t)
	for range 20 {
		r := a.follow(Options{Namespaces: AllNamespaces, Addresses: true})
		assert.NotEmpty(t, r.Attachments())
		r.close()
		require.NoError(t, r.Follower.Close(), "closing twice")
		assert.Empty(t, r.Attachments())
		assert.Error(t, r.Refresh(t.Context()))
	}
	assert.Equal(t, before, descriptors(t))
}
