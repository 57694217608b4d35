//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What counting packets by flow costs at least: the headers are loaded once, a
 * hash is looked up, two numbers are added to. Once with a key as wide as that
 * of the flow probe, which has room for IPv6's addresses, and once with IPv4's
 * alone.
 */
#include "kernel.h"
#include <bpf/bpf_endian.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct narrow {
	u32 source, destination;
	__be16 source_port, destination_port;
	u32 protocol;
};

struct wide {
	u64 source[2], destination[2];
	__be16 source_port, destination_port;
	u32 protocol;
};

struct value {
	u64 bytes, packets;
};

#define FLOWS(_name, _key)                                                     \
	struct {                                                               \
		__uint(type, BPF_MAP_TYPE_HASH);                               \
		__uint(max_entries, 10000);                                    \
		__type(key, _key);                                             \
		__type(value, struct value);                                   \
	} _name SEC(".maps")

FLOWS(narrow_flows, struct narrow);
FLOWS(wide_flows, struct wide);

struct headers {
	u8 unused[2];
	u8 ethernet[14];
	u8 ip[20];
	__be16 source, destination;
} __attribute__((aligned(8)));

#define COUNT(map, key, skb)                                                   \
	do {                                                                   \
		struct value *value = bpf_map_lookup_elem(map, key);           \
		if (value) {                                                   \
			__sync_fetch_and_add(&value->bytes, (skb)->len);       \
			__sync_fetch_and_add(&value->packets, 1);              \
		} else {                                                       \
			struct value first = { (skb)->len, 1 };                \
			bpf_map_update_elem(map, key, &first, BPF_NOEXIST);    \
		}                                                              \
	} while (0)

SEC("socket")
int floor_narrow(struct __sk_buff *skb)
{
	struct narrow key;
	struct headers h;

	if (bpf_skb_load_bytes(skb, 0, h.ethernet, 38))
		return 0;
	key.source = *(u32 *)(h.ip + 12);
	key.destination = *(u32 *)(h.ip + 16);
	key.source_port = h.source;
	key.destination_port = h.destination;
	key.protocol = h.ip[9];
	COUNT(&narrow_flows, &key, skb);
	return 0;
}

SEC("socket")
int floor_wide(struct __sk_buff *skb)
{
	struct headers h;
	struct wide key;

	if (bpf_skb_load_bytes(skb, 0, h.ethernet, 38))
		return 0;
	key.source[0] = 0;
	key.source[1] = *(u32 *)(h.ip + 12);
	key.destination[0] = 0;
	key.destination[1] = *(u32 *)(h.ip + 16);
	key.source_port = h.source;
	key.destination_port = h.destination;
	key.protocol = h.ip[9];
	COUNT(&wide_flows, &key, skb);
	return 0;
}

SEC("socket")
int floor_nothing(struct __sk_buff *skb)
{
	return 0;
}
