// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"io"
	"net"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// Data that comes after a close is answered with a reset, and is none itself, though the kernel handles it so where the FIN is on its way still. A reset that does come there is one.
func TestKernelTCPDataAfterClose(t *testing.T) {
	here, there := pair(t)
	run := here.Start(resetsByPort)
	const data, reset = 3, 2
	for range data + reset {
		l := listener(t, there, "tcp4", "10.1.0.2:8080")
		c := dial(t, here, "tcp4", "10.1.0.2:8080")
		accepted, err := l.Accept()
		require.NoError(t, err)
		require.NoError(t, l.Close())
		peer := accepted.(*net.TCPConn)
		_, err = peer.Write(make([]byte, 10))
		require.NoError(t, err)
		_, err = io.ReadFull(c, make([]byte, 10))
		require.NoError(t, err)
		hear := shape(t, there, "cable", ebpf.AttachTCXIngress, asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()})
		require.NoError(t, c.Close())
		if here.Counters()["TcpExtTCPAbortOnData"] < data {
			_, err = peer.Write(make([]byte, 10))
			require.NoError(t, err)
		} else {
			require.NoError(t, peer.SetLinger(0))
			require.NoError(t, peer.Close())
		}
		require.Eventually(t, func() bool { return len(states(here)) == 0 }, wait, tick)
		hear()
		_ = peer.SetLinger(0) // whatever it has heard until then
		_ = peer.Close()
		closed(t, here, there)
	}
	run.Stop()
	assert.Equal(t, data, here.Counters()["TcpExtTCPAbortOnData"])
	resets := func(n *kernel.Network) map[string]int {
		return kernel.Values(kernel.Of(run.Last("ebpf.tcp.resets"), n), "network.io.direction", "ebpf.tcp.role", "server.port")
	}
	want := map[string]int{"receive connect 8080": reset, "transmit connect 8080": data}
	// The peer, which does not hear, sends again; where that comes late, a FIN was heard before and the socket is gone.
	if again := here.Counters()["TcpOutRsts"] - data; again != 0 {
		want["transmit - -"] = again
	}
	assert.Equal(t, want, resets(here))
	assert.Equal(t, map[string]int{"transmit accept 8080": there.Counters()["TcpOutRsts"]}, resets(there))
}

const resetsByPort = `
collection_interval: 200ms
probes:
  tcp:
    metrics:
      ebpf.tcp.resets: { attributes: [ebpf.network.namespace, network.io.direction, ebpf.tcp.role, server.port] }
`
