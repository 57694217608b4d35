/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP's sockets: the kernel's types of them, whose they are and between whom.
 */
#ifndef __EBPFRECEIVER_TCP_H
#define __EBPFRECEIVER_TCP_H

#include "kernel.h"
#include "address.h"
#include "task.h"

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6

/* include/net/tcp_states.h; user space knows them too, by ss and /proc/net/tcp. */
enum tcp_state {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT,
	TCP_SYN_RECV,
	TCP_FIN_WAIT1,
	TCP_FIN_WAIT2,
	TCP_TIME_WAIT,
	TCP_CLOSE,
	TCP_CLOSE_WAIT,
	TCP_LAST_ACK,
	TCP_LISTEN,
	TCP_CLOSING,
	TCP_NEW_SYN_RECV,
};

/* include/net/inet_connection_sock.h, include/net/tcp.h */
#define ICSK_TIME_LOSS_PROBE 5
#define TCP_CA_RECOVERY 3
#define TCP_CA_LOSS 4

/* enum sock_flags of include/net/sock.h: the peer's FIN was taken in. */
#define SOCK_DONE 1
#define RCV_SHUTDOWN 1

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct in6_addr {
	union {
		u8 u6_addr8[16];
	} in6_u;
};

/* What connections, requests and those that wait have in common. */
struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	unsigned long skc_flags;
};

/* Whose the socket is: the cgroup in the v2 hierarchy of whoever made it... */
struct sock_cgroup_data {
	struct cgroup *cgroup;
};

/* ...which had flags in its low bits before Linux 5.15. */
struct sock_cgroup_data___val {
	u64 val;
};

/* A socket is locked by softirqs with the spin lock, and by processes with owned. */
typedef struct {
	atomic_t val;
} arch_spinlock_t;

struct raw_spinlock {
	arch_spinlock_t raw_lock;
};

typedef struct {
	struct raw_spinlock rlock;
} spinlock_t;

typedef struct {
	spinlock_t slock;
	int owned;
} socket_lock_t;

struct sock {
	struct sock_common __sk_common;
	socket_lock_t sk_lock;
	atomic_t sk_drops;
	u32 sk_ack_backlog; /* of a listener: those that nobody accepted yet */
	int sk_err;
	int sk_err_soft;
	u16 sk_protocol;
	u8 sk_shutdown;
	struct sock_cgroup_data sk_cgrp_data;
};

/* Before 5.15 the member's type is another. */
struct sock___val {
	struct sock_cgroup_data___val sk_cgrp_data;
};

struct socket {
	struct sock *sk;
};

struct inet_sock {
	struct sock sk;
	__be16 inet_sport; /* unlike skc_num, still there when the port was given back */
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	u8 icsk_ca_state : 5;
	u8 icsk_pending;
};

struct minmax_sample {
	u32 t;
	u32 v;
};

struct minmax {
	struct minmax_sample s[3];
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	u64 bytes_acked;    /* with one for our SYN and one for our FIN */
	u64 bytes_received; /* with one for the peer's FIN */
	u64 bytes_sent;	    /* payload, as often as it was sent */
	u64 bytes_retrans;
	u64 tcp_mstamp; /* CLOCK_MONOTONIC, us: when a packet came or went, or a timer ran, last */
	u32 snd_una;
	u32 snd_nxt;
	u32 write_seq;
	u32 srtt_us; /* times 8 */
	u32 mdev_us; /* times 4 */
	struct minmax rtt_min;
	u32 snd_cwnd;
	u32 snd_wnd;
	u32 total_retrans;
	u32 segs_in;
	u32 segs_out;
	u32 rcv_ooopack;
};

/* What is left of a connection whose process has no more to do with it: those that wait, and those for whose end it waits. */
struct inet_timewait_sock {
	struct sock_common __tw_common;
	volatile unsigned char tw_substate;
};

struct tcp_timewait_sock {
	struct inet_timewait_sock tw_sk;
};

struct net_device {
	possible_net_t nd_net;
};

struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	u32 len;
	char cb[48];
	unsigned char *head;
	u16 network_header;
	u16 transport_header;
	__be16 protocol;
};

/* In sk_buff.cb, while TCP has the packet. */
struct tcp_skb_cb {
	u16 tcp_gso_segs;
};

struct bpf_iter__tcp {
	struct sock_common *sk_common;
};

#pragma clang attribute pop

struct tcphdr_start {
	__be16 source;
	__be16 dest;
	__be32 seq;
	__be32 ack_seq;
	u8 offset;
	u8 flags;
};

/* The cgroup in the v2 hierarchy, right in any context; the root's for sockets that have none. */
static __always_inline u64 sock_cgroup_id(struct sock *sk)
{
	struct cgroup *cgroup;

	if (bpf_core_field_exists(((struct sock_cgroup_data *)0)->cgroup)) {
		cgroup = sk->sk_cgrp_data.cgroup;
		return cgroup ? cgroup->kn->id : 1;
	} else {
		u64 val = BPF_CORE_READ((struct sock___val *)sk, sk_cgrp_data.val);

		cgroup = val & 3 ? 0 : (struct cgroup *)val;
		return cgroup ? BPF_CORE_READ(cgroup, kn, id) : 1;
	}
}

static __always_inline u32 net_id(struct net *net)
{
	return BPF_CORE_READ(net, ns.inum);
}

/* An address out of a socket's memory, in two words. */
static __always_inline struct address address_of(const struct in6_addr *a)
{
	struct address address = {};

	bpf_probe_read_kernel(&address, sizeof(address), a);
	return address;
}

static __always_inline bool is_ipv4_mapped(const struct address *a)
{
	return a->halves[0] == 0 && (u32)a->halves[1] == bpf_htonl(0xffff);
}

#endif
