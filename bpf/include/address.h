/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Addresses in keys, and the names of ranges that they lie in.
 */
#ifndef __EBPFRECEIVER_ADDRESS_H
#define __EBPFRECEIVER_ADDRESS_H

#include "kernel.h"
#include <bpf/bpf_endian.h>

/*
 * 16 bytes in network order; an IPv4 address is IPv4-mapped. They are written
 * and read as two words: a load that spans two stores has to wait for both.
 */
struct address {
	u64 halves[2];
};

static __always_inline struct address ipv4_mapped(__be32 address)
{
	/* The objects are little-endian: the lower half of a word comes first. */
	return (struct address){ { 0, (u64)address << 32 | bpf_htonl(0xffff) } };
}

static const struct address nobody;

/*
 * Ranges that the user gave names: for each address that lies in one, there is
 * an address that stands for the name. An option of the type cidrs fills it.
 */
struct cidr {
	u32 length; /* bits */
	u8 address[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct cidr);
	__type(value, struct address);
} cidrs SEC(".maps");

const volatile bool with_cidrs = false;

/* The address, or what stands for the longest range that it is in. */
static __always_inline struct address address_named(const struct address *address)
{
	if (with_cidrs && (address->halves[0] | address->halves[1])) {
		struct cidr key = { .length = 128 };
		struct address *name;

		__builtin_memcpy(key.address, address, sizeof(key.address));
		name = bpf_map_lookup_elem(&cidrs, &key);
		if (name && (name->halves[0] | name->halves[1]))
			return *name;
	}
	return *address;
}

#endif
