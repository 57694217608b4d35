// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// allProtocols is ETH_P_ALL in network byte order, as bind(2) takes it.
var allProtocols = binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))

// attach opens a packet socket in the calling thread's namespace, with a program as its filter, bound to one interface.
//
// Until it is bound, a socket of protocol 0 is given no packet; so the program sees none of another interface, and none passes
// without it. See packet(7). A socket stays bound while its interface is down; the packets go on when it is up again.
//
// The filter is not locked (SO_LOCK_FILTER), so that another program can take its place between two packets. Nobody else
// has the descriptor.
func attach(index, program int, loopback bool) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open a packet socket: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
			fd = -1
		}
	}()
	if err = setProgram(fd, program); err != nil {
		return fd, err
	}
	// Nothing is ever queued: the least that the kernel allows.
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0); err != nil {
		return fd, fmt.Errorf("limit a packet socket's buffer: %w", err)
	}
	if loopback {
		// Or each packet would be counted twice. Since Linux 4.20.
		if err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return fd, fmt.Errorf("ignore sent packets: %w", err)
		}
	}
	if err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: allProtocols, Ifindex: index}); err != nil {
		return fd, fmt.Errorf("bind a packet socket to an interface: %w", err)
	}
	return fd, nil
}

// setProgram makes a program a socket's filter, in the place of the one before.
func setProgram(fd, program int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, program); err != nil {
		return fmt.Errorf("attach a program to a packet socket: %w", err)
	}
	return nil
}

// bound tells whether a socket's interface still is there. The kernel unbinds sockets when it is removed or leaves its
// namespace (packet_notifier).
func bound(fd int) bool {
	address, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	l, ok := address.(*unix.SockaddrLinklayer)
	return ok && l.Ifindex > 0
}

// statistics are a socket's packets that its program let pass, and how many of them did not fit, since this was last asked.
func statistics(fd int) (passed, dropped uint64) {
	s, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, 0
	}
	return uint64(s.Packets), uint64(s.Drops)
}
