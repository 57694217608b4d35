//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What hooks cost by themselves: those that a TCP connection passes, with
 * programs that do nothing.
 */
#include "kernel.h"

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
