// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// serialize makes messages as another library writes them.
func serialize(kind uint16, parts ...[]nl.NetlinkRequestData) (b []byte) {
	for i, data := range parts {
		request := nl.NetlinkRequest{NlMsghdr: unix.NlMsghdr{Type: kind, Flags: unix.NLM_F_MULTI, Seq: uint32(i)}, Data: data}
		b = append(b, request.Serialize()...)
	}
	return b
}

// collect is what messages gives.
func collect(b []byte) (list []message, ok bool) {
	ok = messages(b, func(m message) { list = append(list, m) })
	return list, ok
}

type attribute struct {
	kind  uint16
	value []byte
}

func attributesOf(b []byte) (list []attribute) {
	attributes(b, func(kind uint16, value []byte) { list = append(list, attribute{kind, value}) })
	return list
}

// padded is b with room for the padding of its last message.
func padded(b []byte) []byte { return append(bytes.Clone(b), make([]byte, align(len(b))-len(b))...) }

// Messages and their attributes are what Go's own parser finds. It asks for the padding of the last one, too, and does not tell of what is left.
func FuzzMessages(f *testing.F) {
	link := nl.NewIfInfomsg(unix.AF_UNSPEC)
	link.Index = 7
	name := nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("eth0"))
	whole := serialize(unix.RTM_NEWLINK, []nl.NetlinkRequestData{link, name}, []nl.NetlinkRequestData{link}, nil)
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(append(whole, 1, 2, 3))
	f.Add(append([]byte{17, 0, 0, 0}, whole[4:]...))
	f.Add(append([]byte{255, 255, 255, 255}, whole[4:]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, ok := collect(b)
		same := func(others []syscall.NetlinkMessage) {
			require.Len(t, list, len(others))
			for i, other := range others {
				m := list[i]
				require.Equal(t, []any{other.Header.Type, other.Header.Flags, other.Header.Seq}, []any{m.kind, m.flags, m.seq})
				require.True(t, bytes.Equal(other.Data, m.data))
			}
		}
		if others, err := syscall.ParseNetlinkMessage(b); err == nil {
			same(others)
			size := 0
			for _, other := range others {
				size += align(int(other.Header.Len))
			}
			require.Equal(t, size == len(b), ok, "what is left is no message")
		}
		if ok {
			others, err := syscall.ParseNetlinkMessage(padded(b))
			require.NoError(t, err)
			same(others)
		}

		for _, m := range append(list, message{data: b}) {
			parseAddress(m.data)
			if l, ok := parseLink(m.data); ok {
				require.Positive(t, l.index)
				require.NotEmpty(t, l.name)
				require.NotContains(t, l.name+l.kind, "\x00")
			}
			body := m.data[min(len(m.data), unix.SizeofIfInfomsg):]
			list := attributesOf(body)
			others, err := syscall.ParseNetlinkRouteAttr(&syscall.NetlinkMessage{
				Header: syscall.NlMsghdr{Type: unix.RTM_NEWLINK}, Data: append(make([]byte, unix.SizeofIfInfomsg), padded(body)...),
			})
			if err != nil {
				continue // it gives none of those before a broken one
			}
			for i, other := range others {
				if i == len(list) {
					require.Equal(t, len(others)-1, i, "only the last one may need its padding, or be of nothing else")
					break
				}
				require.Equal(t, other.Attr.Type&attributeType, list[i].kind)
				require.True(t, bytes.Equal(other.Value, list[i].value))
			}
			require.LessOrEqual(t, len(list), len(others))
		}
	})
}

