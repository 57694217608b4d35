//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Bytes and datagrams of UDP sockets, by container and the server's port.
 *
 * Unlike TCP's, these sockets keep no account of their own, so that each call that sends or receives is counted, in the context of whoever makes it.
 * The hooks are those of all sockets: what is not UDP must cost next to nothing.
 */
#include "kernel.h"
#include "map.h"
#include "task.h"
#include "tcp.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set by user space before load: what is asked for. */
const volatile bool by_cgroup = true;
const volatile bool by_server_port = true;
const volatile bool by_family = false;
const volatile bool by_namespace = false;
const volatile bool by_peer = false;
const volatile bool by_local = false;
const volatile bool by_process = false;

const volatile bool with_bytes = true;
const volatile bool with_datagrams = true;

#define SOCK_DGRAM 2
#define IPPROTO_UDP 17
#define IPPROTO_UDPLITE 136
#define MSG_PEEK 0x2
#define MSG_ERRQUEUE 0x2000
#define RCV_SHUTDOWN 1
#define ENOMEM 12

/* In sk_userlocks: the process chose the port. */
#define SOCK_BINDPORT_LOCK 8

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sock_common___udp {
	unsigned char skc_ipv6only : 1;
};

struct sock___udp {
	struct sock_common___udp __sk_common;
	u8 sk_userlocks; /* four bits of a byte on older kernels */
	u8 sk_shutdown;
	u16 sk_type;
};

struct udp_sock {
	int pending; /* a datagram that is not sent yet: later calls will append to it */
	u16 gso_size; /* by setsockopt(UDP_SEGMENT) */
};

/* The ports that sockets get without asking: one number since Linux 6.8, upper bound first... */
struct local_ports {
	u32 range;
};

struct netns_ipv4 {
	struct local_ports ip_local_ports;
};

struct net___one {
	struct netns_ipv4 ipv4;
};

/* ...and two before. */
struct local_ports___two {
	int range[2];
};

struct netns_ipv4___two {
	struct local_ports___two ip_local_ports;
};

struct net___two {
	struct netns_ipv4___two ipv4;
};

#pragma clang attribute pop

/* Since Linux 6.2. */
extern void *bpf_rdonly_cast(const void *obj, u32 btf_id) __ksym;

/* What is selected by default comes first; a map's key ends with the last field that is selected. */
struct udp_key {
	u64 cgroup;
	__be16 server_port;
	u8 family;
	u8 unused;
	u32 network_namespace;
	struct address peer;
	struct address local;
	struct process_key process;
};

/* The fields from server_port to network_namespace, as one word: a load that spans several stores has to wait for all of them. */
#define KEY_WORD(key) (*(u64 *)&(key)->server_port)

struct io {
	u64 transmitted;
	u64 received;
	u64 datagrams_transmitted;
	u64 datagrams_received;
};

struct count {
	u64 count;
};

SWAPPED_MAP(io, PERCPU_HASH, struct udp_key, struct io, 10000);
SWAPPED_MAP(drops, HASH, struct udp_key, struct count, 10000);

static __always_inline bool is_udp(struct sock *sk)
{
	u16 protocol = sk->sk_protocol;
	u16 family;

	if (protocol != IPPROTO_UDP && protocol != IPPROTO_UDPLITE)
		return false;
	/* Raw sockets have protocols of IP, too, and other families have protocols of their own. */
	family = sk->__sk_common.skc_family;
	return ((struct sock___udp *)sk)->sk_type == SOCK_DGRAM && (family == AF_INET || family == AF_INET6);
}

/* One of those that sockets get without asking, in the socket's network namespace. */
static __always_inline bool is_ephemeral(struct sock *sk, u16 port)
{
	struct net *net = sk->__sk_common.skc_net.net;
	u32 low, high;

	if (bpf_core_field_exists(((struct net___two *)0)->ipv4.ip_local_ports.range)) {
		struct net___two *two = (void *)net;

		low = two->ipv4.ip_local_ports.range[0];
		high = two->ipv4.ip_local_ports.range[1];
	} else {
		u32 range = ((struct net___one *)net)->ipv4.ip_local_ports.range;

		low = range & 0xffff;
		high = range >> 16;
	}
	return low <= port && port <= high;
}

/*
 * UDP knows no servers. Who chose its port serves at it, and who is connected asks the peer's; of one that did
 * both, it is the lower, since some clients choose theirs by chance. None that is ephemeral becomes a series.
 */
static __always_inline __be16 server_port_of(struct sock *sk)
{
	u16 port = bpf_ntohs(sk->__sk_common.skc_dport), own;

	if (BPF_CORE_READ_BITFIELD((struct sock___udp *)sk, sk_userlocks) & SOCK_BINDPORT_LOCK) {
		own = sk->__sk_common.skc_num;
		if (!port || own < port)
			port = own;
	}
	return is_ephemeral(sk, port) ? 0 : bpf_htons(port);
}

static __always_inline struct address named_ipv4(__be32 address)
{
	struct address mapped = ipv4_mapped(address);

	return address ? address_named(&mapped) : nobody;
}

static __always_inline struct address named_ipv6(const struct in6_addr *a)
{
	struct address address = address_of(a);

	return address_named(&address);
}

