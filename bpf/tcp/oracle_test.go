// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// oracle is another tool that watches the machine's connections. Only those of an address are kept of what it says.
type oracle struct {
	cmd  *exec.Cmd
	done sync.WaitGroup
	mu   sync.Mutex
	said [][]string
}

// consult starts a tool, and waits until it sees connections.
func consult(t *testing.T, address, name string, args ...string) *oracle {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed (Debian: libbpf-tools)", name)
	}
	o := &oracle{cmd: exec.Command("stdbuf", append([]string{"-oL", path}, args...)...)}
	out, err := o.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, o.cmd.Start())
	o.done.Go(func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if f := strings.Fields(lines.Text()); slices.Contains(f, address) {
				o.mu.Lock()
				o.said = append(o.said, f)
				o.mu.Unlock()
			}
		}
	})
	t.Cleanup(o.end)
	return o
}

// lines are what it has said of connections with this port at one of their ends.
func (o *oracle) lines(port int) (lines [][]string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range o.said {
		if slices.Contains(f, strconv.Itoa(port)) {
			lines = append(lines, f)
		}
	}
	return lines
}

// end waits for the last that it says.
func (o *oracle) end() {
	if o.cmd.ProcessState == nil {
		_ = o.cmd.Process.Signal(os.Interrupt)
		o.done.Wait()
		_ = o.cmd.Wait()
	}
}

// The ports of servers that oracles look at.
const oraclePort, warmUpPort = 739, 738

// watched is a pair of hosts of which oracles see the connections to some ports of an address there, from each end.
func watched(t *testing.T, tool string) (here, there *kernel.Network, clients, servers *oracle, address string) {
	t.Helper()
	here, there = pair(t)
	// The addresses are this process's own, because other runs of these tests are seen, too.
	own := func(last int) string {
		pid := os.Getpid()
		return fmt.Sprintf("10.%d.%d.%d", 128+pid>>14%128, pid>>6%256, pid%64*4+last)
	}
	address = own(2)
	here.Up("cable", own(1)+"/30")
	there.Up("cable", address+"/30")
	ports := fmt.Sprintf("%d,%d", oraclePort, warmUpPort)
	clients, servers = consult(t, address, tool, "-D", ports), consult(t, address, tool, "-L", ports)
	s := serve(t, there, "tcp4", net.JoinHostPort(address, strconv.Itoa(warmUpPort)))
	require.Eventually(t, func() bool {
		c := dial(t, here, "tcp4", s.Addr().String())
		exchange(t, c, 1)
		c.Close()
		return len(clients.lines(warmUpPort)) > 0 && len(servers.lines(warmUpPort)) > 0
	}, wait, 5*tick, "%s sees nothing", tool)
	s.end()
	closed(t, here, there)
	return here, there, clients, servers, address
}

// Of each connection that has ended, tcplife has the same ends, bytes and duration.
func TestKernelTCPEqualsTcplife(t *testing.T) {
	here, there, clients, servers, address := watched(t, "tcplife")
	run := here.Start(withRecords)
	s := serve(t, there, "tcp4", net.JoinHostPort(address, strconv.Itoa(oraclePort)))
	const n = 12
	for i := range n {
		c := dial(t, here, "tcp4", s.Addr().String())
		exchange(t, c, i*i*10_000)
		time.Sleep(time.Duration(i) * 10 * time.Millisecond) // they last some time
		require.NoError(t, c.Close())
	}
	s.end()
	closed(t, here, there)
	run.Stop()
	for role, o := range map[string]*oracle{"connect": clients, "accept": servers} {
		require.Eventually(t, func() bool { return len(o.lines(oraclePort)) >= n }, wait, tick)
		o.end()
		lines := o.lines(oraclePort)
		require.Len(t, lines, n)
		records := map[string]map[string]any{}
		for _, logs := range run.Logs.AllLogs() {
			each(logs, func(r plog.LogRecord) {
				a := r.Attributes().AsRaw()
				if (a["ebpf.network.namespace"] == here.Inode() || a["ebpf.network.namespace"] == there.Inode()) && a["ebpf.tcp.role"] == role {
					records[fmt.Sprint(a["network.local.address"], " ", a["network.local.port"], " ", a["network.peer.address"], " ", a["network.peer.port"])] = a
				}
			})
		}
		require.Len(t, records, n)
		for _, f := range lines {
			// pid, command, local address and port, remote ones, KB sent and received, ms
			require.Len(t, f, 9, "%v", f)
			r := records[strings.Join(f[2:6], " ")]
			require.NotNil(t, r, "%v", f)
			number := func(i int) float64 {
				v, err := strconv.ParseFloat(f[i], 64)
				require.NoError(t, err)
				return v
			}
			// Its bytes are the kernel's, with our SYN and FIN in what was acknowledged, and the peer's FIN in what was received, as far as
			// they are through at that time; and in units of 10 bytes.
			const unit = 1024 * 0.01
			sent, received := float64(r["ebpf.tcp.transmitted.bytes"].(int64)), float64(r["ebpf.tcp.received.bytes"].(int64))
			assert.InDelta(t, number(6)*1024, sent+1, unit/2+1, "%v", f)
			assert.InDelta(t, number(7)*1024, received+0.5, unit/2+0.5, "%v", f)
			assert.InDelta(t, number(8)/1e3, r["ebpf.tcp.connection.duration"], 0.005, "%v", f)
		}
	}
}