// A link is read as it was written by another library, whatever else is said of it.
func FuzzParseLink(f *testing.F) {
	f.Add(int32(2), uint32(unix.IFF_UP), uint16(unix.ARPHRD_ETHER), uint8(0), "eth0", "", uint32(0), uint8(2), uint16(unix.IFLA_MTU), []byte{1, 2, 3, 4})
	f.Add(int32(3), uint32(0), uint16(0), uint8(unix.AF_BRIDGE), "br0", "bridge", uint32(0), uint8(0), uint16(0), []byte{})
	f.Add(int32(-1), uint32(0), uint16(0), uint8(unix.AF_UNSPEC), "veth-abcdefghijk", "veth", ^uint32(0), uint8(3), uint16(0x8000), []byte{})
	f.Fuzz(func(t *testing.T, index int32, flags uint32, hardware uint16, family uint8, name, kind string, master uint32, more uint8, other uint16, value []byte) {
		switch other & attributeType {
		case unix.IFLA_IFNAME, unix.IFLA_MASTER, unix.IFLA_LINK_NETNSID, unix.IFLA_PARENT_DEV_NAME, unix.IFLA_LINKINFO:
			t.Skip("said twice")
		}
		if strings.Contains(name+kind, "\x00") || len(name)+len(kind)+len(value) > 1<<12 {
			t.Skip("no name")
		}
		msg := nl.NewIfInfomsg(int(family))
		msg.Index, msg.Flags, msg.Type = index, flags, hardware
		extra := nl.NewRtAttr(int(other), value)
		info := nl.NewRtAttr(unix.IFLA_LINKINFO|unix.NLA_F_NESTED, nil)
		if more&4 != 0 {
			info.AddRtAttr(unix.IFLA_INFO_DATA, value)
		}
		info.AddRtAttr(unix.IFLA_INFO_KIND, nl.ZeroTerminated(kind))
		data := []nl.NetlinkRequestData{
			msg, extra, nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)), nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(master)), info, extra,
		}
		if more&1 != 0 {
			data = append(data, nl.NewRtAttr(unix.IFLA_LINK_NETNSID, nl.Uint32Attr(3)))
		}
		if more&2 != 0 {
			data = append(data, nl.NewRtAttr(unix.IFLA_PARENT_DEV_NAME, nl.ZeroTerminated("0000:00:05.0")))
		}
		list, ok := collect(serialize(unix.RTM_NEWLINK, data))
		require.True(t, ok)
		require.Len(t, list, 1)
		l, ok := parseLink(list[0].data)
		require.Equal(t, family == unix.AF_UNSPEC && index > 0 && name != "", ok)
		if !ok {
			return
		}
		require.Equal(t, &link{
			index: int(index), name: name, kind: kind, hardware: hardware, flags: flags, master: int(int32(master)),
			elsewhere: more&1 != 0, parent: more&2 != 0,
		}, l)
	})
}

// Another library, which wrote a message, reads of it what we do.
func TestParseLinkAsAnotherLibrary(t *testing.T) {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Flags = 7, unix.IFF_UP
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(unix.IFLA_INFO_KIND, nl.ZeroTerminated("dummy"))
	list, ok := collect(serialize(unix.RTM_NEWLINK, []nl.NetlinkRequestData{
		msg, nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("d0")), nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(9)), info,
	}))
	require.True(t, ok)
	other, err := netlink.LinkDeserialize(nil, list[0].data)
	require.NoError(t, err)
	l, ok := parseLink(list[0].data)
	require.True(t, ok)
	require.Equal(t, []any{other.Attrs().Index, other.Attrs().Name, other.Type(), other.Attrs().MasterIndex, other.Attrs().RawFlags},
		[]any{l.index, l.name, l.kind, l.master, l.flags})
}

// An address is read as it was written by another library: the local one, where a link has another at its other end.
func FuzzParseAddress(f *testing.F) {
	f.Add(int32(2), uint8(24), uint8(0), []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}, uint16(unix.IFA_LABEL), []byte("eth0\x00"))
	f.Add(int32(2), uint8(64), uint8(0), []byte{}, []byte(net.ParseIP("2001:db8::1")), uint16(unix.IFA_FLAGS), []byte{0, 0, 0, 0})
	f.Add(int32(1), uint8(8), uint8(unix.RT_SCOPE_HOST), []byte{127, 0, 0, 1}, []byte{127, 0, 0, 1}, uint16(0), []byte{})
	f.Fuzz(func(t *testing.T, index int32, bits, scope uint8, local, peer []byte, other uint16, value []byte) {
		if kind := other & attributeType; kind == unix.IFA_LOCAL || kind == unix.IFA_ADDRESS || len(local)+len(peer)+len(value) > 1<<12 {
			t.Skip("said twice, or too much")
		}
		msg := nl.NewIfAddrmsg(unix.AF_INET)
		msg.Index, msg.Prefixlen, msg.Scope = uint32(index), bits, scope
		data := []nl.NetlinkRequestData{msg, nl.NewRtAttr(int(other), value), nl.NewRtAttr(unix.IFA_ADDRESS, peer)}
		if len(local) > 0 {
			data = append(data, nl.NewRtAttr(unix.IFA_LOCAL, local))
		}
		list, ok := collect(serialize(unix.RTM_NEWADDR, data))
		require.True(t, ok)
		require.Len(t, list, 1)
		a, ok := parseAddress(list[0].data)

		want, valid := netip.AddrFromSlice(local)
		if !valid {
			want, valid = netip.AddrFromSlice(peer)
		}
		require.Equal(t, valid && scope == unix.RT_SCOPE_UNIVERSE && net.IP(want.AsSlice()).IsGlobalUnicast(), ok)
		if ok {
			require.Equal(t, address{index: int(index), bits: bits, ip: want}, a)
		}
	})
}
