// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
)

// A connection that was idle before its end has lasted until then, whichever way it ends: its socket does not look at a clock for all of them.
func TestKernelTCPDurations(t *testing.T) {
	here, there := pair(t)
	run := here.Start(withRecords)
	const idle = 500 * time.Millisecond
	ends := []struct {
		name string
		end  func(client, server *net.TCPConn)
	}{
		{"the client closes", func(client, server *net.TCPConn) {
			time.Sleep(idle)
			require.NoError(t, client.Close())
			awaitEOF(t, server)
			require.NoError(t, server.Close())
		}},
		{"both close at once", func(client, server *net.TCPConn) {
			time.Sleep(idle)
			require.NoError(t, client.Close())
			require.NoError(t, server.Close())
		}},
		{"reset instead of a FIN", func(client, server *net.TCPConn) {
			require.NoError(t, client.SetLinger(0))
			time.Sleep(idle)
			require.NoError(t, client.Close())
			require.NoError(t, server.Close())
		}},
		{"reset since something was not read", func(client, server *net.TCPConn) {
			_, err := server.Write([]byte("unread"))
			require.NoError(t, err)
			time.Sleep(idle)
			require.NoError(t, client.Close())
			require.NoError(t, server.Close())
		}},
		{"half closed", func(client, server *net.TCPConn) {
			require.NoError(t, client.CloseWrite())
			awaitEOF(t, server)
			time.Sleep(idle)
			require.NoError(t, client.Close())
			require.NoError(t, server.Close())
		}},
		{"half closed, by the server at last", func(client, server *net.TCPConn) {
			require.NoError(t, client.CloseWrite())
			awaitEOF(t, server)
			time.Sleep(idle)
			require.NoError(t, server.Close())
			awaitEOF(t, client)
			require.NoError(t, client.Close())
		}},
	}
	l := listener(t, there, "tcp4", "10.1.0.2:8080")
	type lasting struct{ least, most time.Duration }
	want := map[int64]lasting{}
	names := map[int64]string{}
	for _, tt := range ends {
		start := time.Now()
		client := dial(t, here, "tcp4", "10.1.0.2:8080")
		server, err := l.Accept()
		require.NoError(t, err)
		port := int64(client.LocalAddr().(*net.TCPAddr).Port)
		established := time.Now()
		tt.end(client, server.(*net.TCPConn))
		least := time.Since(established)
		closed(t, here, there)
		want[port], names[port] = lasting{min(least, idle), time.Since(start)}, tt.name
	}
	run.Stop()

	have := map[string]float64{}
	for _, logs := range run.Logs.AllLogs() {
		each(logs, func(r plog.LogRecord) {
			a := r.Attributes().AsRaw()
			if a["ebpf.network.namespace"] != here.Inode() && a["ebpf.network.namespace"] != there.Inode() {
				return
			}
			port, side := a["network.local.port"], "the client"
			if a["ebpf.tcp.role"] == "accept" {
				port, side = a["network.peer.port"], "the server"
			}
			duration := a["ebpf.tcp.connection.duration"].(float64)
			have[fmt.Sprint(names[port.(int64)], ": ", side)] = duration
			limits := want[port.(int64)]
			assert.GreaterOrEqual(t, duration, limits.least.Seconds(), "%s: %s", names[port.(int64)], side)
			assert.LessOrEqual(t, duration, limits.most.Seconds(), "%s: %s", names[port.(int64)], side)
		})
	}
	require.Len(t, have, 2*len(ends))
}

func awaitEOF(t *testing.T, c *net.TCPConn) {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	require.Zero(t, n)
	require.EqualError(t, err, "EOF")
}
