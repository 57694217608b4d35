// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// Segments of a living connection that are no good: their wrong checksums are told of as such, and nothing of them counts as the connection's.
func TestKernelTCPBadSegments(t *testing.T) {
	for name, c := range map[string]struct{ network, address string }{
		"ipv4": {"tcp4", "10.1.0.2:8080"},
		"ipv6": {"tcp6", "[fd00::2]:8080"},
	} {
		t.Run(name, func(t *testing.T) { badSegments(t, c.network, c.address) })
	}
}

func badSegments(t *testing.T, network, address string) {
	here, there := pair(t)
	run := here.Start(byNamespace)
	s := serve(t, there, network, address)
	c := dial(t, here, network, address)
	exchange(t, c, 5000)
	connection := func() packet {
		sends, receives := numbers(t, c)
		return packet{
			from: c.RemoteAddr().(*net.TCPAddr).AddrPort(), to: c.LocalAddr().(*net.TCPAddr).AddrPort(),
			sequence: receives, answer: sends, flags: ack | psh, payload: []byte("nobody said this"),
		}
	}
	to := here.Link("cable").Attrs().HardwareAddr
	inject := func(times int, change func(*packet)) {
		p := connection()
		change(&p)
		send(t, there, "cable", times, p.frame(to))
	}
	const checksums, offsets, cuts, longOffsets = 7, 5, 3, 4
	inject(checksums, func(p *packet) { p.wrong = true })
	inject(offsets, func(p *packet) { p.offset = 4 })
	inject(cuts, func(p *packet) { p.cut = 12 })
	inject(longOffsets, func(p *packet) { p.offset = 15 })
	require.Eventually(t, func() bool { return here.Counters()["TcpInErrs"] >= checksums+offsets }, wait, tick)
	exchange(t, c, 3000)

	// Resets: far from the window; within it, but not at its edge, which is asked about; and with a wrong checksum.
	reset := func(p *packet) { p.flags, p.payload = rst|ack, nil }
	const far = 6
	inject(far, func(p *packet) { reset(p); p.sequence += 1 << 30 })
	inject(2, func(p *packet) { reset(p); p.wrong = true })
	// The kernel asks once in half a second, and not at all soon after it has answered another segment that was no good (tcp_invalid_ratelimit).
	for until := time.Now().Add(wait); here.Counters()["TcpExtTCPChallengeACK"] == 0; time.Sleep(time.Second) {
		require.True(t, time.Now().Before(until), "nothing was asked")
		inject(1, func(p *packet) { reset(p); p.sequence += 1000 })
	}
	require.Equal(t, 1, here.Counters()["TcpExtTCPChallengeACK"])
	exchange(t, c, 2000)
	require.Zero(t, here.Counters()["TcpEstabResets"])
	require.Eventually(t, func() bool {
		return assert.ObjectsAreEqual(map[string]int{"transmit": 10_000, "receive": 10_000}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), here), "network.io.direction"))
	}, wait, tick)
	require.Empty(t, kernel.Values(kernel.Of(run.Last("ebpf.tcp.resets"), here)))

	inject(1, reset)
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, unix.ECONNRESET)
	require.NoError(t, c.Close())
	// The far end knows of nothing.
	s.drop()
	s.end()
	closed(t, here, there)
	run.Stop()

	assert.Equal(t, map[string]int{"transmit": 10_000, "receive": 10_000}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), here), "network.io.direction"))
	assert.Equal(t, map[string]int{"receive": 1}, kernel.Values(kernel.With(kernel.Of(run.Last("ebpf.tcp.resets"), here), "network.io.direction", "receive"), "network.io.direction"))
	assert.Equal(t, 1, here.Counters()["TcpEstabResets"])
	assert.Equal(t, map[string]int{"ECONNRESET established": 1},
		kernel.Values(kernel.Of(run.Last("ebpf.tcp.connection.duration"), here), "error.type", "network.connection.state"))
	require.Equal(t, checksums+2, here.Counters()["TcpInCsumErrors"])
	require.Equal(t, checksums+2+offsets, here.Counters()["TcpInErrs"])
	if hasReasons(t) {
		byReason := kernel.Values(kernel.With(kernel.Of(run.Last("ebpf.network.drops"), here), "network.transport", "tcp"), "ebpf.network.drop.reason")
		assert.Equal(t, here.Counters()["TcpInCsumErrors"], byReason["tcp_csum"], "%v", byReason)
		assert.Equal(t, offsets+cuts+longOffsets, byReason["pkt_too_small"]+byReason["not_specified"], "%v", byReason)
		// Of what a socket threw away, older kernels do not tell in which namespace.
		if _, ok := tracepoint(t, "kfree_skb", 4); ok {
			assert.Equal(t, far, byReason["tcp_invalid_sequence"], "%v", byReason)
		}
	}
}
