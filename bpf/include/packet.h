/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets as a socket filter on a packet socket (AF_PACKET, SOCK_RAW) sees
 * them: from the link layer's header on, with a VLAN tag moved from the frame
 * into the skb. packet_dissect() finds out who talks to whom with one load of
 * the headers; options, extension headers and tags within the frame take more.
 *
 * It never trusts a length: what is not there is not read, and the packet is
 * told to be truncated or malformed.
 */
#ifndef __EBPFRECEIVER_PACKET_H
#define __EBPFRECEIVER_PACKET_H

#include "address.h"

/*
 * What is known of the interface that a program is attached to. User space
 * loads the program once for each set of values, so that the verifier removes
 * what an interface has no use for.
 */
struct attachment {
	u32 network_namespace; /* inode number */
	s8 receive, transmit;  /* bytes that the interface's own counters have beyond skb->len */
	u8 ethernet;	       /* frames have an Ethernet header; else they begin with IP's */
	u8 wire_receive;       /* counters have each segment's headers, and not those of the large packet */
	u8 wire_transmit;
	u8 vlan_receive; /* counters have a tag that the kernel keeps beside the packet */
	u8 vlan_transmit;
};

const volatile struct attachment attachment SEC(".rodata.attachment");

/* Whether the user chooses packets by an expression; it takes the place of this function's body. */
const volatile bool packet_filter = false;

__attribute__((noinline)) int packet_matches(struct __sk_buff *skb)
{
	int result = 1;

	asm volatile("" : "+r"(result) : "r"(skb));
	return result;
}

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_SERVICE_VLAN 0x88a8
#define ETHERTYPE_BRIDGING 0x6558 /* an Ethernet frame in a tunnel */

#define ETHERNET_HEADER 14

