// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// skipStatistics is RTEXT_FILTER_SKIP_STATS: a listing without counters.
const skipStatistics = 1 << 3

// linkRequest asks for all interfaces: an ifinfomsg, and IFLA_EXT_MASK.
func linkRequest() []byte {
	b := make([]byte, unix.SizeofIfInfomsg+8)
	binary.NativeEndian.PutUint16(b[unix.SizeofIfInfomsg:], 8)
	binary.NativeEndian.PutUint16(b[unix.SizeofIfInfomsg+2:], unix.IFLA_EXT_MASK)
	binary.NativeEndian.PutUint32(b[unix.SizeofIfInfomsg+4:], skipStatistics)
	return b
}

// parseLink reads an RTM_NEWLINK or RTM_DELLINK. What is said of a family, such as that an interface left a bridge, is not of the
// interface itself: not ok.
func parseLink(data []byte) (l *link, ok bool) {
	if len(data) < unix.SizeofIfInfomsg || data[0] != unix.AF_UNSPEC {
		return nil, false
	}
	l = &link{
		hardware: binary.NativeEndian.Uint16(data[2:]),
		index:    int(int32(binary.NativeEndian.Uint32(data[4:]))),
		flags:    binary.NativeEndian.Uint32(data[8:]),
	}
	attributes(data[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.name = text(value)
		case unix.IFLA_MASTER:
			l.master = number(value)
		case unix.IFLA_LINK_NETNSID:
			l.elsewhere = true
		case unix.IFLA_PARENT_DEV_NAME:
			l.parent = true
		case unix.IFLA_LINKINFO:
			attributes(value, func(kind uint16, value []byte) {
				if kind == unix.IFLA_INFO_KIND {
					l.kind = text(value)
				}
			})
		}
	})
	return l, l.index > 0 && l.name != ""
}

func text(b []byte) string {
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	return string(b)
}

func number(b []byte) int {
	if len(b) < 4 {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(b)))
}
