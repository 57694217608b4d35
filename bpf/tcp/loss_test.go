// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// shape lets a program decide about an interface's packets, until the test or the result ends it.
func shape(t *testing.T, n *kernel.Network, name string, attach ebpf.AttachType, instructions asm.Instructions) (stop func()) {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "MIT", Instructions: instructions})
	require.NoError(t, err)
	t.Cleanup(func() { program.Close() })
	var l link.Link
	n.Do(func() {
		l, err = link.AttachTCX(link.TCXOptions{Interface: n.Link(name).Attrs().Index, Program: program, Attach: attach})
		if err != nil {
			t.Skipf("this kernel can not lose packets on purpose: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { l.Close() })
	t.Cleanup(stop)
	return stop
}

// loss drops every nth of the packets with data that a host receives, and returns how many it has dropped.
func loss(t *testing.T, n *kernel.Network, name string, every int32) (dropped func() int) {
	t.Helper()
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	require.NoError(t, err)
	t.Cleanup(func() { counts.Close() })
	const withData, length, pass, drop = 500, 0, 0, 2
	shape(t, n, name, ebpf.AttachTCXIngress, asm.Instructions{
		asm.LoadMem(asm.R7, asm.R1, length, asm.Word),
		asm.JLT.Imm(asm.R7, withData, "pass"),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, counts.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.Mod.Imm(asm.R1, every),
		asm.JNE.Imm(asm.R1, 0, "pass"),
		asm.Mov.Imm(asm.R0, drop),
		asm.Return(),
		asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"),
		asm.Return(),
	})
	return func() int {
		var seen uint64
		require.NoError(t, counts.Lookup(uint32(0), &seen))
		return int(seen) / int(every)
	}
}

// What is lost is sent again, and counted as the kernel does; the packets that were lost are drops with a reason.
func TestKernelTCPRetransmits(t *testing.T) {
	here, there := pair(t)
	require.NoError(t, here.Netlink.LinkSetGSOMaxSegs(here.Link("cable"), 1))
	dropped := loss(t, there, "cable", 20)
	run := here.Start(byNamespace)
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	c := dial(t, here, "tcp4", "10.1.0.2:8080")
	exchange(t, c, 1<<20)
	// A last segment that is lost has no other after it that would tell.
	for range 40 {
		exchange(t, c, 1000)
	}
	require.NoError(t, c.Close())
	s.end()
	closed(t, here, there)
	run.Stop()

	again := kernel.Of(run.Last("ebpf.tcp.retransmits"), here)
	require.Positive(t, dropped())
	kinds := kernel.Values(again, "ebpf.tcp.retransmit.kind")
	assert.Equal(t, here.Counters()["TcpRetransSegs"], total(again), "%v of %v", kinds, here.Counters())
	assert.GreaterOrEqual(t, total(again), dropped())
	// The kernel also counts as fast what it sends again before it has found out why, and probes that are new data.
	assert.LessOrEqual(t, kinds["fast"], here.Counters()["TcpExtTCPFastRetrans"])
	assert.LessOrEqual(t, kinds["tail_loss_probe"], here.Counters()["TcpExtTCPLossProbes"])
	assert.Positive(t, kinds["fast"]+kinds["tail_loss_probe"], "%v", kinds)
	assert.Equal(t, map[string]int{"transmit": 1<<20 + 40_000, "receive": 1<<20 + 40_000}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), here), "network.io.direction"))
	// The kernel counts in its queue what waited for the socket's lock together, and was made one, as one.
	early, queued := total(kernel.Of(run.Last("ebpf.tcp.out_of_order"), there)), there.Counters()["TcpExtTCPOFOQueue"]
	assert.GreaterOrEqual(t, early, queued)
	assert.LessOrEqual(t, early, queued+there.Counters()["TcpExtTCPBacklogCoalesce"])
	if byReason := kernel.Values(kernel.Of(run.Last("ebpf.network.drops"), there), "ebpf.network.drop.reason", "network.transport"); hasReasons(t) {
		assert.Equal(t, dropped(), byReason["tc_ingress tcp"], "%v", byReason)
	}
}