// As many connections are established and end from each state as tcpstates tells of, and as many attempts fail.
func TestKernelTCPEqualsTcpstates(t *testing.T) {
	here, there, clients, servers, address := watched(t, "tcpstates")
	run := here.Start(byNamespace)
	s := serve(t, there, "tcp4", net.JoinHostPort(address, strconv.Itoa(oraclePort)))
	for i := range 30 {
		c := dial(t, here, "tcp4", s.Addr().String())
		exchange(t, c, 10)
		switch i % 3 {
		case 0: // ends with a reset
			require.NoError(t, c.SetLinger(0))
		case 1: // the server is the first to end it
			s.drop()
			_, err := c.Read(make([]byte, 1))
			require.Error(t, err)
		}
		require.NoError(t, c.Close())
	}
	s.end()
	closed(t, here, there)
	for range 5 {
		require.Error(t, dialing(here, s.Addr().String(), wait))
	}
	run.Stop()
	for _, end := range []struct {
		host *kernel.Network
		role string
		*oracle
		first string // the state before the establishment
	}{{here, "connect", clients, "SYN_SENT"}, {there, "accept", servers, "SYN_RECV"}} {
		opened := kernel.Values(kernel.With(kernel.Of(run.Last("ebpf.tcp.connections"), end.host), "server.port", int64(oraclePort)), "ebpf.tcp.role", "error.type")
		ends := kernel.Values(kernel.Of(run.Last("ebpf.tcp.connection.duration"), end.host), "network.connection.state")
		transitions := func() map[string]int {
			m := map[string]int{}
			for _, f := range end.lines(oraclePort) {
				for i, word := range f {
					if word == "->" {
						m[f[i-1]+" "+f[i+1]]++
					}
				}
			}
			return m
		}
		failed := 0
		if end.role == "connect" {
			failed = 5
		}
		require.Eventually(t, func() bool {
			ended := 0
			for transition, n := range transitions() {
				if strings.HasSuffix(transition, " CLOSE") {
					ended += n
				}
			}
			return ended >= 30+failed
		}, wait, tick)
		end.end()
		said := transitions()
		assert.Equal(t, said[end.first+" ESTABLISHED"], opened[end.role+" -"], "%v", said)
		assert.Equal(t, said["SYN_SENT CLOSE"], opened["connect ECONNREFUSED"], "%v", said)
		byState := map[string]int{}
		for transition, n := range said {
			if before, ok := strings.CutSuffix(transition, " CLOSE"); ok && before != "SYN_SENT" && before != "LISTEN" {
				byState[before] += n
			}
		}
		have := map[string]int{}
		for state, n := range ends {
			name := strings.NewReplacer("fin_wait_", "fin_wait").Replace(state)
			have[strings.ToUpper(name)] += n
		}
		assert.Equal(t, byState, have)
	}
}