enum protocol {
	PROTOCOL_HOP_BY_HOP = 0,
	PROTOCOL_IPV4 = 4,
	PROTOCOL_TCP = 6,
	PROTOCOL_UDP = 17,
	PROTOCOL_IPV6 = 41,
	PROTOCOL_ROUTING = 43,
	PROTOCOL_FRAGMENT = 44,
	PROTOCOL_GRE = 47,
	PROTOCOL_AUTHENTICATION = 51,
	PROTOCOL_DESTINATION = 60,
	PROTOCOL_SCTP = 132,
	PROTOCOL_MOBILITY = 135,
	PROTOCOL_HIP = 139,
	PROTOCOL_SHIM6 = 140,
	PROTOCOL_UDP_LITE = 136,
	PROTOCOL_DCCP = 33,
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define PACKET_OUTGOING 4

/* What was found out about a packet. Ports and addresses are in network order. */
struct packet {
	struct address source, destination;
	__be16 source_port, destination_port;
	u16 ethertype; /* of what is inside all VLAN tags, in host order */
	u16 vlan;      /* the outer tag's id; 0: none */
	u32 transport; /* offset in the frame of what follows IP's headers; 0: not IP */
	u8 protocol;
	u8 flags; /* TCP's */
	u8 dscp;
	u8 transport_header; /* length in bytes of TCP's or UDP's; 0: unknown */
	u8 truncated, malformed;
	u8 fragment; /* not the first one: it has no ports */
	u8 unused;
} __attribute__((aligned(8)));

/*
 * The headers as they are loaded, in one piece that begins with the ethertype:
 * it ends on a multiple of 8, so that IP's fields are aligned on the stack.
 */
struct packet_headers {
	u8 unused[6];
	__be16 ethertype;
	u8 network[56];
} __attribute__((aligned(8)));

#define PACKET_LOAD 56 /* ethertype, IPv6's header, TCP's up to its flags */

struct ipv4_header {
	u8 version_length, tos;
	__be16 total_length, id, fragment;
	u8 ttl, protocol;
	__be16 checksum;
	__be32 source, destination;
};

struct ipv6_header {
	__be32 version_class_label;
	__be16 payload_length;
	u8 next_header, hop_limit;
	struct address source, destination;
};

struct tcp_header {
	__be16 source, destination;
	__be32 sequence, acknowledged;
	u8 offset, flags;
	u8 rest[2];
};

#define TCP_LOAD 14 /* bytes of it up to its flags */

/*
 * Load from offset into h->ethertype and on, as much as there is. The number
 * of bytes from the network header on is returned; below 0 is nothing at all.
 */
static __always_inline s32 packet_load(struct __sk_buff *skb, u32 offset, struct packet_headers *h)
{
	u32 length = skb->len;

	__builtin_memset(h, 0, sizeof(*h));
	if (length <= offset)
		return -1;
	length -= offset;
	if (length > PACKET_LOAD)
		length = PACKET_LOAD;
	/*
	 * The compiler proves the bounds to itself and then drops them; the verifier wants to see them. Before Linux 6.8
	 * it learns nothing from a comparison with zero, so the length is looked at less one.
	 */
	length--;
	asm volatile("" : "+r"(length));
	if (length >= PACKET_LOAD)
		return -1;
	length++;
	if (bpf_skb_load_bytes(skb, offset, &h->ethertype, length))
		return -1;
	return (s32)length - 2;
}

/* A device without a link layer: IP's header comes first. */
static __always_inline s32 packet_load_network(struct __sk_buff *skb, u32 offset, struct packet_headers *h)
{
	u32 length = skb->len;

	__builtin_memset(h, 0, sizeof(*h));
	if (length <= offset)
		return -1;
	length -= offset;
	if (length > PACKET_LOAD - 2)
		length = PACKET_LOAD - 2;
	length--;
	asm volatile("" : "+r"(length));
	if (length >= PACKET_LOAD - 2)
		return -1;
	length++;
	if (bpf_skb_load_bytes(skb, offset, h->network, length))
		return -1;
	return (s32)length;
}

/* TCP's, UDP's or SCTP's header, of which length bytes were loaded to where it is. */
static __always_inline void packet_ports(struct packet *p, const void *header, s32 length)
{
	const struct tcp_header *tcp = header;

	switch (p->protocol) {
	case PROTOCOL_TCP:
		if (length < TCP_LOAD) {
			p->truncated = 1;
			return;
		}
		p->flags = tcp->flags;
		p->transport_header = tcp->offset >> 4 << 2;
		if (p->transport_header < 20)
			p->malformed = 1;
		break;
	case PROTOCOL_UDP:
	case PROTOCOL_UDP_LITE:
		p->transport_header = 8;
		break;
	case PROTOCOL_SCTP:
	case PROTOCOL_DCCP:
		p->transport_header = 12;
		break;
	default:
		return;
	}
	if (length < 4) {
		p->truncated = 1;
		return;
	}
	p->source_port = tcp->source;
	p->destination_port = tcp->destination;
}

/* The same where IP has options, or extension headers follow it. */
static __noinline int packet_transport(struct __sk_buff *skb, struct packet *p)
{
	u8 next[8] __attribute__((aligned(8)));
	struct tcp_header header = {};
	int i;

	for (i = 0; i < 8; i++) {
		u8 length_unit = 8;

		switch (p->protocol) {
		case PROTOCOL_HOP_BY_HOP:
		case PROTOCOL_ROUTING:
		case PROTOCOL_DESTINATION:
		case PROTOCOL_MOBILITY:
		case PROTOCOL_HIP:
		case PROTOCOL_SHIM6:
		case PROTOCOL_FRAGMENT:
			if (p->ethertype != ETHERTYPE_IPV6)
				return 0;
			break;
		case PROTOCOL_AUTHENTICATION:
			length_unit = 4;
			break;
		case PROTOCOL_TCP:
			if (bpf_skb_load_bytes(skb, p->transport, &header, TCP_LOAD))
				p->truncated = 1;
			else
				packet_ports(p, &header, TCP_LOAD);
			return 0;
		case PROTOCOL_UDP:
		case PROTOCOL_UDP_LITE:
		case PROTOCOL_SCTP:
		case PROTOCOL_DCCP:
			if (bpf_skb_load_bytes(skb, p->transport, &header, 4))
				p->truncated = 1;
			else
				packet_ports(p, &header, 4);
			return 0;
		default:
			return 0;
		}
		if (bpf_skb_load_bytes(skb, p->transport, next, sizeof(next))) {
			p->truncated = 1;
			return 0;
		}
		if (p->protocol == PROTOCOL_FRAGMENT) {
			p->transport += 8;
			p->protocol = next[0];
			if ((next[2] << 8 | next[3]) & 0xfff8) {
				p->fragment = 1;
				return 0;
			}
			continue;
		}
		p->transport += length_unit == 4 ? (next[1] + 2) * 4 : (next[1] + 1) * 8;
		p->protocol = next[0];
	}
	/* More extension headers than anybody has: who is inside is not known. */
	p->malformed = 1;
	return 0;
}

/* IP's header, of which length bytes are in h; it begins at offset of the frame. */
static __always_inline void packet_network(struct __sk_buff *skb, struct packet *p, const struct packet_headers *h, u32 offset, s32 length)
{
	if (p->ethertype == ETHERTYPE_IPV4) {
		const struct ipv4_header *ip = (const void *)h->network;

		if (length < (s32)sizeof(*ip)) {
			p->truncated = 1;
			return;
		}
		if (ip->version_length >> 4 != 4 || (ip->version_length & 15) < 5) {
			p->malformed = 1;
			return;
		}
		p->source = ipv4_mapped(ip->source);
		p->destination = ipv4_mapped(ip->destination);
		p->protocol = ip->protocol;
		p->dscp = ip->tos >> 2;
		p->transport = offset + ((ip->version_length & 15) << 2);
		p->fragment = (ip->fragment & bpf_htons(0x1fff)) != 0;
		if (p->fragment)
			return;
		if (ip->version_length == 0x45 && ip->protocol != PROTOCOL_AUTHENTICATION)
			packet_ports(p, h->network + 20, length - 20);
		else
			packet_transport(skb, p);
		return;
	}
	if (p->ethertype == ETHERTYPE_IPV6) {
		const struct ipv6_header *ip = (const void *)h->network;

		if (length < (s32)sizeof(*ip)) {
			p->truncated = 1;
			return;
		}
		if (h->network[0] >> 4 != 6) {
			p->malformed = 1;
			return;
		}
		p->source = ip->source;
		p->destination = ip->destination;
		p->protocol = ip->next_header;
		p->dscp = bpf_ntohl(ip->version_class_label) >> 22 & 0x3f;
		p->transport = offset + sizeof(*ip);
		if (p->protocol == PROTOCOL_TCP || p->protocol == PROTOCOL_UDP)
			packet_ports(p, h->network + 40, length - 40);
		else
			packet_transport(skb, p);
	}
}

/*
 * A frame within: offset is that of an ethertype, which may be a VLAN tag's. h
 * is room for headers, so that there is not more of it on the stack.
 */
static __noinline int packet_frame(struct __sk_buff *skb, struct packet *p, u32 offset, struct packet_headers *h)
{
	s32 length;
	int i;

	for (i = 0; i < 4; i++) {
		u16 tag[3];

		if (bpf_skb_load_bytes(skb, offset, &tag, sizeof(tag)))
			goto truncated;
		p->ethertype = bpf_ntohs(tag[0]);
		if (p->ethertype != ETHERTYPE_VLAN && p->ethertype != ETHERTYPE_SERVICE_VLAN)
			break;
		if (!p->vlan)
			p->vlan = bpf_ntohs(tag[1]) & 0xfff;
		offset += 4;
	}
	length = packet_load(skb, offset, h);
	if (length < 0)
		goto truncated;
	packet_network(skb, p, h, offset + 2, length);
	return 0;
truncated:
	p->truncated = 1;
	return 0;
}

/* Find out about whatever packet it is. */
static __always_inline void packet_any(struct __sk_buff *skb, struct packet *p)
{
	struct packet_headers h;
	s32 length;

	__builtin_memset(p, 0, sizeof(*p));
	if (skb->vlan_present)
		p->vlan = skb->vlan_tci & 0xfff;
	if (!attachment.ethernet) {
		p->ethertype = bpf_ntohs((__be16)skb->protocol);
		length = packet_load_network(skb, 0, &h);
		if (length > 0)
			packet_network(skb, p, &h, 0, length);
		else
			p->truncated = 1;
		return;
	}
	length = packet_load(skb, ETHERNET_HEADER - 2, &h);
	if (length < 0) {
		p->truncated = 1;
		return;
	}
	p->ethertype = bpf_ntohs(h.ethertype);
	if (p->ethertype == ETHERTYPE_VLAN || p->ethertype == ETHERTYPE_SERVICE_VLAN)
		packet_frame(skb, p, ETHERNET_HEADER - 2, &h);
	else
		packet_network(skb, p, &h, ETHERNET_HEADER, length);
}

#define VXLAN_PORT 4789
#define GENEVE_PORT 6081

/*
 * The packet inside a VXLAN or Geneve tunnel takes the place of the one
 * around it. One that can not be read leaves it as it is.
 */
static __noinline int packet_tunnel(struct __sk_buff *skb, struct packet *p)
{
	struct packet inner = { .vlan = p->vlan };
	u16 type = ETHERTYPE_BRIDGING;
	u8 header[8] __attribute__((aligned(8)));
	u32 offset = p->transport + 8;
	struct packet_headers h;

	if (bpf_skb_load_bytes(skb, offset, header, sizeof(header)))
		return 0;
	if (p->destination_port == bpf_htons(VXLAN_PORT)) {
		if (!(header[0] & 0x08))
			return 0; /* no network identifier: not VXLAN */
		offset += 8;
	} else {
		if (header[0] >> 6 || header[1] & 0x80)
			return 0; /* another version, or of the tunnel's own control */
		type = header[2] << 8 | header[3];
		offset += 8 + (header[0] & 0x3f) * 4;
	}
	if (type == ETHERTYPE_BRIDGING) {
		packet_frame(skb, &inner, offset + ETHERNET_HEADER - 2, &h);
	} else if (type == ETHERTYPE_IPV4 || type == ETHERTYPE_IPV6) {
		s32 length = packet_load_network(skb, offset, &h);

		inner.ethertype = type;
		packet_network(skb, &inner, &h, offset, length);
	}
	if (!inner.truncated && !inner.malformed && inner.ethertype)
		*p = inner;
	return 0;
}

static __always_inline bool packet_tunnelled(const struct packet *p)
{
	return p->protocol == PROTOCOL_UDP &&
	       (p->destination_port == bpf_htons(VXLAN_PORT) || p->destination_port == bpf_htons(GENEVE_PORT));
}

/*
 * The length of all headers of a large packet that is in a tunnel, up to the
 * payload inside: each segment has them. 0 where that can not be read.
 */
static __noinline int packet_inner_headers(struct __sk_buff *skb, const struct packet *p)
{
	u32 offset = p->transport;
	u16 type = ETHERTYPE_IPV4;
	u8 h[8] __attribute__((aligned(8)));

	switch (p->protocol) {
	case PROTOCOL_IPV4:
		break;
	case PROTOCOL_IPV6:
		type = ETHERTYPE_IPV6;
		break;
	case PROTOCOL_GRE:
		if (bpf_skb_load_bytes(skb, offset, h, 4))
			return 0;
		type = h[2] << 8 | h[3];
		/* A checksum, a key and a sequence number, each where its bit is set. */
		offset += 4 + ((h[0] >> 7 & 1) + (h[0] >> 5 & 1) + (h[0] >> 4 & 1)) * 4;
		break;
	case PROTOCOL_UDP:
		offset += 8;
		if (bpf_skb_load_bytes(skb, offset, h, 8))
			return 0;
		type = ETHERTYPE_BRIDGING;
		if (p->destination_port == bpf_htons(GENEVE_PORT)) {
			type = h[2] << 8 | h[3];
			offset += (h[0] & 0x3f) * 4;
		}
		offset += 8;
		break;
	default:
		return 0;
	}
	if (type == ETHERTYPE_BRIDGING) {
		if (bpf_skb_load_bytes(skb, offset + ETHERNET_HEADER - 2, h, 2))
			return 0;
		type = h[0] << 8 | h[1];
		offset += ETHERNET_HEADER;
	}
	if (type == ETHERTYPE_IPV4) {
		if (bpf_skb_load_bytes(skb, offset, h, 1) || bpf_skb_load_bytes(skb, offset + 9, h + 1, 1))
			return 0;
		offset += (h[0] & 15) << 2;
	} else if (type == ETHERTYPE_IPV6) {
		if (bpf_skb_load_bytes(skb, offset + 6, h + 1, 1))
			return 0;
		offset += sizeof(struct ipv6_header);
	} else {
		return 0;
	}
	if (h[1] == PROTOCOL_UDP)
		return offset + 8;
	if (h[1] != PROTOCOL_TCP || bpf_skb_load_bytes(skb, offset + 12, h, 1))
		return 0;
	return offset + (h[0] >> 4 << 2);
}

static __always_inline bool packet_encapsulated(const struct packet *p)
{
	return packet_tunnelled(p) || p->protocol == PROTOCOL_GRE || p->protocol == PROTOCOL_IPV4 || p->protocol == PROTOCOL_IPV6;
}

/*
 * The packets on the wire that a large one becomes or came from; headers are
 * those that each of them has of its own.
 */
static __always_inline u32 packet_segments(struct __sk_buff *skb, u32 headers)
{
	u32 segments = skb->gso_segs;
	u32 size, length;

	if (segments)
		return segments;
	size = skb->gso_size;
	length = skb->len;
	if (!size || length <= headers)
		return 1;
	/* From a virtual machine's or a program's packet socket: nobody has counted them yet. */
	return (length - headers + size - 1) / size;
}

/* Bytes as the interface's own counters have them, but for the headers of further segments. */
static __always_inline u64 packet_bytes(struct __sk_buff *skb, bool transmit)
{
	u64 length = skb->len;

	if (transmit) {
		length += attachment.transmit;
		if (attachment.vlan_transmit && skb->vlan_present)
			length += 4;
	} else {
		length += attachment.receive;
		if (attachment.vlan_receive && skb->vlan_present)
			length += 4;
	}
	return length;
}

/*
 * What the counters have beyond that for a packet that the kernel cuts or has
 * merged: headers are those that each segment has of its own.
 */
static __always_inline u64 packet_headers(struct __sk_buff *skb, bool transmit, u32 headers)
{
	u32 segments = skb->gso_segs;

	if (segments > 1 && (transmit ? attachment.wire_transmit : attachment.wire_receive))
		return (segments - 1) * (headers + (s64)(transmit ? attachment.transmit : attachment.receive));
	return 0;
}

#endif