/* 0: a socket of IPv6 that takes IPv4, too, and is not connected. */
static __always_inline u8 family_of(struct sock *sk)
{
	struct address address;

	if (sk->__sk_common.skc_family == AF_INET)
		return 4;
	address = address_of(&sk->__sk_common.skc_v6_daddr);
	if (!(address.halves[0] | address.halves[1]))
		address = address_of(&sk->__sk_common.skc_v6_rcv_saddr);
	if (is_ipv4_mapped(&address))
		return 4;
	if (address.halves[0] | address.halves[1])
		return 6;
	return BPF_CORE_READ_BITFIELD((struct sock___udp *)sk, __sk_common.skc_ipv6only) ? 6 : 0;
}

/* Fill a zeroed key, but for whose it is. */
static __always_inline void fill(struct udp_key *key, struct sock *sk)
{
	bool ipv4 = sk->__sk_common.skc_family == AF_INET;
	u64 word = 0;

	if (by_server_port)
		word |= server_port_of(sk);
	if (by_family)
		word |= (u64)family_of(sk) << 16;
	if (by_namespace)
		word |= (u64)net_id(sk->__sk_common.skc_net.net) << 32;
	KEY_WORD(key) = word;
	if (by_peer)
		key->peer = ipv4 ? named_ipv4(sk->__sk_common.skc_daddr) : named_ipv6(&sk->__sk_common.skc_v6_daddr);
	if (by_local)
		key->local = ipv4 ? named_ipv4(sk->__sk_common.skc_rcv_saddr) : named_ipv6(&sk->__sk_common.skc_v6_rcv_saddr);
}

/* The row of the current task's call. */
static __always_inline struct io *row_of_call(struct sock *sk)
{
	struct udp_key key = {};

	fill(&key, sk);
	if (by_cgroup)
		key.cgroup = cgroup_controller >= 0 ? task_cgroup_id(bpf_get_current_task_btf()) : sock_cgroup_id(sk);
	if (by_process)
		task_process_key(bpf_get_current_task_btf(), &key.process);
	return io_row(&key);
}

/* Atomic: where a tracepoint can be preempted, another task's run may come in between on this CPU. */
static __always_inline void add(u64 *cell, u64 n)
{
	if (n)
		__sync_fetch_and_add(cell, n);
}

/* How many datagrams a call that succeeded has sent. */
static __always_inline u64 datagrams_of(struct sock *sk, u32 bytes)
{
	/* A typed pointer, so that no helper has to read; kernels that have this hook have the function. */
	const struct udp_sock *up = bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct udp_sock));
	u32 segment;

	/* With MSG_MORE or UDP_CORK, the datagram goes with the call that ends it. */
	if (up->pending)
		return 0;
	segment = up->gso_size;
	return segment && bytes > segment ? (bytes + segment - 1) / segment : 1;
}

/*
 * At the end of each call that sends (sock_sendmsg_nosec in net/socket.c), by a process, io_uring or the kernel itself, in
 * the context of the caller: ret is what it returns. Tunnels and whatever else builds packets of its own do not pass.
 */
SEC("tp_btf/sock_send_length")
int BPF_PROG(sent, struct sock *sk, int ret)
{
	struct io *row;

	if (!is_udp(sk) || ret < 0)
		return 0;
	row = row_of_call(sk);
	if (!row)
		return 0;
	if (with_bytes)
		add(&row->transmitted, ret);
	if (with_datagrams)
		add(&row->datagrams_transmitted, datagrams_of(sk, ret));
	return 0;
}

/*
 * At the end of each call that receives (sock_recvmsg_nosec). Of one that peeks, ret is 0 here, as if it were an empty
 * datagram; and what comes from the error queue was sent from here.
 */
SEC("tp_btf/sock_recv_length")
int BPF_PROG(received, struct sock *sk, int ret, int flags)
{
	struct io *row;

	if (!is_udp(sk) || ret < 0 || flags & (MSG_PEEK | MSG_ERRQUEUE))
		return 0;
	/* No datagram, but the end of waiting for one. */
	if (!ret && ((struct sock___udp *)sk)->sk_shutdown & RCV_SHUTDOWN)
		return 0;
	row = row_of_call(sk);
	if (!row)
		return 0;
	if (with_bytes)
		add(&row->received, ret);
	if (with_datagrams)
		add(&row->datagrams_received, 1);
	return 0;
}

/*
 * A datagram has come for which the socket's receive buffer had no room (-ENOMEM), just after the kernel has counted it as UdpRcvbufErrors; of IPv6 since
 * Linux 6.5. What the limit of all of UDP's memory costs (-ENOBUFS) is not told of completely since 6.18. In a softirq: the
 * current task is anybody. Newer kernels pass the packet, too.
 */
SEC("tp_btf/udp_fail_queue_rcv_skb")
int BPF_PROG(dropped, int rc, struct sock *sk)
{
	struct udp_key key = {};
	struct count *row;

	if (rc != -ENOMEM)
		return 0;
	fill(&key, sk);
	if (by_cgroup && cgroup_controller < 0)
		key.cgroup = sock_cgroup_id(sk);
	row = drops_row(&key);
	if (row)
		add(&row->count, 1);
	return 0;
}
