//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the hooks that a TCP connection passes cost by themselves, with
 * programs that do nothing; and what it costs with the least that tells how
 * many connections there were, with how many bytes and for how long: a row for
 * each socket, and one of a hash that is counted in.
 */
#include "kernel.h"
#include "tcp.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/inet_sock_set_state")
int nothing_set_state(void *ctx)
{
	return 0;
}

SEC("tp_btf/tcp_destroy_sock")
int nothing_destroy(void *ctx)
{
	return 0;
}

SEC("tp_btf/kfree_skb")
int nothing_drop(void *ctx)
{
	return 0;
}

struct row {
	u64 address;
	u64 began; /* ns */
	u64 latency;
	u64 unused[5];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* aligned to a page */
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, struct row);
} rows SEC(".maps");

struct totals {
	u64 connections;
	u64 transmitted, received;
	u64 latency, duration; /* ns */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, u32);
	__type(value, struct totals);
} totals SEC(".maps");

/* Each socket has its own as long as there are few. To the verifier, what this gets is a number only from memory. */
__noinline u32 slot_of(const u64 *address)
{
	return address ? *address >> 11 & 4095 : 0;
}

static __always_inline struct row *row_of(struct tcp_sock *tp)
{
	u64 address = (u64)tp;
	u32 slot = slot_of(&address);

	return bpf_map_lookup_elem(&rows, &slot);
}

static __always_inline void add(u64 *number, u64 n)
{
	__sync_fetch_and_add(number, n);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(least_set_state, struct sock *sk, int old, int new)
{
	struct totals *total, none = {};
	struct tcp_sock *tp;
	struct row *row;
	u32 key;

	if ((new != TCP_SYN_SENT && new != TCP_ESTABLISHED && new != TCP_CLOSE) || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	row = row_of(tp);
	if (!row)
		return 0;
	if (new == TCP_SYN_SENT) {
		row->began = bpf_ktime_get_ns();
		row->address = (u64)tp;
		return 0;
	}
	if (new == TCP_ESTABLISHED) {
		u64 now = tp->tcp_mstamp * 1000;

		row->latency = row->address == (u64)tp ? now - row->began : 0;
		row->began = now;
		row->address = (u64)tp;
		return 0;
	}
	if (row->address != (u64)tp)
		return 0;
	key = (u32)tp->inet_conn.icsk_inet.inet_sport << 1 | (row->latency != 0);
	if (row->latency)
		key = (u32)tp->inet_conn.icsk_inet.sk.__sk_common.skc_dport << 1 | 1;
	total = bpf_map_lookup_elem(&totals, &key);
	if (!total) {
		bpf_map_update_elem(&totals, &key, &none, BPF_NOEXIST);
		return 0;
	}
	add(&total->connections, 1);
	add(&total->transmitted, tp->bytes_acked);
	add(&total->received, tp->bytes_received);
	add(&total->latency, row->latency);
	add(&total->duration, bpf_ktime_get_ns() - row->began);
	return 0;
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(least_destroy, struct sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct row *row = tp ? row_of(tp) : 0;

	if (row)
		row->address = 0;
	return 0;
}

SEC("tp_btf/kfree_skb")
int least_drop(void *ctx)
{
	return 0;
}
