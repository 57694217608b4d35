// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"fmt"
	"net"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ledger compares interfaces' counters with what programs counted since.
type ledger struct {
	*run
	spaces []*space
	before map[Key]counters
}

// open follows all interfaces of the first space and of the others, beginning at a moment when nothing moves.
func open(containers ...*container) *ledger {
	t := containers[0].t
	t.Helper()
	var spaces []*space
	for _, c := range containers {
		spaces = append(spaces, c.space)
	}
	l := &ledger{spaces: spaces}
	for range 50 {
		before := l.counters()
		r := spaces[0].follow(Options{Include: []string{"*"}, Namespaces: AllNamespaces, Root: rootOf(t, containers...)})
		for _, s := range spaces {
			links, err := s.LinkList()
			require.NoError(t, err)
			require.Len(t, r.attachedIn(s), len(links))
		}
		if after := l.counters(); assert.ObjectsAreEqual(before, after) {
			l.run, l.before = r, after
			return l
		}
		r.close()
		time.Sleep(50 * time.Millisecond)
	}
	require.FailNow(t, "the namespaces never are quiet")
	return nil
}

func (l *ledger) counters() map[Key]counters {
	all := make(map[Key]counters)
	for _, s := range l.spaces {
		links, err := s.LinkList()
		require.NoError(s.t, err)
		for _, link := range links {
			all[Key{s.inode, link.Attrs().Index}] = s.counters(link.Attrs().Index)
		}
	}
	return all
}

// patience bounds what only a fault keeps from coming to an end.
const patience = 2 * time.Minute

// balance compares when nothing moves any more, but for what an interface says it dropped, and returns what moved by the interfaces' names. Some may count otherwise than
// is known from their own side. A packet may be on its way from a counter to the program, or back, so that both are
// read again while they differ.
func (l *ledger) balance(otherwise map[string]func(*Counting)) map[string]counters {
	t := l.spaces[0].t
	t.Helper()
	var differences []string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		before := l.counters()
		moved := make(map[string]counters)
		differences = nil
		for _, a := range l.Attachments() {
			how := a.Counting
			if fn := otherwise[a.Name]; fn != nil {
				fn(&how)
			}
			grown := before[a.Key()].since(l.before[a.Key()])
			c := l.counter(a.Key())
			if counted := c.as(t, how); !grown.agree(counted) {
				received, sent := c.read(t)
				differences = append(differences, fmt.Sprintf("%s (%s) in %d, %+v:\ngrown    %+v\ncounted  %+v\nreceived %+v\nsent     %+v",
					a.Name, a.Kind, a.Namespace, how, grown, counted, received, sent))
			}
			moved[a.Name] = grown
		}
		if len(differences) == 0 && assert.ObjectsAreEqual(before, l.counters()) {
			return moved
		}
	}
	require.Empty(t, differences)
	require.FailNow(t, "the namespaces never are quiet")
	return nil
}

// talk sends and receives by TCP and UDP between two namespaces, so that large packets and small ones go both ways.
func talk(from, to *space, address string) {
	t := from.t
	t.Helper()
	const bulk = 3 << 20
	var listener net.Listener
	var datagrams net.PacketConn
	to.in(func() {
		var err error
		listener, err = net.Listen("tcp", net.JoinHostPort(address, "0"))
		require.NoError(t, err)
		datagrams, err = net.ListenPacket("udp", net.JoinHostPort(address, "0"))
		require.NoError(t, err)
	})
	defer listener.Close()
	defer datagrams.Close()
	served := make(chan error, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			served <- err
			return
		}
		defer c.Close()
		buffer := make([]byte, 1<<20)
		for left := bulk; left > 0; {
			n, err := c.Read(buffer)
			if err != nil {
				served <- err
				return
			}
			left -= n
		}
		_, err = c.Write(make([]byte, bulk/2))
		served <- err
	}()
	echoed := make(chan error, 1)
	go func() {
		buffer := make([]byte, 2048)
		for {
			n, peer, err := datagrams.ReadFrom(buffer)
			if err != nil {
				echoed <- nil
				return
			}
			if _, err := datagrams.WriteTo(buffer[:n/2], peer); err != nil {
				echoed <- err
				return
			}
		}
	}()
	from.in(func() {
		c, err := net.DialTimeout("tcp", listener.Addr().String(), patience)
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
		_, err = c.Write(make([]byte, bulk))
		require.NoError(t, err)
		buffer := make([]byte, 1<<20)
		for left := bulk / 2; left > 0; {
			n, err := c.Read(buffer)
			require.NoError(t, err)
			left -= n
		}
		u, err := net.Dial("udp", datagrams.LocalAddr().String())
		require.NoError(t, err)
		defer u.Close()
		for size := 1; size < 1300; size += 50 {
			require.NoError(t, u.SetDeadline(time.Now().Add(patience)))
			_, err := u.Write(buffer[:size])
			require.NoError(t, err)
			_, err = u.Read(buffer)
			require.NoError(t, err)
		}
	})
	require.NoError(t, <-served)
	require.NoError(t, datagrams.Close())
	require.NoError(t, <-echoed)
}
