/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/* A socket filter as probes have them: it calls a function whose body the filter replaces, between two others. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

static __attribute__((noinline)) void count(__u32 key)
{
	__u64 *n = bpf_map_lookup_elem(&seen, &key);

	if (n)
		__sync_fetch_and_add(n, 1);
}

static __attribute__((noinline)) int matches(struct __sk_buff *skb)
{
	int match = 1;

	asm volatile("" : "+r"(match) : "r"(skb));
	return match;
}

static __attribute__((noinline)) int verdict(struct __sk_buff *skb, int match)
{
	asm volatile("" : "+r"(match) : "r"(skb));
	return match + 1;
}

/* Returns 2 for a match and 1 otherwise, or 0 if the call broke a register; counts what it has seen and what matched. */
SEC("socket")
int packets(struct __sk_buff *skb)
{
	__u32 len = skb->len;
	int match;

	count(0);
	asm volatile("" : "+r"(len));
	match = matches(skb);
	if (len != skb->len)
		return 0;
	if (match)
		count(1);
	return verdict(skb, match);
}

/* For the price of the filter alone. */
SEC("socket")
int bare(struct __sk_buff *skb)
{
	return matches(skb) + 1;
}