// nothing of IPv4 gets through.
func nothing() asm.Instructions {
	const protocol, pass, drop = 16, 0, 2
	ethertype := binary.NativeEndian.Uint16([]byte{unix.ETH_P_IP >> 8, unix.ETH_P_IP & 0xff})
	return asm.Instructions{
		asm.LoadMem(asm.R7, asm.R1, protocol, asm.Word),
		asm.Mov.Imm(asm.R0, pass),
		asm.JNE.Imm(asm.R7, int32(ethertype), "out"),
		asm.Mov.Imm(asm.R0, drop),
		asm.Return().WithSymbol("out"),
	}
}

// dialAgain connects while something keeps the answer away: until a host has sent again what it says, and release lets it through.
func dialAgain(t *testing.T, from, again *kernel.Network, release func()) (_ *net.TCPConn, took time.Duration) {
	t.Helper()
	var dialling sync.WaitGroup
	var c net.Conn
	var err error
	dialling.Go(func() {
		from.Do(func() {
			start := time.Now()
			c, err = net.Dial("tcp4", "10.1.0.2:8080")
			took = time.Since(start)
		})
	})
	assert.Eventually(t, func() bool { return again.Counters()["TcpRetransSegs"] > 0 }, wait, tick)
	release()
	dialling.Wait()
	require.NoError(t, err)
	return c.(*net.TCPConn), took
}

// What was sent again of a handshake is counted once, though the connection's own number begins with it.
func TestKernelTCPLostHandshake(t *testing.T) {
	here, there := pair(t)
	run := here.Start(byNamespace)
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	stop := shape(t, here, "cable", ebpf.AttachTCXIngress, nothing())
	c, took := dialAgain(t, here, there, stop)
	exchange(t, c, 100)
	require.NoError(t, c.Close())
	s.end()
	closed(t, here, there)
	run.Stop()
	for n, kind := range map[*kernel.Network]string{here: "syn", there: "syn_ack"} {
		require.Positive(t, n.Counters()["TcpRetransSegs"])
		retransmits := kernel.Of(run.Last("ebpf.tcp.retransmits"), n)
		assert.Equal(t, n.Counters()["TcpRetransSegs"], total(retransmits), "data, too, where the machine is slow")
		assert.Positive(t, kernel.Values(retransmits, "ebpf.tcp.retransmit.kind")[kind])
	}
	// The first timeout of a handshake is a second.
	latency := kernel.Of(run.Last("ebpf.tcp.connect.latency"), here)
	require.Equal(t, map[string]int{"connect 8080": 1}, kernel.Values(latency, "ebpf.tcp.role", "server.port"))
	assert.GreaterOrEqual(t, latency[0].Sum, time.Second.Seconds())
	assert.LessOrEqual(t, latency[0].Sum, took.Seconds())
}

// Of a connection whose own host refused to send for a while, nobody can tell who began it: it has no role, rather than a wrong one.
func TestKernelTCPRoleOfWhatWasRefused(t *testing.T) {
	here, there := pair(t)
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	c := dial(t, here, "tcp4", "10.1.0.2:8080")
	exchange(t, c, 1000)
	stop := shape(t, here, "cable", ebpf.AttachTCXEgress, nothing())
	_, err := c.Write(make([]byte, 500))
	require.NoError(t, err)
	stop()
	_, err = io.ReadFull(c, make([]byte, 500))
	require.NoError(t, err)
	run := here.Start(byNamespace)
	exchange(t, c, 10)
	require.NoError(t, c.Close())
	s.end()
	run.Stop()
	assert.Equal(t, map[string]int{"- - transmit": 10, "- - receive": 10}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), here), "ebpf.tcp.role", "server.port", "network.io.direction"))
}

// hasReasons tells whether the running kernel knows why it drops packets.
func hasReasons(t *testing.T) bool {
	t.Helper()
	_, ok := tracepoint(t, "kfree_skb", 3)
	return ok
}
