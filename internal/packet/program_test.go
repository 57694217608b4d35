// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"bytes"
	_ "embed"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
)

//go:embed testdata/count/count.bpf.o
var countObject []byte

// sums is struct sums of testdata/count.
type sums struct{ Packets, Bytes, Segments, Wire, Tagged uint64 }

// counter is a program and its map, for one interface.
type counter struct {
	program *ebpf.Program
	sums    *ebpf.Map
}

func newCounter(t testing.TB, i Interface, verdict uint32) *counter {
	t.Helper()
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(countObject))
	require.NoError(t, err)
	if i.Counting.Ethernet {
		require.NoError(t, spec.Variables["link_header"].Set(uint32(header)))
	}
	require.NoError(t, spec.Variables["verdict"].Set(verdict))
	c, err := ebpf.NewCollection(spec)
	require.NoError(t, err)
	counter := &counter{program: c.DetachProgram("count"), sums: c.DetachMap("sums")}
	c.Close()
	return counter
}

func (c *counter) close() {
	_ = c.program.Close()
	_ = c.sums.Close()
}

func (c *counter) read(t testing.TB) (received, sent sums) {
	t.Helper()
	require.NoError(t, c.sums.Lookup(uint32(0), &received))
	require.NoError(t, c.sums.Lookup(uint32(1), &sent))
	return received, sent
}

// as is what an interface's counters should have grown by.
func (c *counter) as(t testing.TB, how Counting) counters {
	t.Helper()
	received, sent := c.read(t)
	one := func(s sums, adjust int8, wire, vlan bool) (total, packets uint64) {
		total, packets = s.Bytes, s.Packets
		each := packets
		if wire {
			total, packets, each = s.Wire, s.Segments, s.Segments
		}
		total += uint64(int64(adjust) * int64(each))
		if vlan {
			total += 4 * s.Tagged
		}
		return total, packets
	}
	var k counters
	k.receivedBytes, k.receivedPackets = one(received, how.Receive, how.WireReceive, how.VLANReceive)
	if how.Loopback {
		k.sentBytes, k.sentPackets = k.receivedBytes, k.receivedPackets
		return k
	}
	k.sentBytes, k.sentPackets = one(sent, how.Transmit, how.WireTransmit, how.VLANTransmit)
	return k
}
