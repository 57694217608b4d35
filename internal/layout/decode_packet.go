// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"fmt"
	"strconv"
)

// transports are the protocols inside IP by IANA's keywords, in lower case as network.transport has them.
// https://www.iana.org/assignments/protocol-numbers
var transports = map[int64]string{
	1: "icmp", 2: "igmp", 4: "ipv4", 6: "tcp", 17: "udp", 33: "dccp", 41: "ipv6", 46: "rsvp", 47: "gre", 50: "esp", 51: "ah",
	58: "ipv6-icmp", 59: "ipv6-nonxt", 88: "eigrp", 89: "ospf", 94: "ipip", 97: "etherip", 103: "pim", 108: "ipcomp", 112: "vrrp",
	115: "l2tp", 132: "sctp", 136: "udplite", 137: "mpls-in-ip",
}

// networks are the protocols inside a frame by their ethertypes. IEEE 802.3 frames without one have numbers of the kernel's own.
// https://www.iana.org/assignments/ieee-802-numbers, include/uapi/linux/if_ether.h
var networks = map[int64]string{
	0x0800: "ipv4", 0x0806: "arp", 0x8035: "rarp", 0x8137: "ipx", 0x86dd: "ipv6", 0x8809: "slow", 0x8847: "mpls", 0x8848: "mpls",
	0x8863: "pppoe-discovery", 0x8864: "pppoe", 0x888e: "eapol", 0x8892: "profinet", 0x88a2: "aoe", 0x88cc: "lldp", 0x88e5: "macsec",
	0x88f7: "ptp", 0x8906: "fcoe", 0x8915: "roce",
}

// maxLength is the largest number in an ethertype's place that is the length of an IEEE 802.3 frame.
const maxLength = 1500

// buildTransport names a protocol inside IP; one without a name is its number.
func buildTransport(c *Column, f Field, _ Options) error {
	read, _, err := number(f)
	if err != nil {
		return err
	}
	c.setText(func(raw []byte) string {
		v := read(raw)
		if s, ok := transports[v]; ok {
			return s
		}
		return strconv.FormatInt(v, 10)
	})
	c.identity = nil // all are distinct
	return nil
}

// buildEthertype names a protocol by its ethertype, in host order; one without a name is its number in hexadecimal, and a length
// is that of a frame of logical link control.
func buildEthertype(c *Column, f Field, _ Options) error {
	read, _, err := number(f)
	if err != nil {
		return err
	}
	c.setText(func(raw []byte) string {
		v := read(raw)
		if s, ok := networks[v]; ok {
			return s
		}
		if v <= maxLength {
			return "llc"
		}
		return fmt.Sprintf("0x%04x", v)
	})
	return nil
}
