// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"net"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

var linkProgram = regexp.MustCompile(`(?s)link_id:.*\nprog_id:\s+(\d+)`)

// missing makes the kernel run a program of the receiver's no more: something else takes the place of the link, which goes with its last descriptor.
func missing(t *testing.T, run *kernel.Run, program string) {
	t.Helper()
	if run.PID() != os.Getpid() {
		t.Skip("the receiver's links are another process's")
	}
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	entries, err := os.ReadDir("/proc/self/fdinfo")
	require.NoError(t, err)
	links := 0
	for _, e := range entries {
		info, _ := os.ReadFile("/proc/self/fdinfo/" + e.Name())
		m := linkProgram.FindSubmatch(info)
		if m == nil {
			continue
		}
		id, err := strconv.ParseUint(string(m[1]), 10, 32)
		require.NoError(t, err)
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
		require.NoError(t, err)
		about, err := p.Info()
		require.NoError(t, err)
		require.NoError(t, p.Close())
		if about.Name != program {
			continue
		}
		fd, err := strconv.Atoi(e.Name())
		require.NoError(t, err)
		require.NoError(t, unix.Dup3(int(null.Fd()), fd, unix.O_CLOEXEC))
		links++
	}
	require.Equal(t, 1, links)
}

// Attempts whose last change of state is missed: each counts all the same when its socket ends, at the port that it was made to. Its error is the right one or none, whoever
// has asked for it before.
func TestKernelTCPFailuresThatAreMissed(t *testing.T) {
	here, there := pair(t)
	route(t, here, "10.2.0.0/16", netlink.Route{Gw: net.IPv4(10, 1, 0, 2)})
	route(t, there, "10.2.0.0/16", netlink.Route{Type: unix.RTN_BLACKHOLE})
	set(t, there, "ip_forward", "1")
	set(t, there, "icmp_ratelimit", "0")

	// Until the end is missed, nobody answers.
	refuses, prohibits, silent, unreachable := [4]byte{10, 2, 1, 1}, [4]byte{10, 2, 2, 1}, [4]byte{10, 2, 3, 1}, [4]byte{10, 2, 4, 1}
	begin := func(address [4]byte, port int) (fd int) {
		fd = socket(t, here, [4]byte{10, 1, 0, 1}, 0)
		require.NoError(t, unix.SetNonblock(fd, true))
		require.ErrorIs(t, unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: address}), unix.EINPROGRESS)
		return fd
	}
	older := begin(silent, 9)
	run := here.Start(byNamespace)
	unasked, asked, gaveUp, aborted := begin(refuses, 1), begin(refuses, 2), begin(silent, 3), begin(silent, 4)
	var waiting sync.WaitGroup
	said := make([]error, 9)
	for port, address := range map[int][4]byte{5: refuses, 6: prohibits, 7: unreachable, 8: silent} {
		fd := socket(t, here, [4]byte{10, 1, 0, 1}, 0)
		waiting.Go(func() {
			said[port] = unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: address})
			assert.NoError(t, unix.Close(fd))
		})
	}
	const synSent = "02"
	require.Eventually(t, func() bool { return states(here)[synSent] == 9 }, wait, tick)
	missing(t, run, "set_state")

	address, err := netlink.ParseAddr("10.2.1.1/32")
	require.NoError(t, err)
	require.NoError(t, there.Netlink.AddrAdd(there.Link("cable"), address))
	route(t, there, "10.2.2.0/24", netlink.Route{Type: unix.RTN_PROHIBIT})
	route(t, there, "10.2.4.0/24", netlink.Route{Type: unix.RTN_UNREACHABLE})
	require.NoError(t, unix.Close(gaveUp))
	for _, fd := range []int{aborted, older} {
		require.NoError(t, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
		require.NoError(t, unix.Close(fd))
	}
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(asked), Events: unix.POLLOUT}}, int(wait/time.Millisecond))
	require.NoError(t, err)
	number, err := unix.GetsockoptInt(asked, unix.SOL_SOCKET, unix.SO_ERROR)
	require.NoError(t, err)
	require.Equal(t, unix.ECONNREFUSED, unix.Errno(number))
	require.NoError(t, unix.Close(asked))
	failed := func() map[string]int {
		return kernel.Values(kernel.Of(run.Last("ebpf.tcp.connections"), here), "ebpf.tcp.role", "server.port", "error.type")
	}
	// One that its process keeps is found by a collection.
	require.Eventually(t, func() bool { return failed()["connect 1 ECONNREFUSED"] == 1 }, wait, tick)
	require.NoError(t, unix.Close(unasked))
	require.Eventually(t, func() bool { return here.Counters()["IcmpInDestUnreachs"] >= 2 }, wait, tick)
	set(t, here, "tcp_syn_retries", "1")
	waiting.Wait()
	run.Stop()

	require.ErrorIs(t, said[5], unix.ECONNREFUSED)
	require.ErrorIs(t, said[6], unix.EHOSTUNREACH)
	require.ErrorIs(t, said[7], unix.EHOSTUNREACH)
	require.ErrorIs(t, said[8], unix.ETIMEDOUT)
	// Since Linux 6.5, an attempt goes on when a router says that a host is not there now, and that stays in the socket.
	told := "_OTHER"
	if here.Counters()["TcpExtTCPAbortOnTimeout"] == 2 {
		told = "EHOSTUNREACH"
	}
	want := map[string]int{
		"connect 1 ECONNREFUSED": 1, "connect 2 ECONNREFUSED": 1, "connect 3 _OTHER": 1, "connect 4 _OTHER": 1,
		"connect 5 ECONNREFUSED": 1, "connect 6 _OTHER": 1, "connect 7 " + told: 1, "connect 8 _OTHER": 1, "connect 9 _OTHER": 1,
	}
	assert.Equal(t, want, failed())
	assert.Equal(t, here.Counters()["TcpActiveOpens"], total(kernel.Of(run.Last("ebpf.tcp.connections"), here)))
}
