// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// deferring is a listener that has nothing to accept before there is data.
func deferring(t *testing.T, n *kernel.Network, port int) (fd int) {
	t.Helper()
	fd = listen(t, n, port, 100)
	require.NoError(t, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 30))
	return fd
}

// healthy makes connections to such a listener, each of which is served, and ends it. Of each, the listener drops the bare third step.
func healthy(t *testing.T, client, server *kernel.Network, address string, fd int) {
	t.Helper()
	const times = 5
	before := server.Counters()
	for range times {
		c := dial(t, client, "tcp4", address)
		_, err := c.Write([]byte("x"))
		require.NoError(t, err)
		accepted, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.NoError(t, unix.Close(accepted))
	}
	require.NoError(t, unix.Close(fd))
	after := server.Counters()
	require.Equal(t, before["TcpExtListenDrops"], after["TcpExtListenDrops"])
	require.GreaterOrEqual(t, after["TcpExtTCPDeferAcceptDrop"], before["TcpExtTCPDeferAcceptDrop"]+times)
}

// overflow asks a listener with a backlog of 1 until it drops SYNs, and ends it.
func overflow(t *testing.T, client, server *kernel.Network, address string, fd int) {
	t.Helper()
	const room, more = 2, 2
	before := server.Counters()["TcpExtListenDrops"]
	for range room {
		defer dial(t, client, "tcp4", address).Close()
	}
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	queued(t, server, number, room)
	for server.Counters()["TcpExtListenDrops"] < before+more {
		require.Error(t, dialing(client, address, tick))
	}
	require.NoError(t, unix.Close(fd))
}

func listenDrops(run *kernel.Run, n *kernel.Network) map[string]int {
	return kernel.Values(kernel.Of(run.Last("ebpf.tcp.listen.drops"), n), "server.port")
}

// What a listener drops is not always a handshake. Each has its own, in namespaces that do not share theirs.
func TestKernelTCPListenDropsOfWhom(t *testing.T) {
	here, there := pair(t)
	run := here.Start(byNamespace)
	elsewhere, first, full, last := deferring(t, here, 6060), deferring(t, there, 7070), listen(t, there, 8080, 1), deferring(t, there, 9090)
	healthy(t, here, there, "10.1.0.2:7070", first)
	overflow(t, here, there, "10.1.0.2:8080", full)
	healthy(t, here, there, "10.1.0.2:9090", last)
	healthy(t, there, here, "10.1.0.1:6060", elsewhere)
	run.Stop()
	assert.Equal(t, map[string]int{"8080": there.Counters()["TcpExtListenDrops"]}, listenDrops(run, there))
	assert.Zero(t, here.Counters()["TcpExtListenDrops"])
	assert.Empty(t, listenDrops(run, here))
}

// What a namespace and its listeners have dropped before is not ours to count.
func TestKernelTCPListenDropsBefore(t *testing.T) {
	there, here := pair(t)
	ended, full, healing := listen(t, here, 7070, 1), listen(t, here, 8080, 1), deferring(t, here, 9090)
	overflow(t, there, here, "10.1.0.2:7070", ended)
	before := here.Counters()["TcpExtListenDrops"]
	run := here.Start(byNamespace)
	healthy(t, there, here, "10.1.0.2:9090", healing)
	overflow(t, there, here, "10.1.0.2:8080", full)
	run.Stop()
	assert.Equal(t, map[string]int{"8080": here.Counters()["TcpExtListenDrops"] - before}, listenDrops(run, here))
}

// silence keeps the answers of a host from its neighbour, until somebody releases them all at once. The neighbour's packets arrive.
func silence(t *testing.T, here, there *kernel.Network) (release func()) {
	t.Helper()
	neighbour := func(of, at *kernel.Network, ip net.IP) *netlink.Neigh {
		return &netlink.Neigh{
			LinkIndex: at.Link("cable").Attrs().Index, State: netlink.NUD_PERMANENT, IP: ip, HardwareAddr: of.Link("cable").Attrs().HardwareAddr,
		}
	}
	client, server := neighbour(here, there, net.IPv4(10, 1, 0, 1)), neighbour(there, here, net.IPv4(10, 1, 0, 2))
	require.NoError(t, here.Netlink.NeighSet(server)) // else it asks, and tells where it is
	set(t, there, "neigh/cable/mcast_solicit", "1000")
	set(t, here, "conf/all/arp_ignore", "8")
	require.NoError(t, there.Netlink.NeighSet(client)) // so that there is one
	require.NoError(t, there.Netlink.NeighDel(client))
	return func() { require.NoError(t, there.Netlink.NeighSet(client)) }
}

// A SYN that comes again while its request waits is dropped, and nothing is lost.
func TestKernelTCPListenDropsOfRepeatedSYN(t *testing.T) {
	here, there := pair(t)
	run := here.Start(byNamespace)
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	release := silence(t, here, there)
	c, _ := dialAgain(t, here, here, release)
	exchange(t, c, 100)
	require.NoError(t, c.Close())
	s.end()
	closed(t, here, there)
	run.Stop()
	assert.Zero(t, there.Counters()["TcpExtListenDrops"])
	assert.Empty(t, listenDrops(run, there))
}

// More handshakes are under way than there is room for in the end: at their third step, the listener drops them.
func TestKernelTCPListenOverflowsLate(t *testing.T) {
	here, there := pair(t)
	run := here.Start(byNamespace)
	const backlog = 3 // so many requests, and one more that waits to be accepted
	fd := listen(t, there, 8080, backlog)
	for range backlog {
		defer dial(t, here, "tcp4", "10.1.0.2:8080").Close()
	}
	release := silence(t, here, there)
	for range backlog {
		client := socket(t, here, [4]byte{}, 0)
		defer unix.Close(client)
		require.NoError(t, unix.SetNonblock(client, true))
		require.ErrorIs(t, unix.Connect(client, &unix.SockaddrInet4{Port: 8080, Addr: [4]byte{10, 1, 0, 2}}), unix.EINPROGRESS)
	}
	const synReceived = "03"
	require.Eventually(t, func() bool { return states(there)[synReceived] == backlog }, wait, tick)
	require.Zero(t, there.Counters()["TcpExtListenDrops"])
	release()
	require.Eventually(t, func() bool { return there.Counters()["TcpExtListenOverflows"] >= backlog-1 }, wait, tick)
	require.NoError(t, unix.Close(fd))
	run.Stop()
	kernels := there.Counters()
	require.Equal(t, kernels["TcpExtListenOverflows"], kernels["TcpExtListenDrops"])
	assert.Equal(t, map[string]int{"8080": kernels["TcpExtListenDrops"]}, listenDrops(run, there))
}
