// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// A namespace is let go of when its last process has ended, and then is gone: the other ends of its veths are, too.
func TestKernelNamespaceEnds(t *testing.T) {
	needs.Root(t)
	host := newContainer(t)
	root := rootOf(t, host)
	r := host.follow(Options{Namespaces: AllNamespaces, Addresses: true, Root: root})
	require.NoError(t, r.Refresh(t.Context()))
	open, followed := descriptors(t), r.Namespaces()
	for round := range 4 {
		var list []*container
		for i := range 6 {
			c := newContainer(t)
			c.enter(root)
			host.veth(fmt.Sprintf("v%d", i), c.space, "eth0")
			c.up("eth0", fmt.Sprintf("10.7.%d.%d/24", round, i+1))
			list = append(list, c)
		}
		for i, c := range list {
			r.has(c.space, "eth0")
			assert.Equal(t, []int{c.process.Process.Pid}, r.Pids(c.inode))
			eventually(t, func() bool { return r.find(host.space, fmt.Sprintf("v%d", i)) != nil }, "not attached")
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
	r.forget()
	assert.Equal(t, open, descriptors(t), "descriptors are left")
}

// Hundreds of interfaces come and go while traffic flows on one; messages get lost when there are too many to be read.
func TestKernelChurn(t *testing.T) {
	needs.Root(t)
	before := descriptors(t)
	a, b := silent(t)
	shared, err := newCounter(Interface{}, 0)
	require.NoError(t, err)
	var left *counter
	opts := Options{Include: []string{"*"}, Exclude: []string{"lo"}, Namespaces: AllNamespaces, Root: rootOf(t, a, b)}
	opts.Attach = func(i Interface) (_ *ebpf.Program, err error) {
		if i.Name != "left" {
			return shared.program, nil
		}
		if left == nil {
			if left, err = newCounter(i, 0); err != nil {
				return nil, err
			}
		}
		return left.program, nil
	}
	r := a.follow(opts)
	index := a.index("left")
	start := a.counters(index)
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
		grown := a.counters(index).since(start)
		_, sent := left.read(t)
		return grown.sentPackets+grown.sentDropped == sent.Packets && grown.sentBytes+100*grown.sentDropped == sent.Bytes
	}, "the one that stayed was not counted exactly")
	r.close()
	shared.close()
	left.close()
	a.kill()
	b.kill()
	assert.Equal(t, before, descriptors(t), "descriptors are left")
}

// A socket whose queue overflows makes everything be listed again.
func TestKernelOverrun(t *testing.T) {
	needs.Root(t)
	a, b := pair(t)
	shared, err := newCounter(Interface{}, 0)
	require.NoError(t, err)
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
	needs.Root(t)
	a, b := pair(t)
	root := rootOf(t, a, b)
	before := descriptors(t)
	for range 20 {
		r := a.follow(Options{Namespaces: AllNamespaces, Addresses: true, Root: root})
		assert.NotEmpty(t, r.Attachments())
		r.close()
		require.NoError(t, r.Follower.Close(), "closing twice")
		assert.Empty(t, r.Attachments())
		assert.Error(t, r.Refresh(t.Context()))
	}
	assert.Equal(t, before, descriptors(t))
}
