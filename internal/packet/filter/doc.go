// SPDX-License-Identifier: Apache-2.0

// Package filter compiles tcpdump's filter expressions, pcap-filter(7), to classic BPF and to the eBPF body of a function,
// and puts that function into a socket-filter program written in C.
//
// It needs no privileges and asks no kernel, network or name server. Names of hosts are refused; names of ports and protocols
// come from a small table.
//
// The parser and the code generator are our own: github.com/packetcap/go-pcap has no link type but Ethernet, no accessors,
// arithmetic or positions of errors, and differs from tcpdump for IPv6, fragments and inherited qualifiers.
//
// # Meaning
//
// An expression means what libpcap 1.10 makes of it, down to the order of tests, so that truncated packets give
// the same answer: a load beyond the packet's end is "no match". The tests hold every verdict against tcpdump's own programs.
// Only in expressions with redundant tests may the order of loads differ, and with it the answer for a packet that one of them misses.
//
// Some things differ on purpose:
//
//   - In a sum such as ip[0] + tcp[0], libpcap checks only that the left operand's protocol is there. Here both are checked.
//   - An accessor whose constant offset is outside of any packet is refused; libpcap may read kernel metadata there.
//   - "byte N & M" is refused; libpcap forgets to load the byte.
//   - x & 0xffffffff != 0 is false if x is 0; libpcap takes it for always true.
//   - A shift by more than 31 bits gives 0, as in libpcap; the kernel's own classic BPF shifts by the lowest five bits.
//
// An expression that no packet can match, such as "arp" on a raw IP device, is an error in libpcap. Here it compiles, since one
// expression may be meant for several devices; see [Program.MatchesNone].
//
// # VLAN
//
// The kernel, or the device, takes the outermost VLAN tag out of a received frame and keeps it beside the packet. There are
// therefore two forms of an expression with the word vlan:
//
//   - [Program.Classic] is the form for savefiles, as "tcpdump -d -r" has it: each vlan looks at a tag inside the frame, and
//     what follows it in the expression is looked for 4 bytes later.
//   - [Program.Instructions] is the form for live packets, as "tcpdump -i" has it: the first vlan of the expression matches a
//     tag beside the packet or, if there is none, inside the frame; offsets after it move by 4 bytes only in the latter
//     case. Further vlans look inside the frame, so "vlan 100 and vlan 200" finds the inner tag of QinQ in either case.
//
// As in libpcap, vlan, mpls and pppoes change the meaning of everything that stands after them in the expression, also behind
// an "or": "vlan or ip" looks for IP behind a tag only, "ip or vlan" looks for it without.
// An expression without the word vlan looks at frames as they are: "ip" matches a packet whose tag has been taken out.
package filter
