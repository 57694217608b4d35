// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// socketStates are how many sockets `ss` shows in which state, by our words for them.
func socketStates(n *kernel.Network) map[string]int {
	words := strings.NewReplacer("estab", "established", "syn_recv", "syn_received")
	m := map[string]int{}
	for line := range strings.Lines(n.Run("ss", "-Htan")) {
		m[words.Replace(strings.ReplaceAll(strings.ToLower(strings.Fields(line)[0]), "-", "_"))]++
	}
	return m
}

// Very many connections that do nothing, and some in each state in which a connection can stay: as many as `ss` shows.
func TestKernelTCPIdleConnections(t *testing.T) {
	if _, err := exec.LookPath("ss"); err != nil {
		t.Skip("ss is not installed")
	}
	here, there := pair(t)
	set(t, here, "ip_local_port_range", "1024 65535")
	n := kernel.Load(10_000, 1000)
	set(t, here, "../core/somaxconn", strconv.Itoa(n))
	run := here.Start(byNamespace)
	var open []int
	t.Cleanup(func() {
		for _, fd := range open {
			_ = unix.Close(fd)
		}
	})
	listen := func(port, backlog int) (fd int) {
		fd = socket(t, here, [4]byte{}, port)
		require.NoError(t, unix.Listen(fd, backlog))
		open = append(open, fd)
		return fd
	}
	local := func(port int) *unix.SockaddrInet4 {
		return &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	}
	port := 20_000
	connect := func(listener int) (client, server int) {
		port++ // one of those that wait would go if it was used again
		client = socket(t, here, [4]byte{}, port)
		require.NoError(t, unix.Connect(client, local(8080)))
		server, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		require.NoError(t, err)
		return client, server
	}
	// Those that wait to be accepted have no descriptors: so many may be more than a process can have.
	listen(8079, n)
	for range n {
		fd := socket(t, here, [4]byte{}, 0)
		require.NoError(t, unix.Connect(fd, local(8079)))
		open = append(open, fd)
	}
	listener := listen(8080, 100)
	// The server ends its side: FIN_WAIT_2 and CLOSE_WAIT; and then the client, too: TIME_WAIT.
	for range 20 {
		client, server := connect(listener)
		require.NoError(t, unix.Close(server))
		open = append(open, client)
	}
	for range 30 {
		client, server := connect(listener)
		require.NoError(t, unix.Close(server))
		_, err := unix.Read(client, make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, unix.Close(client))
	}
	// A full queue leaves clients in SYN_SENT.
	listen(8081, 0)
	first := socket(t, here, [4]byte{}, 0)
	require.NoError(t, unix.Connect(first, local(8081)))
	open = append(open, first)
	queued(t, here, 8081, 1)
	for range 7 {
		fd := socket(t, here, [4]byte{}, 0)
		require.NoError(t, unix.SetNonblock(fd, true))
		require.ErrorIs(t, unix.Connect(fd, local(8081)), unix.EINPROGRESS)
		open = append(open, fd)
	}
	// Handshakes of somebody who is not there.
	cable := here.Link("cable")
	require.NoError(t, here.Netlink.NeighAdd(&netlink.Neigh{
		LinkIndex: cable.Attrs().Index, State: unix.NUD_PERMANENT, IP: net.IPv4(10, 1, 0, 99), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 99},
	}))
	for i := range uint16(9) {
		send(t, there, "cable", 1, packet{
			from: netip.AddrPortFrom(netip.MustParseAddr("10.1.0.99"), 5000+i), to: netip.MustParseAddrPort("10.1.0.1:8080"), flags: syn,
		}.frame(cable.Attrs().HardwareAddr))
	}

	want := map[string]int{
		"listen": 3, "established": 2*n + 2, "close_wait": 20, "fin_wait_2": 20, "time_wait": 30, "syn_sent": 7, "syn_received": 9,
	}
	require.Eventually(t, func() bool { return assert.ObjectsAreEqual(want, socketStates(here)) }, wait, 5*tick, "ss shows %v", socketStates(here))
	count := func() map[string]int {
		return kernel.Values(kernel.Of(run.Last("system.network.connection.count"), here), "network.connection.state")
	}
	if !assert.Eventually(t, func() bool { return assert.ObjectsAreEqual(want, count()) }, wait, 5*tick) {
		assert.Equal(t, want, count())
	}
	run.Stop()
	assert.Equal(t, socketStates(here), count())
}
