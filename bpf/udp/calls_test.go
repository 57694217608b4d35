// SPDX-License-Identifier: Apache-2.0

//go:build linux

package udp_test

import (
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// Every call that sends, and every one that receives: each is counted once.
func TestKernelUDPCalls(t *testing.T) {
	here, there := kernel.Pair(t, "cable", "cable")
	run := start(t, here, byNamespace)
	s, c := server(t, there, unix.AF_INET, "10.1.0.2:1000"), client(t, here, unix.AF_INET, "10.1.0.2:1000")
	const size = 1000
	data := make([]byte, size)
	receives := []func() int{
		func() int { return must(unix.Read(s, make([]byte, 2*size)))(t) },
		func() int { return must(unix.Readv(s, [][]byte{make([]byte, 10), make([]byte, 2*size)}))(t) },
		func() int {
			n, _, err := unix.Recvfrom(s, make([]byte, 2*size), 0)
			return must(n, err)(t)
		},
		func() int {
			n, _, _, _, err := unix.Recvmsg(s, make([]byte, 2*size), make([]byte, 100), 0)
			return must(n, err)(t)
		},
		func() int { return receiveMany(t, s, 1)[0] },
		func() int {
			var p [2]int
			require.NoError(t, unix.Pipe(p[:]))
			defer unix.Close(p[0])
			defer unix.Close(p[1])
			return int(must(unix.Splice(s, nil, p[1], nil, size, 0))(t))
		},
	}
	sends := []func(){
		func() { send(t, c, size) },
		func() { require.NoError(t, unix.Sendto(c, data, 0, nil)) },
		func() { must(unix.Writev(c, [][]byte{data[:1], data[1:]}))(t) },
		func() { must(unix.SendmsgN(c, data, nil, nil, 0))(t) },
		func() { sendMany(t, c, [][]byte{data}) },
		func() {
			var p [2]int
			require.NoError(t, unix.Pipe(p[:]))
			defer unix.Close(p[0])
			defer unix.Close(p[1])
			must(unix.Write(p[1], data))(t)
			require.EqualValues(t, size, must(unix.Splice(p[0], nil, c, nil, size, 0))(t))
		},
		func() {
			f, err := os.Create(filepath.Join(t.TempDir(), "file"))
			require.NoError(t, err)
			defer f.Close()
			must(f.Write(data))(t)
			require.Equal(t, size, must(unix.Sendfile(c, int(f.Fd()), new(int64), size))(t))
		},
	}
	for _, send := range sends {
		for _, receive := range receives {
			send()
			require.Equal(t, size, receive())
		}
	}
	// Many at once, of which one is empty.
	sendMany(t, c, [][]byte{data, data[:10], {}, data})
	assert.Equal(t, []int{size, 10, 0, size}, receiveMany(t, s, 4))
	run.Stop()

	n := len(sends) * len(receives)
	for host, direction := range map[*kernel.Network]string{here: "transmit", there: "receive"} {
		assert.Equal(t, map[string]int{"1000 ipv4 " + direction: n*size + 2*size + 10}, kernel.Values(kernel.Of(run.Last("ebpf.udp.io"), host), directed...))
		assert.Equal(t, map[string]int{"1000 ipv4 " + direction: n + 4}, kernel.Values(kernel.Of(run.Last("ebpf.udp.datagrams"), host), directed...))
	}
	assert.Equal(t, n+4, sent(here))
	assert.Equal(t, n+4, received(there))
}

// must is a value that came without an error.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		require.NoError(t, err)
		return v
	}
}

// messages are headers for sendmmsg and recvmmsg.
type messages []struct {
	header unix.Msghdr
	length uint32
}

func messagesOf(buffers [][]byte) messages {
	m := make(messages, len(buffers))
	for i, b := range buffers {
		v := &unix.Iovec{Base: unsafe.SliceData(b)}
		v.SetLen(len(b))
		m[i].header.Iov = v
		m[i].header.SetIovlen(1)
	}
	return m
}

func (m messages) call(t *testing.T, number uintptr, fd int) {
	t.Helper()
	n, _, e := unix.Syscall6(number, uintptr(fd), uintptr(unsafe.Pointer(&m[0])), uintptr(len(m)), 0, 0, 0)
	require.Zero(t, e)
	require.EqualValues(t, len(m), n)
}

