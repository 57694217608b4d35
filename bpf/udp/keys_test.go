// SPDX-License-Identifier: Apache-2.0

//go:build linux

package udp_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// Which port is the server's. Each socket sends as many bytes as its number, so that the port tells of the socket.
func TestKernelUDPServerPort(t *testing.T) {
	n := kernel.NewNetwork(t)
	n.Do(func() {
		require.NoError(t, os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("20000 29999"), 0))
	})
	run := start(t, n, byNamespace)
	for i, tt := range []struct{ bound, connected, want string }{
		{"127.0.0.1:53", "", "53"},
		{"127.0.0.1:40000", "", "40000"},
		{"127.0.0.1:20000", "", "-"}, // one of those that others get by chance
		{"127.0.0.1:29999", "", "-"},
		{"127.0.0.1:19999", "", "19999"},
		{"127.0.0.1:0", "", "-"},
		{"", "", "-"},
		{"", "127.0.0.1:54", "54"},
		{"127.0.0.1:0", "127.0.0.1:55", "55"},
		{"", "127.0.0.1:29999", "-"},
		{"", "127.0.0.1:30000", "30000"},
		{"127.0.0.1:56", "127.0.0.1:33333", "56"},   // answers one client
		{"127.0.0.1:33333", "127.0.0.1:57", "57"},   // asks from a port that it chose itself
		{"127.0.0.1:58", "127.0.0.1:25000", "58"},   // answers a client of this host
		{"127.0.0.1:25000", "127.0.0.1:33334", "-"}, // the lower is nobody's
		{"127.0.0.1:123", "127.0.0.1:123", "123"},
	} {
		fd := udp(t, n, unix.AF_INET)
		if tt.bound != "" {
			require.NoError(t, unix.Bind(fd, address(unix.AF_INET, tt.bound)))
		}
		to := address(unix.AF_INET, "127.0.0.1:9")
		if tt.connected != "" {
			require.NoError(t, unix.Connect(fd, address(unix.AF_INET, tt.connected)))
			to = nil
		}
		require.NoError(t, unix.Sendto(fd, make([]byte, 1<<i), 0, to), i)
		require.NoError(t, unix.Close(fd))
	}
	run.Stop()
	assert.Equal(t, map[string]int{
		"53": 1 << 0, "40000": 1 << 1, "19999": 1 << 4, "54": 1 << 7, "55": 1 << 8, "30000": 1 << 10, "56": 1 << 11, "57": 1 << 12, "58": 1 << 13, "123": 1 << 15,
		"-": 1<<2 | 1<<3 | 1<<5 | 1<<6 | 1<<9 | 1<<14,
	}, kernel.Values(kernel.Of(run.Last("ebpf.udp.io"), n), "server.port"))
}

// Addresses and versions of IP, and the names of ranges.
func TestKernelUDPAddresses(t *testing.T) {
	here, there := kernel.Pair(t, "cable", "cable")
	run := start(t, here, `
probes:
  udp:
    attributes: [ebpf.network.namespace, network.peer.address, network.local.address, network.type]
    cidrs: [10.1.0.0/30: cable, fd00::2/128: other]
`)
	only := udp(t, here, unix.AF_INET6)
	require.NoError(t, unix.SetsockoptInt(only, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1))
	require.NoError(t, unix.Sendto(only, make([]byte, 1), 0, address(unix.AF_INET6, "[fd00::2]:9")))
	require.NoError(t, unix.Sendto(udp(t, here, unix.AF_INET6), make([]byte, 2), 0, address(unix.AF_INET6, "[fd00::2]:9")))
	require.NoError(t, unix.Sendto(udp(t, here, unix.AF_INET), make([]byte, 4), 0, address(unix.AF_INET, "10.1.0.2:9")))
	require.NoError(t, unix.Sendto(server(t, here, unix.AF_INET, "127.0.0.1:9"), make([]byte, 8), 0, address(unix.AF_INET, "127.0.0.1:9")))
	send(t, client(t, here, unix.AF_INET, "10.1.0.2:9"), 16)
	send(t, client(t, here, unix.AF_INET6, "10.1.0.2:9"), 32)
	send(t, client(t, here, unix.AF_INET6, "[fd00::2]:9"), 64)
	send(t, client(t, there, unix.AF_INET6, "[fd00::1]:9"), 128)
	require.NoError(t, unix.Sendto(server(t, here, unix.AF_INET6, "[fd00::1]:9"), make([]byte, 256), 0, address(unix.AF_INET6, "[fd00::2]:9")))
	run.Stop()
	io := run.Last("ebpf.udp.io")
	attributes := []string{"network.local.address", "network.peer.address", "network.type"}
	assert.Equal(t, map[string]int{
		"- - ipv6": 1, "- - -": 2, "- - ipv4": 4, "127.0.0.1 - ipv4": 8, "cable cable ipv4": 16 + 32, "fd00::1 other ipv6": 64, "fd00::1 - ipv6": 256,
	}, kernel.Values(kernel.With(kernel.Of(io, here), "network.io.direction", "transmit"), attributes...))
	assert.Equal(t, map[string]int{"other fd00::1 ipv6": 128}, kernel.Values(kernel.Of(io, there), attributes...))
}

