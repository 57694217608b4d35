// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"slices"

	"golang.org/x/sys/unix"
)

// Counting is how an interface's own counters of bytes and packets (ip -s link) relate to what a packet socket is shown. For
// each packet, the counters grow by the length that the socket filter sees (skb->len), and
//   - Receive or Transmit more, which are negative where the counters leave the Ethernet header out;
//   - 4 more where VLANReceive or VLANTransmit and the packet has a VLAN tag, which the kernel keeps beside the packet;
//   - where WireReceive or WireTransmit and the packet stands for several segments (skb->gso_segs > 1): the headers (link,
//     network and transport layer) of each segment after the first, and one packet for each segment.
//
// A packet that is shown as going out (PACKET_OUTGOING) is transmitted, any other one received.
//
// Loopback, veths, bridges, macvlans, vxlans, tun and tap devices are held against their counters to the byte by this package's
// tests; the others are from the kernel's sources. The two differ by packets that are dropped after they were shown (a veth's full
// queue) or counted before they were dropped, by what is passed to an interface without a driver (a macvlan to its neighbours, through
// the parent), by drivers whose hardware counts the frame check sequence, and by received VLAN tags that a
// driver did not strip. WireGuard's counters are of encrypted messages.
type Counting struct {
	// Ethernet tells that what is shown begins with an Ethernet header; otherwise with the network layer's.
	Ethernet bool
	// Receive and Transmit are in bytes.
	Receive, Transmit         int8
	VLANReceive, VLANTransmit bool
	WireReceive, WireTransmit bool
	// Loopback tells that what is sent is received again by the same interface: only what is received counts, and what the
	// counters say was received is also what they say was transmitted.
	Loopback bool
}

// header is the length of an Ethernet header, ETH_HLEN.
const header = 14

// ethernets are the link layers whose frames begin with an Ethernet header.
var ethernets = []uint16{unix.ARPHRD_ETHER, unix.ARPHRD_LOOPBACK}

// counting is how an interface's counters count. Where each line is from stands beside it, by the function of the kernel that
// counts; kinds that are not named count what is shown.
func (n *namespace) counting(l *link) Counting {
	c := Counting{Ethernet: slices.Contains(ethernets, l.hardware)}
	ethernet := func(bytes int8) int8 {
		if c.Ethernet {
			return bytes
		}
		return 0
	}
	switch l.kind {
	case "":
		if l.flags&unix.IFF_LOOPBACK != 0 {
			// loopback_xmit: after eth_type_trans has pulled the header.
			c.Receive, c.Transmit, c.Loopback = -header, -header, true
			break
		}
		hardware(&c, l.driver)
	case "bridge", "vlan", "team":
		// br_pass_frame_up, vlan_do_receive, team_handle_frame: without the header; br_dev_xmit, vlan_dev_hard_start_xmit
		// and team_xmit with it.
		c.Receive = -header
	case "vxlan", "geneve", "bareudp":
		// vxlan_rcv and geneve_rx: after eth_type_trans; iptunnel_xmit: from the inner network header on.
		c.Receive, c.Transmit = ethernet(-header), ethernet(-header)
	case "gretap", "ip6gretap", "erspan", "ip6erspan":
		// ip_tunnel_rcv: before eth_type_trans; iptunnel_xmit: from the inner network header on.
		c.Transmit = -header
	case "tun":
		// tun_get_user and tun_put_user: what the process wrote or read, in which a VLAN tag is in its place.
		c.VLANReceive, c.VLANTransmit = true, true
	case "veth":
		if l.gro {
			// veth_xdp_rcv: each packet before it is merged with others, after eth_type_trans. Two limits: large packets that the
			// peer sends and that are merged again can not be told apart, and the peer's counters of sent packets are these,
			// which is not to be seen from there.
			c.Receive, c.WireReceive = -header, true
		}
	case "bond":
		// bond_get_stats: the sum of its members'. Where they differ, the first is taken for all.
		first := 0
		for index, member := range n.links {
			if member.master == l.index && member.kind == "" && (first == 0 || index < first) {
				first = index
			}
		}
		if first > 0 {
			hardware(&c, n.links[first].driver)
		}
	}
	return c
}

// hardware is how drivers count. Most count what is on the wire, each segment with its headers, both ways.
func hardware(c *Counting, driver string) {
	c.WireReceive, c.WireTransmit = true, true
	switch driver {
	case "virtio_net":
		// receive_buf and free_old_xmit: what passes the ring. A large packet from the host is none of merged segments, and the
		// kernel leaves its gso_segs at 0. VLAN tags are in their place.
		c.WireTransmit = false
		c.VLANReceive = true
	case "vif", "ena", "gve", "hv_netvsc", "r8169":
		c.WireTransmit = false
	}
}
