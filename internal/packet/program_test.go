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

// newCounter may be called by the follower's goroutine, which no failing test may end.
func newCounter(i Interface, verdict uint32) (*counter, error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(countObject))
	if err != nil {
		return nil, err
	}
	if i.Counting.Ethernet {
		if err := spec.Variables["link_header"].Set(uint32(header)); err != nil {
			return nil, err
		}
	}
	if err := spec.Variables["verdict"].Set(verdict); err != nil {
		return nil, err
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return &counter{program: c.DetachProgram("count"), sums: c.DetachMap("sums")}, nil
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
