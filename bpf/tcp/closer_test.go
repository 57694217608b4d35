// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
)

// Whose end it was of a connection that ended with a reset, before any FIN and after the peer's.
func TestKernelTCPResetsHaveACloser(t *testing.T) {
	here, there := pair(t)
	run := here.Start(`{ probes: { tcp: { events: { ebpf.tcp.connection: { enabled: true } } } } }`)
	l := listener(t, there, "tcp4", "10.1.0.2:8080")
	for _, finished := range []bool{false, true} {
		c := dial(t, here, "tcp4", "10.1.0.2:8080")
		accepted, err := l.Accept()
		require.NoError(t, err)
		peer := accepted.(*net.TCPConn)
		if finished {
			require.NoError(t, peer.CloseWrite())
			_, err := c.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.EOF)
		}
		require.NoError(t, peer.SetLinger(0))
		require.NoError(t, peer.Close())
		require.Eventually(t, func() bool { s := states(here); return s["01"]+s["08"] == 0 }, wait, tick) // the reset has come
		require.NoError(t, c.Close())
	}
	l.Close()
	closed(t, here, there)
	run.Stop()

	var ends []string
	for _, logs := range run.Logs.AllLogs() {
		each(logs, func(r plog.LogRecord) {
			a := r.Attributes().AsRaw()
			if a["ebpf.network.namespace"] == here.Inode() || a["ebpf.network.namespace"] == there.Inode() {
				ends = append(ends, fmt.Sprint(a["ebpf.tcp.role"], " ", strings.TrimRight(a["network.connection.state"].(string), "_12"), // its FIN may be acknowledged by then
					" ", a["error.type"], " ", a["ebpf.tcp.closed_by"]))
			}
		})
	}
	assert.ElementsMatch(t, []string{
		"accept established ECONNABORTED local", "connect established ECONNRESET peer",
		"accept fin_wait <nil> local", "connect close_wait ECONNRESET peer",
	}, ends)
}