func sendMany(t *testing.T, fd int, buffers [][]byte) {
	t.Helper()
	messagesOf(buffers).call(t, unix.SYS_SENDMMSG, fd)
}

func receiveMany(t *testing.T, fd, n int) (sizes []int) {
	t.Helper()
	buffers := make([][]byte, n)
	for i := range buffers {
		buffers[i] = make([]byte, 1<<16)
	}
	m := messagesOf(buffers)
	m.call(t, unix.SYS_RECVMMSG, fd)
	for _, m := range m {
		sizes = append(sizes, int(m.length))
	}
	return sizes
}

// What is looked at without being taken, cut off, empty, or not there at all.
func TestKernelUDPOddCalls(t *testing.T) {
	here, there := kernel.Pair(t, "cable", "cable")
	run := start(t, here, byNamespace)
	s, c := server(t, there, unix.AF_INET, "10.1.0.2:1000"), client(t, here, unix.AF_INET, "10.1.0.2:1000")
	take := func(fd, room, flags, want int) {
		t.Helper()
		n, _, err := unix.Recvfrom(fd, make([]byte, room), flags)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	for _, size := range []int{700, 700, 700, 0, 0, 300} {
		send(t, c, size)
	}
	take(s, 1000, unix.MSG_PEEK, 700)
	take(s, 1, unix.MSG_PEEK|unix.MSG_TRUNC, 700)
	take(s, 1000, 0, 700)
	take(s, 100, 0, 100)
	take(s, 100, unix.MSG_TRUNC, 700)
	take(s, 100, unix.MSG_PEEK, 0)
	take(s, 100, 0, 0)
	take(s, 100, 0, 0)
	require.Zero(t, must(unix.Read(s, nil))(t)) // a read of nothing takes nothing
	n, _, _, _, err := unix.Recvmsg(s, nil, nil, 0)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Equal(t, 6, received(there))

	// Nothing there, and nothing to come.
	require.NoError(t, unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 1000}))
	_, err = unix.Read(s, make([]byte, 10))
	require.ErrorIs(t, err, unix.EAGAIN)
	ended := client(t, there, unix.AF_INET, "10.1.0.1:9")
	require.NoError(t, unix.Shutdown(ended, unix.SHUT_RD))
	take(ended, 10, 0, 0)

	// Too long, and to nobody; what then comes back from the error queue is no datagram that was received.
	_, err = unix.Write(c, make([]byte, 1<<16))
	require.ErrorIs(t, err, unix.EMSGSIZE)
	nobody := client(t, here, unix.AF_INET, "10.1.0.2:9")
	require.NoError(t, unix.SetsockoptInt(nobody, unix.SOL_IP, unix.IP_RECVERR, 1))
	send(t, nobody, 5)
	require.Eventually(t, func() bool {
		n, _, _, _, err := unix.Recvmsg(nobody, make([]byte, 10), make([]byte, 200), unix.MSG_ERRQUEUE)
		return err == nil && n == 5
	}, wait, tick)
	run.Stop()
	io, datagrams := run.Last("ebpf.udp.io"), run.Last("ebpf.udp.datagrams")
	assert.Equal(t, map[string]int{"1000 ipv4 transmit": 2400, "9 ipv4 transmit": 5}, kernel.Values(kernel.Of(io, here), directed...))
	assert.Equal(t, map[string]int{"1000 ipv4 transmit": 6, "9 ipv4 transmit": 1}, kernel.Values(kernel.Of(datagrams, here), directed...))
	assert.Equal(t, map[string]int{"1000 ipv4 receive": 1500}, kernel.Values(kernel.Of(io, there), directed...))
	assert.Equal(t, map[string]int{"1000 ipv4 receive": 6}, kernel.Values(kernel.Of(datagrams, there), directed...))
	assert.Equal(t, 7, sent(here))
	assert.Equal(t, 6, received(there))
}

