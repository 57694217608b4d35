/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a packet socket is shown, summed up. The tests hold it against the
 * interface's own counters.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

struct sums {
	u64 packets;
	u64 bytes;
	u64 segments; /* packets, each large one as what it stands for */
	u64 wire;     /* bytes, with the headers of each segment */
	u64 tagged;   /* packets with a VLAN tag beside them */
};

/* Bytes before the network header in what is shown. */
const volatile u32 link_header;
/* More than 0: the packet is passed to the socket, which is for the test of its statistics. */
const volatile u32 verdict;

/* By direction: received, transmitted. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct sums);
} sums SEC(".maps");

static __always_inline u32 transport_header(struct __sk_buff *skb, u32 at, u8 protocol)
{
	u8 offset;

	if (protocol == IPPROTO_UDP)
		return 8;
	if (protocol != IPPROTO_TCP || bpf_skb_load_bytes_relative(skb, at + 12, &offset, 1, BPF_HDR_START_NET))
		return 0;
	return (offset >> 4) * 4;
}

static __always_inline u32 headers(struct __sk_buff *skb)
{
	u8 ip[10];
	u32 length = 40;

	if (bpf_skb_load_bytes_relative(skb, 0, ip, sizeof(ip), BPF_HDR_START_NET))
		return 0;
	if (ip[0] >> 4 == 6)
		return length + transport_header(skb, length, ip[6]);
	length = (ip[0] & 15) * 4;
	return length + transport_header(skb, length, ip[9]);
}

/* Each packet of the socket's interface, on its way in and out. */
SEC("socket")
int count(struct __sk_buff *skb)
{
	u32 direction = skb->pkt_type == PACKET_OUTGOING;
	u32 segments = skb->gso_segs ?: 1;
	u64 wire = skb->len;
	struct sums *s;

	s = bpf_map_lookup_elem(&sums, &direction);
	if (!s)
		return verdict;
	if (segments > 1)
		wire += (u64)(segments - 1) * (link_header + headers(skb));
	__sync_fetch_and_add(&s->packets, 1);
	__sync_fetch_and_add(&s->bytes, skb->len);
	__sync_fetch_and_add(&s->segments, segments);
	__sync_fetch_and_add(&s->wire, wire);
	if (skb->vlan_present)
		__sync_fetch_and_add(&s->tagged, 1);
	return verdict;
}

char _license[] SEC("license") = "Dual BSD/GPL";
