// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// Whose end it was of a connection that ended with a reset, before any FIN and after the peer's.
func TestKernelTCPResetsHaveACloser(t *testing.T) {
	here, there := pair(t)
	run := here.Start(withRecords)
	reset(t, here, there, false, func() {})
	reset(t, here, there, true, func() {})
	run.Stop()
	assert.ElementsMatch(t, []string{
		"accept established ECONNABORTED local", "connect established ECONNRESET peer",
		"accept fin_wait_2 <nil> local", "connect close_wait ECONNRESET peer",
	}, ends(run, here, there))
}

// One whose last change of state was missed has no state that it ended in. That it was reset, its error tells.
func TestKernelTCPMissedResetsHaveACloser(t *testing.T) {
	here, there := pair(t)
	run := here.Start(withRecords)
	reset(t, here, there, true, func() { missing(t, run, "set_state") })
	run.Stop()
	assert.ElementsMatch(t, []string{"accept closed <nil> local", "connect closed ECONNRESET peer"}, ends(run, here, there))
}

// reset makes a connection that the accepting side resets, after a FIN of its own or without one.
func reset(t *testing.T, here, there *kernel.Network, finished bool, before func()) {
	l := listener(t, there, "tcp4", "10.1.0.2:0")
	c := dial(t, here, "tcp4", l.Addr().String())
	accepted, err := l.Accept()
	require.NoError(t, err)
	require.NoError(t, l.Close())
	peer := accepted.(*net.TCPConn)
	if finished {
		require.NoError(t, peer.CloseWrite())
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		// Else the acknowledgement may be delayed, and its timer interrupts the peer's end and finds no such connection any more. The reset that it gets is
		// then in the middle of a run of set_state, which the kernel does not run again for it.
		const finWait2 = "05"
		require.Eventually(t, func() bool { return states(there)[finWait2] == 1 }, wait, tick)
	}
	before()
	require.NoError(t, peer.SetLinger(0))
	require.NoError(t, peer.Close())
	require.Eventually(t, func() bool { return len(states(here)) == 0 }, wait, tick) // the reset has come
	require.NoError(t, c.Close())
	closed(t, here, there)
}

// ends are the hosts' connections that have ended: role, last state, error, and whose end it was.
func ends(run *kernel.Run, hosts ...*kernel.Network) (all []string) {
	for _, logs := range run.Logs.AllLogs() {
		each(logs, func(r plog.LogRecord) {
			a := r.Attributes().AsRaw()
			for _, n := range hosts {
				if a["ebpf.network.namespace"] == n.Inode() {
					all = append(all, fmt.Sprint(a["ebpf.tcp.role"], " ", a["network.connection.state"], " ", a["error.type"], " ", a["ebpf.tcp.closed_by"]))
				}
			}
		})
	}
	return all
}
