// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/vishvananda/netlink"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// Whose an address is can be told also where only the host's interfaces are attached.
func TestKernelOwners(t *testing.T) {
	needs.Root(t)
	host, one, two := newContainer(t), newContainer(t), newContainer(t)
	for _, c := range []*container{host, one, two} {
		c.quiet()
	}
	host.veth("v1", one.space, "eth0")
	host.veth("v2", two.space, "eth0")
	one.up("eth0", "10.8.0.1/24", "fd08::1/64", "10.8.0.9/24")
	two.up("eth0", "10.8.0.2/24", "10.8.0.9/24")
	host.up("v1", "10.8.1.1/32")
	host.set("v2", 1)

	root := rootOf(t, host, one)
	r := host.follow(Options{Addresses: true, Include: []string{"v1"}, Root: root})
	r.has(host.space, "v1")
	assert.Empty(t, r.attachedIn(one.space))
	is := func(address string, want *container) {
		t.Helper()
		ip := netip.MustParseAddr(address)
		eventually(t, func() bool {
			inode, ok := r.NamespaceOf(ip)
			return ok == (want != nil) && (want == nil || inode == want.inode)
		}, "whose is %s", address)
	}
	is("10.8.0.1", one)
	is("::ffff:10.8.0.1", one)
	is("fd08::1", one)
	is("10.8.0.9", one)
	is("10.8.1.1", host)
	is("127.0.0.1", nil)
	is("10.8.0.2", nil)
	assert.Equal(t, []int{one.process.Process.Pid}, r.Pids(one.inode))
	assert.Nil(t, r.Pids(two.inode))

	two.enter(root)
	assert.NoError(t, r.Refresh(t.Context()))
	is("10.8.0.2", two)
	is("10.8.0.9", nil) // both have it
	address, err := netlink.ParseAddr("10.8.0.9/24")
	assert.NoError(t, err)
	assert.NoError(t, one.AddrDel(one.link("eth0"), address))
	is("10.8.0.9", two)
	assert.NoError(t, two.LinkDel(two.link("eth0")))
	is("10.8.0.2", two) // had it last
	assert.NoError(t, one.AddrAdd(one.link("eth0"), address))
	is("10.8.0.9", one)

	pid := one.process.Process.Pid
	one.kill()
	eventually(t, func() bool { return r.Namespaces() == 2 }, "it is followed for ever")
	is("10.8.0.1", &container{space: &space{inode: one.inode}})
	assert.Equal(t, []int{pid}, r.Pids(one.inode))
}
