// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// TCP's flags.
const (
	syn = 0x02
	rst = 0x04
	psh = 0x08
	ack = 0x10
)

// packet is one over IP that a test makes itself. Its checksums are right unless it says otherwise.
type packet struct {
	from, to netip.AddrPort
	ttl      byte // 64 if it is 0
	protocol byte // TCP if it is 0
	sequence uint32
	answer   uint32 // the number that is acknowledged
	flags    byte
	offset   byte // of the data, in words; 5 if it is 0
	payload  []byte
	cut      int  // bytes that are left of what follows IP's header, 0 for all of them
	wrongIP  bool // checksum
	wrong    bool // checksum of what follows IP's header
}

func put16(b []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(b, v) }
func put32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }

// checksum is the one of IP, TCP and UDP.
func checksum(parts ...[]byte) uint16 {
	b := slices.Concat(parts...)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func (p packet) segment() []byte {
	var b []byte
	at := 16 // of the checksum
	switch p.protocol {
	case unix.IPPROTO_TCP:
		b = put16(put16(b, p.from.Port()), p.to.Port())
		b = put32(put32(b, p.sequence), p.answer)
		b = append(b, p.offset<<4, p.flags, 0xff, 0xff, 0, 0, 0, 0)
	case unix.IPPROTO_UDP:
		b = put16(put16(b, p.from.Port()), p.to.Port())
		b = append(put16(b, uint16(8+len(p.payload))), 0, 0)
		at = 6
	default:
		return p.payload
	}
	b = append(b, p.payload...)
	pseudo := put16(slices.Concat(p.from.Addr().AsSlice(), p.to.Addr().AsSlice(), []byte{0, p.protocol}), uint16(len(b)))
	sum := checksum(pseudo, b)
	if p.wrong {
		sum ^= 0x5555
	}
	binary.BigEndian.PutUint16(b[at:], sum)
	return b
}

// frame is the packet to an interface on Ethernet.
func (p packet) frame(to net.HardwareAddr) []byte {
	for value, otherwise := range map[*byte]byte{&p.ttl: 64, &p.protocol: unix.IPPROTO_TCP, &p.offset: 5} {
		if *value == 0 {
			*value = otherwise
		}
	}
	b := p.segment()
	if p.cut > 0 {
		b = b[:p.cut]
	}
	var header []byte
	ethertype := uint16(0x0800)
	addresses := slices.Concat(p.from.Addr().AsSlice(), p.to.Addr().AsSlice())
	if p.from.Addr().Is4() {
		header = put16([]byte{0x45, 0}, uint16(20+len(b)))
		header = append(header, 0, 7, 0, 0, p.ttl, p.protocol, 0, 0)
		header = append(header, addresses...)
		sum := checksum(header)
		if p.wrongIP {
			sum ^= 0x5555
		}
		binary.BigEndian.PutUint16(header[10:], sum)
	} else {
		ethertype = 0x86dd
		header = append(put16([]byte{0x60, 0, 0, 0}, uint16(len(b))), p.protocol, p.ttl)
		header = append(header, addresses...)
	}
	return slices.Concat(ethernet(to, ethertype), header, b)
}

// ethernet is a frame's header, from an interface that there is not.
func ethernet(to net.HardwareAddr, ethertype uint16) []byte {
	return put16(slices.Concat(to, []byte{2, 0, 0, 0, 0, 9}), ethertype)
}

// send puts a frame on an interface, some times.
func send(t *testing.T, n *kernel.Network, name string, times int, frame []byte) {
	t.Helper()
	index := n.Link(name).Attrs().Index
	n.Do(func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		defer unix.Close(fd)
		for range times {
			require.NoError(t, unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index}))
		}
	})
}

// numbers are the next sequence numbers of a connection that is silent: of what this end sends, and of what it receives.
func numbers(t *testing.T, c *net.TCPConn) (sends, receives uint32) {
	t.Helper()
	const (
		receiveQueue = 1
		sendQueue    = 2
		withoutProbe = -1 // TCP_REPAIR_OFF_NO_WP
	)
	raw, err := c.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		require.NoError(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1))
		for queue, number := range map[int]*uint32{receiveQueue: &receives, sendQueue: &sends} {
			require.NoError(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, queue))
			v, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
			require.NoError(t, err)
			*number = uint32(v)
		}
		require.NoError(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, withoutProbe))
	}))
	return sends, receives
}
