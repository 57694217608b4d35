/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A listener's own number of drops is of packets, many of which are no loss: the bare third step of each connection under TCP_DEFER_ACCEPT,
 * SYNs that came again, resets of what was not finished. And an overflow at the third step is in it twice. A network namespace has a
 * number of just the handshakes that its listeners dropped, which is in parts, one for each CPU, and does not say whose they were. So of what the
 * listener's has grown by, as much is counted as the namespace's has grown by, and was not told yet.
 *
 * meet_namespace(net) is for when a listener is met, handshakes_among(net, packets) for what the listener's has grown by.
 */
#ifndef __EBPFRECEIVER_LISTEN_DROPS_H
#define __EBPFRECEIVER_LISTEN_DROPS_H

#include "kernel.h"

/* The running kernel's LINUX_MIB_LISTENDROPS, which is an index that differs from kernel to kernel; below 0, it is not known. */
const volatile s32 mib_listen_drops = -1;

/* The number of CPUs that there may be. */
const volatile u32 possible_cpus = 1;

#define DROPS_UNKNOWN (~0ULL)

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct netns_mib {
	u64 *net_statistics; /* struct linux_mib, on each CPU */
};

struct net___drops {
	u64 net_cookie; /* unlike the number, never another namespace's */
	struct netns_mib mib;
};

struct bpf_array {
	void *pptrs[1];
};

#pragma clang attribute pop

/* Since Linux 5.19. */
enum bpf_func_id___lookup {
	BPF_FUNC_map_lookup_percpu_elem___lookup = BPF_FUNC_map_lookup_percpu_elem,
};

/* Nothing is in it. Where its memory is on each CPU tells where anything else is. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} places SEC(".maps");

/* What a namespace had counted when its first listener was met, and what was told of it since; by its cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 10000);
	__type(key, u64);
	__type(value, u64);
} listen_drops_told SEC(".maps");

static __always_inline bool has_namespaces_drops(void)
{
	return mib_listen_drops >= 0 && bpf_core_enum_value_exists(enum bpf_func_id___lookup, BPF_FUNC_map_lookup_percpu_elem___lookup);
}

/* A pointer as a number, which the verifier lets nobody make of it in other ways. */
static __always_inline u64 number_of(const void *pointer)
{
	u64 number;

	bpf_probe_read_kernel(&number, sizeof(number), &pointer);
	return number;
}

/* The namespace's number, or DROPS_UNKNOWN. Global, so that it is verified once. */
__noinline u64 namespaces_drops(u64 net)
{
	u64 base = 0, total = 0, number, statistics;
	u32 zero = 0, cpus = possible_cpus;
	void *place;

	if (!has_namespaces_drops())
		return DROPS_UNKNOWN;
	statistics = (u64)BPF_CORE_READ((struct net___drops *)net, mib.net_statistics);
	bpf_probe_read_kernel(&base, sizeof(base), (void *)(number_of(&places) + bpf_core_field_offset(struct bpf_array, pptrs)));
	if (!statistics || !base)
		return DROPS_UNKNOWN;
	statistics += mib_listen_drops * sizeof(u64) - base;
	for (u32 cpu = 0; cpu < cpus; cpu++) {
		place = bpf_map_lookup_percpu_elem(&places, &zero, cpu);
		if (!place)
			return DROPS_UNKNOWN;
		/* It is 0 where it can not be read. A branch would be two ways for the verifier, each time around. */
		bpf_probe_read_kernel(&number, sizeof(number), (void *)(statistics + number_of(place)));
		total += number;
	}
	return total;
}

/* A listener is met, whose namespace may have dropped others' handshakes before. */
static __noinline void meet_namespace(u64 net)
{
	u64 cookie, drops;

	if (!has_namespaces_drops())
		return;
	cookie = BPF_CORE_READ((struct net___drops *)net, net_cookie);
	if (bpf_map_lookup_elem(&listen_drops_told, &cookie))
		return;
	drops = namespaces_drops(net);
	if (drops != DROPS_UNKNOWN)
		bpf_map_update_elem(&listen_drops_told, &cookie, &drops, BPF_NOEXIST);
}

/* How many handshakes are among the packets that a listener has dropped since the last look. The rest is none, and not looked at again. */
static __always_inline u64 handshakes_among(u64 net, u64 packets)
{
	u64 drops = namespaces_drops(net), cookie, *told;

	if (drops == DROPS_UNKNOWN)
		return packets;
	cookie = BPF_CORE_READ((struct net___drops *)net, net_cookie);
	told = bpf_map_lookup_elem(&listen_drops_told, &cookie);
	if (!told) {
		/* There are more namespaces than rows. */
		bpf_map_update_elem(&listen_drops_told, &cookie, &drops, BPF_NOEXIST);
		return packets < drops ? packets : drops;
	}
	/* Once more, for another listener may end meanwhile. */
	for (int i = 0; i < 2; i++) {
		u64 before = *(volatile u64 *)told;
		s64 more = drops - before;

		if (more <= 0)
			return 0;
		if (packets > more)
			packets = more;
		if (__sync_val_compare_and_swap(told, before, before + packets) == before)
			return packets;
	}
	return 0;
}

#endif
