// SPDX-License-Identifier: Apache-2.0

//go:build linux

package flow_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// Protocols inside IP.
const (
	icmp     = 1
	tcp      = 6
	udp      = 17
	gre      = 47
	esp      = 50
	ah       = 51
	icmp6    = 58
	sctp     = 132
	hopByHop = 0
	routing  = 43
	fragment = 44
	options  = 60
)

// TCP's flags.
const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
)

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

func word(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

// ethernet is a frame's header: to everybody, so that no interface leaves it to others.
func ethernet(ethertype uint16) []byte {
	return join([]byte{255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9}, word(ethertype))
}

// tagged is an Ethernet header with VLAN tags, the outer one first, each a tag protocol and an id.
func tagged(ethertype uint16, tags ...[2]uint16) []byte {
	h := ethernet(0)[:12]
	for _, tag := range tags {
		h = join(h, word(tag[0]), word(tag[1]))
	}
	return join(h, word(ethertype))
}

func addresses(from, to string) []byte {
	return join(netip.MustParseAddr(from).AsSlice(), netip.MustParseAddr(to).AsSlice())
}

// ipv4 is a packet without a checksum, which nobody looks at here.
func ipv4(protocol byte, from, to string, payload []byte) []byte {
	return ipv4With(protocol, from, to, 0, nil, payload)
}

func ipv4With(protocol byte, from, to string, fragment uint16, options, payload []byte) []byte {
	length := 20 + len(options)
	return join([]byte{byte(0x40 | length/4), 0xb8}, word(uint16(length+len(payload))), word(7), word(fragment), []byte{64, protocol, 0, 0},
		addresses(from, to), options, payload)
}

func ipv6(next byte, from, to string, payload []byte) []byte {
	return join([]byte{0x6b, 0x80, 0, 0}, word(uint16(len(payload))), []byte{next, 64}, addresses(from, to), payload)
}

// extension is a header between IPv6's and the transport's, of 8 bytes and some more.
func extension(next byte, more int, payload []byte) []byte {
	return join([]byte{next, byte(more), 1, 4, 0, 0, 0, 0}, make([]byte, 8*more), payload)
}

func ports(from, to uint16) []byte { return join(word(from), word(to)) }

func udpSegment(from, to uint16, payload int) []byte {
	return join(ports(from, to), word(uint16(8+payload)), word(0), make([]byte, payload))
}

func tcpSegment(from, to uint16, flags byte, payload int) []byte {
	return join(ports(from, to), make([]byte, 8), []byte{0x50, flags}, make([]byte, 6), make([]byte, payload))
}

// send puts frames on an interface.
func send(t testing.TB, n *kernel.Network, name string, frames ...[]byte) {
	t.Helper()
	index := n.Link(name).Attrs().Index
	n.Do(func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		defer unix.Close(fd)
		for _, frame := range frames {
			// The protocol is what a driver would say of the frame.
			protocol := uint16(0)
			if len(frame) >= 14 {
				protocol = binary.BigEndian.Uint16(frame[12:])
			}
			to := &unix.SockaddrLinklayer{Ifindex: index, Protocol: protocol>>8 | protocol<<8}
			for {
				err = unix.Sendto(fd, frame, 0, to)
				if err != unix.ENOBUFS {
					break
				}
			}
			require.NoError(t, err)
		}
	})
}
