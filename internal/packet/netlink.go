// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// attributeType is NLA_TYPE_MASK: without the flags in an attribute's type.
const attributeType = 0x3fff

// receiveBuffer is how many bytes of notifications may wait. It is a limit, not taken beforehand.
const receiveBuffer = 4 << 20

// errBusy says that a listing was interrupted by changes too often.
var errBusy = errors.New("the interfaces change faster than they can be listed")

// rtnetlink is a socket of rtnetlink(7) that is subscribed to changes and asked for listings, both on the same socket: so they
// come in the order in which the kernel made them, and a listing that is read beside changes needs no reconciling.
//
// github.com/vishvananda/netlink is not used for it: a subscription of its ends at the first overrun, its listings are made on
// another socket, and a goroutine is needed for each namespace.
type rtnetlink struct {
	fd     int
	seq    uint32
	buffer []byte
}

// message is one message of the kernel.
type message struct {
	kind  uint16
	flags uint16
	seq   uint32
	data  []byte
}

// openNetlink subscribes to groups (RTMGRP_*) of the calling thread's namespace.
func openNetlink(groups uint32, buffer []byte) (*rtnetlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	// Above the limit of net.core.rmem_max with CAP_NET_ADMIN only. A smaller one overruns earlier, and costs a listing.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("subscribe to changes of interfaces: %w", err)
	}
	return &rtnetlink{fd: fd, buffer: buffer}, nil
}

func (s *rtnetlink) close() error { return unix.Close(s.fd) }

// list asks for a listing, and gives fn all messages until its end, those of changes in between among them.
// fresh tells that nothing changed meanwhile that the listing could have missed.
func (s *rtnetlink) list(kind uint16, request []byte, fn func(message)) (fresh bool, err error) {
	s.seq++
	b := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(request))
	b = append(b, request...)
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	binary.NativeEndian.PutUint32(b[8:], s.seq)
	if err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return false, fmt.Errorf("ask for a listing: %w", err)
	}
	fresh = true
	var done bool
	var failed error
	lost, err := s.receive(func(m message) {
		if m.seq != s.seq {
			fn(m)
			return
		}
		fresh = fresh && m.flags&unix.NLM_F_DUMP_INTR == 0
		switch m.kind {
		case unix.NLMSG_DONE:
			done = true
		case unix.NLMSG_ERROR:
			if len(m.data) >= 4 {
				if number := int32(binary.NativeEndian.Uint32(m.data)); number != 0 {
					failed = unix.Errno(-number)
				}
			}
			done = true
		default:
			fn(m)
		}
	})
	switch {
	case err != nil:
		return false, err
	case failed != nil:
		return false, fmt.Errorf("list: %w", failed)
	}
	// The kernel makes a listing while it is read, so there is no waiting for it.
	return fresh && done && !lost, nil
}

// receive gives fn what waits, until nothing does. lost tells that messages were dropped by the kernel for want of room
// (ENOBUFS). They are dropped until the queue is empty, so only a listing that is asked for after this one returned is
// complete; see netlink_overrun and netlink_rcv_wake in net/netlink/af_netlink.c.
func (s *rtnetlink) receive(fn func(message)) (lost bool, err error) {
	for {
		n, from, err := unix.Recvfrom(s.fd, s.buffer, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return lost, nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS):
			lost = true
			continue
		case err != nil:
			return lost, fmt.Errorf("read from a netlink socket: %w", err)
		}
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			continue // not from the kernel
		}
		if n > len(s.buffer) { // with MSG_TRUNC, the length that it had
			lost = true
			s.buffer = make([]byte, n)
			continue
		}
		if !messages(s.buffer[:n], fn) {
			lost = true
		}
	}
}

// messages gives fn each message of a datagram, and tells whether all could be read.
func messages(b []byte, fn func(message)) bool {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return false
		}
		fn(message{
			kind:  binary.NativeEndian.Uint16(b[4:]),
			flags: binary.NativeEndian.Uint16(b[6:]),
			seq:   binary.NativeEndian.Uint32(b[8:]),
			data:  b[unix.SizeofNlMsghdr:size],
		})
		b = b[min(align(size), len(b)):]
	}
	return len(b) == 0
}

// attributes gives fn each attribute of a message, as far as they can be read.
func attributes(b []byte, fn func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofNlAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofNlAttr || size > len(b) {
			return
		}
		fn(binary.NativeEndian.Uint16(b[2:])&attributeType, b[unix.SizeofNlAttr:size])
		b = b[min(align(size), len(b)):]
	}
}

// align is NLMSG_ALIGN and NLA_ALIGN.
func align(n int) int { return (n + 3) &^ 3 }