// A datagram of several calls is one, with the bytes of all.
func TestKernelUDPCork(t *testing.T) {
	for family, to := range map[int]string{unix.AF_INET: "10.1.0.2:1000", unix.AF_INET6: "[fd00::2]:1000"} {
		here, there := kernel.Pair(t, "cable", "cable")
		run := start(t, here, byNamespace)
		s, c := server(t, there, family, to), client(t, here, family, to)
		require.NoError(t, unix.Sendto(c, make([]byte, 100), unix.MSG_MORE, nil))
		require.NoError(t, unix.Sendto(c, make([]byte, 100), unix.MSG_MORE, nil))
		require.NoError(t, unix.Sendto(c, make([]byte, 100), 0, nil))
		receive(t, s, 300)
		// Taking back the option sends one, without a call that could be counted.
		require.NoError(t, unix.SetsockoptInt(c, unix.SOL_UDP, unix.UDP_CORK, 1))
		send(t, c, 10)
		require.NoError(t, unix.SetsockoptInt(c, unix.SOL_UDP, unix.UDP_CORK, 0))
		receive(t, s, 10)
		send(t, c, 1)
		receive(t, s, 1)
		run.Stop()
		assert.Equal(t, map[string]int{"transmit": 311}, kernel.Values(kernel.Of(run.Last("ebpf.udp.io"), here), "network.io.direction"))
		assert.Equal(t, map[string]int{"receive": 311}, kernel.Values(kernel.Of(run.Last("ebpf.udp.io"), there), "network.io.direction"))
		assert.Equal(t, map[string]int{"transmit": 2}, kernel.Values(kernel.Of(run.Last("ebpf.udp.datagrams"), here), "network.io.direction"))
		assert.Equal(t, 3, sent(here), "one more than is counted")
		assert.Equal(t, map[string]int{"receive": 3}, kernel.Values(kernel.Of(run.Last("ebpf.udp.datagrams"), there), "network.io.direction"))
	}
}

// A call that sends segments is as many datagrams as come out at the other end, when the socket has the option.
func TestKernelUDPSegments(t *testing.T) {
	here, there := kernel.Pair(t, "cable", "cable")
	run := start(t, here, byNamespace)
	s, c := server(t, there, unix.AF_INET, "10.1.0.2:1000"), client(t, here, unix.AF_INET, "10.1.0.2:1000")
	require.NoError(t, unix.SetsockoptInt(c, unix.SOL_UDP, unix.UDP_SEGMENT, 100))
	for _, size := range []int{0, 1, 99, 100, 101, 1000, 1001} {
		send(t, c, size)
		receive(t, s, min(size, 100))
		for left := size - 100; left > 0; left -= 100 {
			receive(t, s, min(left, 100))
		}
	}
	const datagrams = 1 + 1 + 1 + 1 + 2 + 10 + 11
	// For one call alone: the kernel does not tell.
	one := client(t, here, unix.AF_INET, "10.1.0.2:1000")
	control := make([]byte, unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	*(*uint16)(unsafe.Pointer(&control[unix.CmsgLen(0)])) = 100
	must(unix.SendmsgN(one, make([]byte, 1000), control, nil, 0))(t)
	for range 10 {
		receive(t, s, 100)
	}
	// And one that receives them as one.
	merged := server(t, there, unix.AF_INET, "10.1.0.2:1001")
	require.NoError(t, unix.SetsockoptInt(merged, unix.SOL_UDP, unix.UDP_GRO, 1))
	require.NoError(t, unix.Connect(c, address(unix.AF_INET, "10.1.0.2:1001")))
	send(t, c, 1000)
	receive(t, merged, 1000)
	run.Stop()
	const bytes = 0 + 1 + 99 + 100 + 101 + 1000 + 1001
	assert.Equal(t, map[string]int{"1000 transmit": bytes + 1000, "1001 transmit": 1000},
		kernel.Values(kernel.Of(run.Last("ebpf.udp.io"), here), "server.port", "network.io.direction"))
	assert.Equal(t, map[string]int{"1000 transmit": datagrams + 1, "1001 transmit": 10},
		kernel.Values(kernel.Of(run.Last("ebpf.udp.datagrams"), here), "server.port", "network.io.direction"))
	assert.Equal(t, map[string]int{"1000 receive": datagrams + 10, "1001 receive": 1},
		kernel.Values(kernel.Of(run.Last("ebpf.udp.datagrams"), there), "server.port", "network.io.direction"))
	assert.Equal(t, datagrams+10+1, received(there))
}