// Sockets that are none of UDP's, and raw ones with its number.
func TestKernelUDPOthers(t *testing.T) {
	n := kernel.NewNetwork(t)
	run := start(t, n, byNamespace)
	for _, tt := range []struct{ family, kind, protocol int }{
		{unix.AF_UNIX, unix.SOCK_DGRAM, 0},
		{unix.AF_UNIX, unix.SOCK_SEQPACKET, 0},
		{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDP},
		{unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_UDP},
		{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_UDPLITE},
		{unix.AF_INET, unix.SOCK_STREAM, 0},
	} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			if tt.family == unix.AF_UNIX {
				n.Do(func() {
					p, err := unix.Socketpair(tt.family, tt.kind, tt.protocol)
					require.NoError(t, err)
					defer unix.Close(p[0])
					defer unix.Close(p[1])
					send(t, p[0], 10)
					receive(t, p[1], 10)
				})
				return
			}
			fd := socket(t, n, tt.family, tt.kind, tt.protocol)
			to := address(tt.family, map[int]string{unix.AF_INET: "127.0.0.1:0", unix.AF_INET6: "[::1]:0"}[tt.family])
			if tt.kind == unix.SOCK_STREAM {
				l := socket(t, n, tt.family, tt.kind, 0)
				require.NoError(t, unix.Bind(l, to))
				require.NoError(t, unix.Listen(l, 1))
				to = must(unix.Getsockname(l))(t)
			}
			require.NoError(t, unix.Connect(fd, to))
			send(t, fd, 10)
		})
	}
	// That the test would see them.
	send(t, client(t, n, unix.AF_INET, "127.0.0.1:9"), 1)
	run.Stop()
	assert.Equal(t, map[string]int{"9 transmit": 1}, kernel.Values(kernel.Of(run.Last("ebpf.udp.io"), n), "server.port", "network.io.direction"))
	assert.Equal(t, map[string]int{"9 transmit": 1}, kernel.Values(kernel.Of(run.Last("ebpf.udp.datagrams"), n), "server.port", "network.io.direction"))
}

// UDP-Lite, where there is any: Linux 7.1 has removed it.
func TestKernelUDPLite(t *testing.T) {
	n := kernel.NewNetwork(t)
	run := start(t, n, byNamespace)
	n.Do(func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE)
		if err != nil {
			t.Skip("this kernel has no UDP-Lite")
		}
		defer unix.Close(fd)
		require.NoError(t, unix.Sendto(fd, make([]byte, 10), 0, address(unix.AF_INET, "127.0.0.1:9")))
	})
	run.Stop()
	assert.Equal(t, map[string]int{"transmit": 10}, kernel.Values(kernel.Of(run.Last("ebpf.udp.io"), n), "network.io.direction"))
}

// A socket is the container's of the process that made it; the process is the one that sends.
func TestKernelUDPCgroups(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	here, there := kernel.Pair(t, "cable", "cable")
	run := start(t, here, `
probes:
  udp:
    metrics:
      ebpf.udp.io: { attributes: [container, process.linux.cgroup, ebpf.network.namespace, server.port] }
      ebpf.udp.datagrams: { attributes: [process, container, ebpf.network.namespace] }
`)
	s := server(t, there, unix.AF_INET, "10.1.0.2:1000")
	dir := t.TempDir()
	one, oneID := kernel.NewCgroup(t).Container()
	two, twoID := kernel.NewCgroup(t).Container()
	for name, c := range map[string]*kernel.Cgroup{"one": one, "two": two} {
		program := filepath.Join(dir, name)
		require.NoError(t, os.Symlink(bash, program))
		cmd := c.Command(program, "-c", "exec 3<>/dev/udp/10.1.0.2/1000; for i in 1 2 3; do echo "+name+" >&3; done")
		here.Do(func() { err = cmd.Run() })
		require.NoError(t, err)
		for range 3 {
			receive(t, s, 4)
		}
	}
	run.Stop()
	assert.Equal(t, map[string]int{oneID + " " + one.Path + " 1000": 12, twoID + " " + two.Path + " 1000": 12},
		kernel.Values(kernel.Of(run.Last("ebpf.udp.io"), here), "container.id", "process.linux.cgroup", "server.port"))
	assert.Equal(t, map[string]int{oneID + " one": 3, twoID + " two": 3},
		kernel.Values(kernel.Of(run.Last("ebpf.udp.datagrams"), here), "container.id", "process.executable.name"))
	for _, p := range kernel.Of(run.Last("ebpf.udp.datagrams"), there) {
		assert.EqualValues(t, os.Getpid(), p.Attributes["process.pid"])
	}
}
