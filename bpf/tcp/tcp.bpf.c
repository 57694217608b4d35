//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP connections, by container and peer.
 *
 * What is counted are the kernel's own numbers of a socket, as they have grown
 * since they were looked at last. What was counted is kept in a row for each
 * socket, from its beginning to its end. Nothing here runs for a packet: only
 * changes of state, retransmissions, resets and drops are hooked, and an
 * iterator visits the sockets at each collection.
 *
 * A program is not run where it would interrupt itself on the same CPU. So no
 * count relies on a single run: what one missed, the next look at that socket
 * counts, the last of which is its end.
 */
#include "kernel.h"
#include "event.h"
#include "histogram.h"
#include "listen_drops.h"
#include "map.h"
#include "slots.h"
#include "task.h"
#include "tcp.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set by user space before load: what is asked for. */
const volatile bool by_cgroup = true;
const volatile bool by_server_port = true;
const volatile bool by_role = true;
const volatile bool by_error = true;
const volatile bool by_last_state = false;
const volatile bool by_kind = false;
const volatile bool by_reason = false;
const volatile bool by_family = false;
const volatile bool by_namespace = false;
const volatile bool by_peer = false;
const volatile bool by_local = false;
const volatile bool by_process = false;
const volatile bool by_transport = false;
const volatile bool by_location = false;

const volatile bool with_connections = true;
const volatile bool with_latency = true;
const volatile bool with_duration = true;
const volatile bool with_rtt = true;
const volatile bool with_rtt_min = false;
const volatile bool with_rtt_variance = false;
const volatile bool with_window = false;
const volatile bool with_states = true;
const volatile bool with_retransmits = false;
const volatile bool with_out_of_order = false;
const volatile bool with_listen_drops = false;
const volatile bool with_accept_queue = false;
const volatile bool with_accept_wait = false;
const volatile bool with_zero_window = false;

#define EPIPE 32
#define ECONNABORTED 103
#define ECONNRESET 104
#define EADDRNOTAVAIL 99
#define ECONNREFUSED 111
#define ECANCELED 125
#define ERROR_OTHER 255 /* the decoder's, of an error that is not known */

enum role {
	ROLE_NONE,
	ROLE_CONNECT,
	ROLE_ACCEPT,
};

/* Why a segment was sent again. */
enum kind {
	KIND_OTHER,
	KIND_TIMEOUT,
	KIND_FAST,
	KIND_PROBE, /* of the tail's loss */
	KIND_SYN,
	KIND_SYN_ACK,
};

enum direction {
	DIRECTION_RECEIVE = 1,
	DIRECTION_TRANSMIT,
};

/* What is selected by default comes first; a map's key ends with the last field that is selected. */
struct tcp_key {
	u64 cgroup;
	__be16 server_port;
	u8 role;
	u8 error; /* errno */
	u8 state; /* enum tcp_state */
	u8 kind;  /* enum kind of retransmissions, enum direction of resets */
	u8 reason;
	u8 family;
	u32 network_namespace;
	u32 unused;
	struct address peer;
	struct address local;
	struct process_key process;
};

/* The fields from server_port to family, as one word: a load that spans several stores has to wait for all of them. */
static __always_inline u64 key_word(__be16 server_port, u8 role, u8 error, u8 state, u8 kind, u8 reason, u8 family)
{
	u64 word = 0;

	if (by_server_port)
		word |= server_port;
	if (by_role)
		word |= (u64)role << 16;
	if (by_error)
		word |= (u64)error << 24;
	word |= (u64)state << 32;
	if (by_kind)
		word |= (u64)kind << 40;
	if (by_reason)
		word |= (u64)reason << 48;
	if (by_family)
		word |= (u64)family << 56;
	return word;
}

#define KEY_WORD(key) (*(u64 *)&(key)->server_port)

struct count {
	u64 count;
};

/* 8 us to 137 s, in ns. */
struct latency {
	HISTOGRAM(13, 37, 1);
};

/* 131 us to 39 h, in ns. */
struct duration {
	HISTOGRAM(17, 47, 1);
};

/* 8 us to 17 s, in us. */
struct rtt {
	HISTOGRAM(3, 24, 1);
};

/* What there is of every connection, in one row: finding it costs more than adding to it. */
struct totals {
	u64 connections;
	u64 transmitted;
	u64 received;
	u64 out_of_order;
	struct latency latency;
	struct duration duration;
	struct rtt rtt;
};

/* 2 to 65536 segments. */
struct window {
	HISTOGRAM(1, 16, 1);
};

SWAPPED_MAP(connections, HASH, struct tcp_key, struct totals, 10000);
SWAPPED_MAP(rtt_minima, HASH, struct tcp_key, struct rtt, 10000);
SWAPPED_MAP(rtt_variances, HASH, struct tcp_key, struct rtt, 10000);
SWAPPED_MAP(windows, HASH, struct tcp_key, struct window, 10000);
SWAPPED_MAP(states, HASH, struct tcp_key, struct count, 10000);
SWAPPED_MAP(retransmits, HASH, struct tcp_key, struct count, 10000);
SWAPPED_MAP(resets, HASH, struct tcp_key, struct count, 10000);
SWAPPED_MAP(listen_drops, HASH, struct tcp_key, struct count, 10000);
SWAPPED_MAP(accept_queues, HASH, struct tcp_key, struct count, 10000);
SWAPPED_MAP(accept_waits, HASH, struct tcp_key, struct latency, 10000);
SWAPPED_MAP(zero_windows, HASH, struct tcp_key, struct count, 10000);

/* Who ended a connection. */
enum closer {
	CLOSER_NONE,
	CLOSER_LOCAL,
	CLOSER_PEER,
};

/* What was counted of a socket, and what it does not keep itself. */
struct connection {
	u64 began;	/* CLOCK_MONOTONIC, ns: the SYN, then the establishment; 0 where that was not seen */
	u64 transmitted;	/* marked */
	u64 received;	/* marked */
	u64 cgroup;
	u64 latency;	/* ns from the SYN to the establishment */
	u32 opened;	/* 0, or marked: enum opened */
	u32 retransmits;
	union {
		struct {
			u32 counted; /* segments out of order; drops of a listener */
			u32 ports; /* of an established one */
		};
		u64 counted_and_ports;
	};
	u8 role;
	u8 closed;	/* all of it was counted */
	u8 closer;
	u8 listener;
	u8 over;	/* a collection has found it ended */
	u8 visited;	/* the collection's numbers are of this connection */
	__be16 server_port; /* of an attempt: a socket that has failed may have lost it */

	/* The rest is in a cache line that short connections do without. */

	/* What a collection last saw, if it has seen any. */
	u64 acked;	/* the kernel's own numbers of both, when they were last counted to the byte */
	u64 came;
	u32 heard;	/* segs_in at the last sample */

	u32 unused2;

	/* Where somebody wants to know. */
	u64 asleep;	/* for how long the host had been suspended when it began: CLOCK_BOOTTIME less CLOCK_MONOTONIC, ns */
	struct process_key process;
};

_Static_assert(offsetof(struct connection, acked) == 64 && sizeof(struct connection) == 128, "two cache lines");

enum opened {
	OPENED = 1, /* and not among the connections yet */
	OPENED_COUNTED,
};

/*
 * A collection has no hold on a row. While it counts what has grown, the connection may end and the row become another's, which has
 * counted just as little. So the numbers that it exchanges have 16 bits of the ports in front, by which they are that connection's and no other's.
 */
#define MARK_BITS 16
#define NUMBER_BITS (64 - MARK_BITS)

/* Another for the connection's other end, which may be here as well. */
static __always_inline u64 mark_of(u32 ports)
{
	return (ports + 3 * (ports >> 16)) & ((1 << MARK_BITS) - 1);
}

static __always_inline u64 marked(u32 ports, u64 number)
{
	return mark_of(ports) << NUMBER_BITS | (number & ((1ULL << NUMBER_BITS) - 1));
}

static __always_inline u32 marked_opened(u32 ports, enum opened opened)
{
	return mark_of(ports) << 16 | opened;
}

/* By how much a marked number is more than another, which may have begun anew behind its last bit. */
static __always_inline u64 more_than(u64 before, u64 now)
{
	u64 more = (now - before) & ((1ULL << NUMBER_BITS) - 1);

	return more >> (NUMBER_BITS - 1) ? 0 : more;
}

/* By how much a marked number has grown since it was seen, for whoever gets to write that down. */
static __always_inline u64 grown(u64 *counted, u64 seen, u64 now)
{
	u64 more = more_than(seen, now);

	if (!more || seen >> NUMBER_BITS != now >> NUMBER_BITS)
		return 0;
	return __sync_val_compare_and_swap(counted, seen, now) == seen ? more : 0;
}

/* The same of the number that is beside the connection's ports. Once more, for another may count it as well. */
static __always_inline u32 grown_beside(struct connection *c, u32 ports, u32 now)
{
	u64 next = (u64)ports << 32 | now;

	for (int i = 0; i < 2; i++) {
		u64 seen = *(volatile u64 *)&c->counted_and_ports;
		s32 more = now - (u32)seen;

		if (seen >> 32 != ports || more <= 0)
			return 0;
		if (__sync_val_compare_and_swap(&c->counted_and_ports, seen, next) == seen)
			return more;
	}
	return 0;
}

static __always_inline bool wants_process(void);

static __always_inline void sockets_copy(struct connection *to, const struct connection *from)
{
	__builtin_memcpy(to, from, offsetof(struct connection, acked));
	if (wants_process())
		__builtin_memcpy(&to->asleep, &from->asleep, sizeof(*to) - offsetof(struct connection, asleep));
}

/*
 * By the socket's address, from when it begins to connect or listen, or is established, to when it is destroyed. A storage of the
 * socket's own would cost more than all else here: it is allocated and freed for each.
 */
SLOTTED_HASH(sockets, struct connection, 65536);

struct owner {
	u64 cgroup;
	struct process_key process;
};

/* Who listens: the kernel clones it for whom it accepts. Empty where nobody wants to know. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct owner);
} owners SEC(".maps");

/* All sockets that were there before us are known: what has no account by now is new, and levels are those of a collection. */
static bool acquainted;

/* What is known of a network namespace; the engine's internal/probe/attach.go has the same. */
enum namespace_flag {
	NAMESPACE_KNOWN = 1 << 0, /* all sockets that it had when it was visited */
	NAMESPACE_OWN = 1 << 1, /* it has been visited, and is at each collection */
	NAMESPACE_CROWDED = 1 << 2, /* there was no room for one of them; user space takes note */
};

/* By their numbers: the namespaces of which user space has shown us all sockets. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u32);
	__type(value, u32);
} known_namespaces SEC(".maps");

enum tcp_event {
	EVENT_CONNECTION,
};

struct connection_record {
	struct event_header header;
	u64 cgroup;
	u64 began; /* CLOCK_BOOTTIME, ns */
	u64 duration;
	u64 latency;
	u64 transmitted, received;
	struct address local, peer;
	u32 segments_transmitted, segments_received;
	u32 retransmits, out_of_order;
	u32 rtt, rtt_min, rtt_variance; /* us */
	u32 network_namespace;
	__be16 local_port, peer_port;
	u8 role;
	u8 state;
	u8 closer;
	u8 error;
	struct process_key process;
};

/* BTF keeps only the types of what is global. */
const volatile union {
	enum tcp_event id;
	struct connection_record record;
} event_types;

static __always_inline bool wants_process(void)
{
	return by_process || event_config[EVENT_CONNECTION].enabled;
}

/* The socket itself tells its cgroup in the v2 hierarchy only. */
static __always_inline bool wants_owner(void)
{
	return cgroup_controller >= 0 || wants_process();
}

static __always_inline u64 cgroup_of(struct tcp_sock *tp, struct connection *c)
{
	if (c)
		return c->cgroup;
	return cgroup_controller < 0 ? sock_cgroup_id((struct sock *)tp) : 0;
}

static __always_inline struct address peer_of(struct tcp_sock *tp)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;

	if (sk->__sk_common.skc_family == AF_INET6)
		return address_of(&sk->__sk_common.skc_v6_daddr);
	return ipv4_mapped(sk->__sk_common.skc_daddr);
}

static __always_inline struct address local_of(struct tcp_sock *tp)
{
	struct sock *sk = &tp->inet_conn.icsk_inet.sk;

	if (sk->__sk_common.skc_family == AF_INET6)
		return address_of(&sk->__sk_common.skc_v6_rcv_saddr);
	return ipv4_mapped(sk->__sk_common.skc_rcv_saddr);
}

static __always_inline u8 family_of(struct tcp_sock *tp)
{
	struct address peer;

	if (tp->inet_conn.icsk_inet.sk.__sk_common.skc_family == AF_INET)
		return 4;
	peer = peer_of(tp);
	return is_ipv4_mapped(&peer) ? 4 : 6;
}

/* Not known of a connection that nobody knows who began: there would be a series for each port of a client. */
static __always_inline __be16 server_port_of(struct tcp_sock *tp, struct connection *c)
{
	if (!c)
		return 0;
	if (c->role == ROLE_CONNECT)
		return tp->inet_conn.icsk_inet.sk.__sk_common.skc_dport;
	return c->role == ROLE_ACCEPT || c->listener ? tp->inet_conn.icsk_inet.inet_sport : 0;
}

/* What is read before it is older than what is read after it: of a processor like arm64 this is not known otherwise. */
static __always_inline void read_barrier(void)
{
	u32 nothing = 0;

	__sync_lock_test_and_set(&nothing, 1);
}

/*
 * The process of a connection, which changes once, when it is accepted: without a pid while it is being written. Who comes between on the same
 * CPU can not wait for it, and takes none.
 */
static __noinline int copy_process(struct process_key *to, struct connection *c)
{
	u32 pid = 0;

	for (int i = 0; i < 2; i++) {
		pid = *(volatile u32 *)&c->process.pid;
		read_barrier();
		*to = c->process;
		read_barrier();
		if (pid && pid == *(volatile u32 *)&c->process.pid)
			return 0;
	}
	__builtin_memset(to, 0, sizeof(*to));
	return 0;
}

/* Fill a zeroed key. */
static __always_inline void fill(struct tcp_key *key, struct tcp_sock *tp, struct connection *c, u8 error, u8 state, u8 kind, u8 reason)
{
	u8 role = c ? c->role : ROLE_NONE;
	struct address address;

	if (by_cgroup)
		key->cgroup = cgroup_of(tp, c);
	KEY_WORD(key) = key_word(server_port_of(tp, c), role, error, state, kind, reason, by_family ? family_of(tp) : 0);
	if (by_namespace)
		key->network_namespace = net_id(tp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net);
	if (by_peer) {
		address = peer_of(tp);
		key->peer = address_named(&address);
	}
	if (by_local) {
		address = local_of(tp);
		key->local = address_named(&address);
	}
	if (by_process && c)
		copy_process(&key->process, c);
}

/* Atomic: a softirq may come in between on this CPU. So everywhere here. */
static __always_inline void add(u64 *number, u64 n)
{
	__sync_fetch_and_add(number, n);
}

static __always_inline void add_to(struct count *row, u64 n)
{
	if (row)
		add(&row->count, n);
}

/* It is the current task's. */
static __always_inline void own(struct connection *c)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (cgroup_controller >= 0)
		c->cgroup = task_cgroup_id(task);
	if (wants_process())
		task_process_key(task, &c->process);
}

static __always_inline struct connection *account(struct tcp_sock *tp)
{
	return sockets_find((u64)tp);
}

/* An account of which nothing is known but the socket's. */
static __always_inline void blank(struct tcp_sock *tp, struct connection *c)
{
	__builtin_memset(c, 0, sizeof(*c));
	if (cgroup_controller < 0)
		c->cgroup = sock_cgroup_id((struct sock *)tp);
}

/* It takes the place of what is there: that of an earlier connection of this socket, or of one whose memory the kernel gave it. */
static __always_inline void keep(struct tcp_sock *tp, struct connection *c)
{
	sockets_put((u64)tp, c);
}

/*
 * When the socket was last busy, in ns: with each packet that comes, each that it sends and each of its timers, it looks at
 * CLOCK_MONOTONIC (tcp_mstamp_refresh() in net/ipv4). To ask for the time again costs as much as to find a row.
 */
static __always_inline u64 last_busy(struct tcp_sock *tp)
{
	return tp->tcp_mstamp * 1000;
}

/*
 * The time at which a connection ends in some state. Where that needs the peer's FIN or its last acknowledgement, it came just
 * now. Who closes or aborts otherwise changes the state first, and sends a reset afterwards.
 */
static __always_inline u64 time_of_end(struct tcp_sock *tp, u8 state)
{
	bool finished = tp->inet_conn.icsk_inet.sk.__sk_common.skc_flags & (1 << SOCK_DONE);

	if (state == TCP_LAST_ACK || state == TCP_CLOSING || (state == TCP_FIN_WAIT2 && finished))
		return last_busy(tp);
	return bpf_ktime_get_ns();
}

/* ns since the SYN, or since the establishment. Another CPU's clock may be behind. */
static __always_inline u64 lasted(struct connection *c, u64 until)
{
	return until > c->began ? until - c->began : 0;
}

/* Those of this end and the peer's, by which a socket is told from another in its memory. */
static __always_inline u32 ports_of(struct tcp_sock *tp)
{
	return (u32)tp->inet_conn.icsk_inet.inet_sport << 16 | tp->inet_conn.icsk_inet.sk.__sk_common.skc_dport;
}

/* States in which we have sent a FIN, or are about to. */
static __always_inline bool has_finished(u8 state)
{
	return state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING || state == TCP_LAST_ACK;
}

/*
 * Payload that the peer has acknowledged: not counted are our SYN and FIN. For whoever
 * has the socket's lock.
 */
static __always_inline u64 transmitted(struct tcp_sock *tp, struct connection *c, u8 state)
{
	u64 bytes = tp->bytes_acked;
	u64 other = c->role == ROLE_CONNECT;

	if (has_finished(state) && tp->snd_una == tp->write_seq)
		other++;
	bytes = bytes > other ? bytes - other : 0;
	/* The last state is not known. */
	if (!state && bytes > tp->bytes_sent - tp->bytes_retrans)
		bytes = tp->bytes_sent - tp->bytes_retrans;
	return bytes;
}

/* Payload that came, in order; the peer's FIN is not counted. */
static __always_inline u64 received(struct tcp_sock *tp)
{
	u64 bytes = tp->bytes_received;

	if (bytes && tp->inet_conn.icsk_inet.sk.__sk_common.skc_flags & (1 << SOCK_DONE))
		bytes--;
	return bytes;
}

/*
 * Who began a connection that we did not see begin: what was sent of it once
 * and what was acknowledged differ by the SYN, which is in the numbers of the
 * one who connected.
 */
static __always_inline u8 guess_role(struct tcp_sock *tp, u8 state)
{
	u64 numbers = tp->bytes_acked + (tp->snd_nxt - tp->snd_una);
	u64 payload = tp->bytes_sent - tp->bytes_retrans;

	if (has_finished(state) && tp->snd_nxt == tp->write_seq)
		numbers--;
	if (numbers == payload + 1)
		return ROLE_CONNECT;
	/* What this host itself refused to send, and sent later, is twice in what was sent. */
	return numbers == payload ? ROLE_ACCEPT : ROLE_NONE;
}

/* The account is that of the connection between these ports. The mark is there before they are. */
static __always_inline void identify(struct tcp_sock *tp, struct connection *c)
{
	u32 ports = ports_of(tp);

	c->transmitted = marked(ports, c->transmitted);
	c->received = marked(ports, c->received);
	barrier();
	c->ports = ports;
}

/* The account of a connection that is older than we are. */
static __always_inline void adopt(struct tcp_sock *tp, struct connection *c, u8 state)
{
	blank(tp, c);
	c->role = guess_role(tp, state);
	c->transmitted = transmitted(tp, c, state);
	c->received = received(tp);
	identify(tp, c);
	c->opened = marked_opened(c->ports, OPENED_COUNTED);
	c->retransmits = tp->total_retrans;
	c->counted = tp->rcv_ooopack;
}

/* Once, whoever sees it first. It is counted at the next look, so that one row is found once for all there is of a short connection. */
static __always_inline void opened(struct connection *c, u32 was, u32 ports)
{
	__sync_val_compare_and_swap(&c->opened, was, marked_opened(ports, OPENED));
}

/*
 * An attempt that failed. Where that was missed, connect() may have told the process since, and nothing of it is left in the socket but what
 * routers said, or a disconnect has left its own error (tcp_disconnect() in net/ipv4). Then a reset is known, which was seen when it came if resets are counted.
 */
static __noinline void count_failed(struct tcp_sock *tp, struct connection *c, bool missed)
{
	u32 error = tp->inet_conn.icsk_inet.sk.sk_err;
	struct tcp_key key = {};
	struct totals *row;

	if (!with_connections)
		return;
	if (missed && error == ECONNRESET)
		error = 0;
	if (missed && c->closer == CLOSER_PEER)
		error = ECONNREFUSED;
	/* What routers said, so that the process gave up. */
	if (!error)
		error = tp->inet_conn.icsk_inet.sk.sk_err_soft;
	/*
	 * Of ours, nothing was sent, and nobody has closed it: there was no port to be had; or it was given up before there was an answer. Of the
	 * peer's, it was none after all, as when two CPUs end one handshake. The kernel has counted it among those that were accepted.
	 */
	if (!error && missed)
		error = ERROR_OTHER;
	else if (!error && c->role == ROLE_CONNECT)
		error = tp->segs_out || tp->inet_conn.icsk_inet.sk.sk_shutdown ? ECANCELED : EADDRNOTAVAIL;
	else if (!error)
		error = ECONNABORTED;
	fill(&key, tp, c, error, 0, 0, 0);
	if (missed && by_server_port)
		key.server_port = c->server_port;
	row = connections_row(&key);
	if (row)
		add(&row->connections, 1);
}

static __always_inline bool samples(void)
{
	return with_rtt || with_rtt_min || with_rtt_variance || with_window;
}

/* What is known of the way to the peer, if it was heard of since the last sample. */
static __always_inline void sample(struct totals *row, struct tcp_key *key, struct tcp_sock *tp, struct connection *c)
{
	u32 heard = tp->segs_in;

	if ((c->visited && heard == c->heard) || !tp->srtt_us)
		return;
	if (c->visited)
		c->heard = heard;
	if (with_rtt)
		HISTOGRAM_ADD_SHARED(&row->rtt, 3, 24, 1, tp->srtt_us >> 3);
	if (with_rtt_min) {
		struct rtt *minimum = rtt_minima_row(key);

		if (minimum)
			HISTOGRAM_ADD_SHARED(minimum, 3, 24, 1, tp->rtt_min.s[0].v);
	}
	if (with_rtt_variance) {
		struct rtt *variance = rtt_variances_row(key);

		if (variance)
			HISTOGRAM_ADD_SHARED(variance, 3, 24, 1, tp->mdev_us >> 2);
	}
	if (with_window) {
		struct window *window = windows_row(key);

		if (window)
			HISTOGRAM_ADD_SHARED(window, 1, 16, 1, tp->snd_cwnd);
	}
}

/*
 * What of a connection was not counted yet. Whoever counts a number takes it out of the account first, since the iterator
 * and the connection's end may come together.
 */
static __always_inline struct totals *count(struct tcp_key *key, struct tcp_sock *tp, struct connection *c, u32 ports, u64 sent, u64 got)
{
	u64 latency = *(volatile u64 *)&c->latency;
	u32 open = marked_opened(ports, OPENED), segments;
	struct totals *row = connections_row(key);

	if (!row)
		return 0;
	if (c->opened == open && __sync_val_compare_and_swap(&c->opened, open, marked_opened(ports, OPENED_COUNTED)) == open) {
		add(&row->connections, 1);
		if (with_latency && latency)
			HISTOGRAM_ADD_SHARED(&row->latency, 13, 37, 1, latency);
	}
	if (sent)
		add(&row->transmitted, sent);
	if (got)
		add(&row->received, got);
	if (with_out_of_order) {
		segments = grown_beside(c, ports, tp->rcv_ooopack);
		if (segments)
			add(&row->out_of_order, segments);
	}
	if (samples())
		sample(row, key, tp, c);
	return row;
}

static __always_inline u64 net_of(struct tcp_sock *tp)
{
	return (u64)BPF_CORE_READ(tp, inet_conn.icsk_inet.sk.__sk_common.skc_net.net);
}

/* The handshakes that a listener dropped: SYNs and third steps for which its queues had no room, or that were no good. */
static __noinline void count_listen_drops(struct tcp_sock *tp, struct connection *c)
{
	u64 drops = with_listen_drops ? grown_beside(c, 0, tp->inet_conn.icsk_inet.sk.sk_drops.counter) : 0;
	struct tcp_key key = {};

	if (drops && has_namespaces_drops())
		drops = handshakes_among(net_of(tp), drops);
	if (!drops)
		return;
	fill(&key, tp, c, 0, 0, 0, 0);
	add_to(listen_drops_row(&key), drops);
}

/* Segments that were sent again since the last look. */
static __noinline void count_retransmits(struct tcp_sock *tp, struct connection *c, u8 kind)
{
	u32 now = tp->total_retrans;
	s32 grown = now - c->retransmits;
	struct tcp_key key = {};

	if (grown > 0) {
		c->retransmits = now;
		fill(&key, tp, c, 0, 0, kind, 0);
		add_to(retransmits_row(&key), grown);
	}
	/* The account may be on the caller's stack. Verifiers do not let it be left in the register of results, where the compiler puts what it likes. */
	asm volatile("r0 = 0" ::: "r0");
}

/* Only records have dates, and it is in a cache line that nobody else needs. */
static __always_inline void set_asleep(struct connection *c)
{
	if (event_config[EVENT_CONNECTION].enabled)
		c->asleep = bpf_ktime_get_boot_ns() - bpf_ktime_get_ns();
}

static __noinline void tell(struct tcp_sock *tp, struct connection *c, u32 error, u32 state)
{
	struct connection_record *e;
	u64 now;

	if (!event_begin(EVENT_CONNECTION, bpf_get_current_task_btf(), &now))
		return;
	e = event_reserve(EVENT_CONNECTION, struct connection_record, now);
	if (!e)
		return;
	e->cgroup = cgroup_of(tp, c);
	e->duration = c->began ? lasted(c, time_of_end(tp, state)) : 0;
	e->began = c->began ? c->began + c->asleep : 0;
	e->latency = c->latency;
	e->transmitted = transmitted(tp, c, state);
	e->received = received(tp);
	e->local = local_of(tp);
	e->peer = peer_of(tp);
	e->segments_transmitted = tp->segs_out;
	e->segments_received = tp->segs_in;
	e->retransmits = tp->total_retrans;
	e->out_of_order = tp->rcv_ooopack;
	e->rtt = tp->srtt_us >> 3;
	e->rtt_min = tp->srtt_us ? tp->rtt_min.s[0].v : 0;
	e->rtt_variance = tp->mdev_us >> 2;
	e->network_namespace = net_id(tp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net);
	e->local_port = tp->inet_conn.icsk_inet.inet_sport;
	e->peer_port = tp->inet_conn.icsk_inet.sk.__sk_common.skc_dport;
	e->role = c->role;
	e->state = state;
	e->closer = c->closer ?: error == ECONNABORTED ? CLOSER_LOCAL : error == ECONNRESET ? CLOSER_PEER : CLOSER_NONE;
	e->error = error;
	copy_process(&e->process, c);
	event_submit(EVENT_CONNECTION, e);
}

/*
 * Why a connection ended in a state, or in 0 where that was missed, by its socket's error. With a FIN each way it ended well, whatever came
 * after; without, with an error, which is none where we gave it up. Not static: verifiers look at it once, and not at each use with all that comes of it.
 */
__noinline u32 error_at_end(u32 error, u32 state)
{
	/* The peer's reset after its FIN and before ours (tcp_reset() in net/ipv4), which also tells of an end that was missed. */
	if (error == EPIPE && (!state || state == TCP_CLOSE_WAIT))
		return ECONNRESET;
	if (state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT)
		return error ?: ECONNABORTED;
	return state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 ? error : 0;
}

/* The connection has ended, in a state of before: what was not counted of it yet. */
static __noinline void finish(struct tcp_sock *tp, struct connection *c, u8 state)
{
	u64 sent = marked(c->ports, transmitted(tp, c, state));
	u64 got = marked(c->ports, received(tp));
	struct tcp_key key = {};
	struct totals *row;
	u32 error, was;
	s32 again;

	/* A collection that was late may have left another's mark. */
	was = c->opened;
	if (!was || was >> 16 != mark_of(c->ports))
		opened(c, was, c->ports);
	error = error_at_end(tp->inet_conn.icsk_inet.sk.sk_err, state);
	if (event_config[EVENT_CONNECTION].enabled)
		tell(tp, c, error, state);
	fill(&key, tp, c, 0, 0, 0, 0);
	sent = more_than(__sync_lock_test_and_set(&c->transmitted, sent), sent);
	got = more_than(__sync_lock_test_and_set(&c->received, got), got);
	row = count(&key, tp, c, c->ports, sent, got);
	/* Their kind is not known, which is the key's that is here. */
	again = tp->total_retrans - c->retransmits;
	if (with_retransmits && again > 0) {
		c->retransmits = tp->total_retrans;
		add_to(retransmits_row(&key), again);
	}
	if (!with_duration || !c->began)
		return;
	if ((by_error && error) || by_last_state) {
		KEY_WORD(&key) |= key_word(0, 0, error, by_last_state ? state : 0, 0, 0, 0);
		row = connections_row(&key);
	}
	if (row)
		HISTOGRAM_ADD_SHARED(&row->duration, 17, 47, 1, lasted(c, time_of_end(tp, state)));
}

/* Connections that nobody has accepted yet, by their socket. */
struct waiting {
	u64 since; /* ns */
	struct tcp_key key;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 10000);
	__type(key, u64);
	__type(value, struct waiting);
} accept_queue SEC(".maps");

static __noinline void queued(struct tcp_sock *tp, struct connection *c)
{
	struct waiting waiting = { .since = c->began };
	u64 sk = (u64)tp;

	fill(&waiting.key, tp, c, 0, 0, 0, 0);
	bpf_map_update_elem(&accept_queue, &sk, &waiting, BPF_ANY);
}

/* A socket begins to connect. It may be one that was another connection before. */
static __always_inline void connecting(struct tcp_sock *tp)
{
	struct connection c;

	blank(tp, &c);
	c.began = bpf_ktime_get_ns();
	set_asleep(&c);
	c.retransmits = tp->total_retrans;
	c.role = ROLE_CONNECT;
	c.server_port = tp->inet_conn.icsk_inet.sk.__sk_common.skc_dport;
	own(&c);
	keep(tp, &c);
}

static __always_inline void listening(struct tcp_sock *tp)
{
	struct connection c;
	struct owner *owner;

	if (with_listen_drops)
		meet_namespace(net_of(tp));
	blank(tp, &c);
	c.listener = 1;
	c.counted = tp->inet_conn.icsk_inet.sk.sk_drops.counter;
	own(&c);
	keep(tp, &c);
	if (!wants_owner())
		return;
	owner = bpf_sk_storage_get(&owners, tp, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (owner) {
		owner->cgroup = c.cgroup;
		owner->process = c.process;
	}
}

/* The account of a connection that a listener has made. Its handshake has sent again what is counted already. */
static __always_inline void accepting(struct tcp_sock *tp, struct connection *c)
{
	blank(tp, c);
	c->role = ROLE_ACCEPT;
	c->retransmits = tp->total_retrans;
	if (wants_owner()) {
		struct owner *owner = bpf_sk_storage_get(&owners, tp, 0, 0);

		if (owner && cgroup_controller >= 0)
			c->cgroup = owner->cgroup;
		if (owner)
			c->process = owner->process;
	}
}

/* Whether the account is one of a socket that was here before, whose end was missed. */
static __always_inline bool is_stale(struct tcp_sock *tp, struct connection *c)
{
	return c->closed || c->listener || (c->ports && c->ports != ports_of(tp));
}

static __always_inline void established(struct tcp_sock *tp, int old)
{
	struct connection *c = account(tp);
	u64 now = last_busy(tp);
	struct connection child;

	/* There is none of a listener's child, but where data came early. */
	if (c && !is_stale(tp, c)) {
		if (c->began)
			c->latency = lasted(c, now);
		/* With TCP_REPAIR, there is no packet. */
		if (c->began < now)
			c->began = now;
		set_asleep(c);
		identify(tp, c);
		if (c->opened != marked_opened(c->ports, OPENED_COUNTED))
			c->opened = marked_opened(c->ports, OPENED);
	} else {
		accepting(tp, &child);
		if (old == TCP_SYN_SENT)
			child.role = ROLE_CONNECT;
		child.began = now;
		set_asleep(&child);
		identify(tp, &child);
		child.opened = marked_opened(child.ports, OPENED);
		keep(tp, &child);
		c = &child;
	}
	if (with_accept_wait && c->role == ROLE_ACCEPT)
		queued(tp, c);
}

/* With data in the handshake, a connection may end before it is established. */
static __always_inline void established_never(struct tcp_sock *tp)
{
	struct connection *c = account(tp);
	struct connection child;

	if (c && !is_stale(tp, c))
		return;
	accepting(tp, &child);
	identify(tp, &child);
	keep(tp, &child);
}

/*
 * Whether a socket without an account is new, for all older ones of its namespace have one. New ones have none when
 * the table was full, or when a change of state was missed.
 */
static __always_inline bool are_old_ones_known(struct tcp_sock *tp)
{
	u32 namespace = net_id(tp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net);
	u32 *flags = bpf_map_lookup_elem(&known_namespaces, &namespace);

	return flags && *flags & NAMESPACE_KNOWN;
}

/* The account of a connection that is found in some state. */
static __always_inline void discover(struct tcp_sock *tp, struct connection *c, u8 state, bool old)
{
	if (old && state != TCP_SYN_SENT && state != TCP_SYN_RECV) {
		adopt(tp, c, state);
		return;
	}
	accepting(tp, c);
	if (state == TCP_SYN_RECV)
		return;
	if (state == TCP_SYN_SENT) {
		c->role = ROLE_CONNECT;
		c->server_port = tp->inet_conn.icsk_inet.sk.__sk_common.skc_dport;
		return;
	}
	c->role = guess_role(tp, state);
	identify(tp, c);
	c->opened = marked_opened(c->ports, OPENED);
}

/* The socket is closed, or a listener no longer one. */
static __always_inline void ended(struct tcp_sock *tp, int old)
{
	struct connection *c = account(tp);
	struct connection unknown;

	if (!c) {
		if (old == TCP_CLOSE || old == TCP_LISTEN || (old != TCP_SYN_SENT && old != TCP_SYN_RECV && !are_old_ones_known(tp)))
			return;
		discover(tp, &unknown, old, false);
		c = &unknown;
	}
	if (c->closed)
		return;
	if (old == TCP_LISTEN) {
		count_listen_drops(tp, c);
		c->listener = 0;
		c->closed = 1;
		return;
	}
	c->closed = 1;
	if (old == TCP_SYN_SENT || (old == TCP_SYN_RECV && !c->opened)) {
		count_failed(tp, c, false);
		if (with_retransmits && tp->total_retrans != c->retransmits)
			count_retransmits(tp, c, KIND_SYN);
		return;
	}
	finish(tp, c, old);
}

/*
 * Every change of a TCP socket's state, with its lock held. SYN_SENT and LISTEN
 * are set by the process itself, the others by whoever comes along. Sockets that
 * wait in TIME_WAIT, and handshakes of a listener, are no sockets of this kind.
 * Subflows of MPTCP are TCP connections of their own here.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(set_state, struct sock *sk, int old, int new)
{
	struct connection *c;
	struct tcp_sock *tp;

	if (new == TCP_FIN_WAIT2 || new == TCP_CLOSING || new == TCP_LAST_ACK || new == TCP_SYN_RECV || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if ((new == TCP_FIN_WAIT1 || new == TCP_CLOSE_WAIT) && old != TCP_SYN_RECV && !event_config[EVENT_CONNECTION].enabled)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	switch (new) {
	case TCP_SYN_SENT:
		connecting(tp);
		break;
	case TCP_LISTEN:
		listening(tp);
		break;
	case TCP_ESTABLISHED:
		established(tp, old);
		break;
	case TCP_FIN_WAIT1:
	case TCP_CLOSE_WAIT:
		if (old == TCP_SYN_RECV)
			established_never(tp);
		/* Who closes first. */
		if (!event_config[EVENT_CONNECTION].enabled)
			break;
		c = account(tp);
		if (c && !c->closer)
			c->closer = new == TCP_FIN_WAIT1 ? CLOSER_LOCAL : CLOSER_PEER;
		break;
	case TCP_CLOSE:
		ended(tp, old);
		break;
	}
	return 0;
}

static __always_inline bool is_same_process(const struct process_key *a, const struct process_key *b)
{
	const u64 *x = (const u64 *)a->comm, *y = (const u64 *)b->comm;

	return a->pid == b->pid && a->start == b->start && x[0] == y[0] && x[1] == y[1];
}

/* A connection is its acceptor's, who may be another process than the one that listens, or have another name since, from here on. */
static __always_inline void take_over(u64 sk, const struct process_key *acceptor)
{
	struct connection *c = sockets_find(sk);

	if (!c || c->role == ROLE_CONNECT || c->listener || c->closed || is_same_process(&c->process, acceptor))
		return;
	__sync_lock_test_and_set(&c->process.pid, 0);
	c->process.start = acceptor->start;
	__builtin_memcpy(c->process.comm, acceptor->comm, sizeof(c->process.comm));
	__sync_lock_test_and_set(&c->process.pid, acceptor->pid);
}

/* For how long a connection has waited until it was accepted. */
static __always_inline void served(u64 sk, const struct process_key *acceptor)
{
	struct waiting *waiting = bpf_map_lookup_elem(&accept_queue, &sk);
	struct latency *row;
	u64 now;

	if (!waiting)
		return;
	if (by_process)
		waiting->key.process = *acceptor;
	row = accept_waits_row(&waiting->key);
	now = bpf_ktime_get_ns(); /* another CPU's clock may be behind */
	if (row)
		HISTOGRAM_ADD_SHARED(row, 13, 37, 1, now > waiting->since ? now - waiting->since : 0);
	bpf_map_delete_elem(&accept_queue, &sk);
}

/*
 * A connection is accepted: with a file descriptor there is its socket. Misses those that io_uring accepts, and 32-bit
 * programs on a 64-bit kernel.
 */
static __always_inline int accepted(struct syscall_exit *call)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct file **files, *file = 0;
	struct process_key acceptor = {};
	struct socket *socket;
	u64 sk;

	if (call->result < 0)
		return 0;
	files = BPF_CORE_READ(task, files, fdt, fd);
	bpf_probe_read_kernel(&file, sizeof(file), files + call->result);
	socket = BPF_CORE_READ(file, private_data);
	sk = (u64)BPF_CORE_READ(socket, sk);
	if (sk <= SLOT_TAKEN) /* another thread was faster, and this is no socket any more */
		return 0;
	if (wants_process()) {
		task_process_key(task, &acceptor);
		take_over(sk, &acceptor);
	}
	if (with_accept_wait)
		served(sk, &acceptor);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_accept")
int accept_exit(struct syscall_exit *call)
{
	return accepted(call);
}

SEC("tracepoint/syscalls/sys_exit_accept4")
int accept4_exit(struct syscall_exit *call)
{
	return accepted(call);
}

/* What the last change of state was to count, where it was missed. */
static __always_inline void conclude(struct tcp_sock *tp, struct connection *c)
{
	c->closed = 1;
	if (c->opened)
		finish(tp, c, 0);
	else if (c->role == ROLE_CONNECT)
		count_failed(tp, c, true);
}

/*
 * The end of a TCP socket, in any way, after its last change of state.
 */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(destroy, struct sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	u64 address = (u64)tp;
	struct connection *c;

	if (!tp)
		return 0;
	c = account(tp);
	/* Its memory may be that of another soon. */
	if (with_accept_wait && (!c || c->role == ROLE_ACCEPT))
		bpf_map_delete_elem(&accept_queue, &address);
	if (!c)
		return 0;
	if (!c->closed && !c->listener)
		conclude(tp, c);
	sockets_remove(address);
	return 0;
}

/*
 * At each collection over the Collector's own network namespace, and once over each other
 * that has a process: sockets without an account get one. At a namespace's first time they
 * may be older than we are, and what they did before is not ours to count; later they are
 * new. Requests and what waits in TIME_WAIT can only be found here.
 */
SEC("iter/tcp")
int meet(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	u32 namespace, flags, *known;
	struct connection met;
	struct tcp_sock *tp;
	int error;
	bool old;
	u8 state;

	if (!skc)
		return 0;
	state = skc->skc_state;
	namespace = net_id(skc->skc_net.net);
	known = bpf_map_lookup_elem(&known_namespaces, &namespace);
	flags = known ? *known : 0;
	old = !(flags & NAMESPACE_KNOWN);
	if (state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV) {
		struct tcp_timewait_sock *waiting = bpf_skc_to_tcp_timewait_sock(skc);
		struct tcp_key key = {};

		if (!with_states || !(flags & NAMESPACE_OWN))
			return 0;
		KEY_WORD(&key) = key_word(0, 0, 0, waiting ? waiting->tw_sk.tw_substate : state == TCP_TIME_WAIT ? TCP_TIME_WAIT : TCP_SYN_RECV, 0, 0, 0);
		if (by_namespace)
			key.network_namespace = namespace;
		add_to(states_row(&key), 1);
		return 0;
	}
	tp = bpf_skc_to_tcp_sock(skc);
	if (!tp || state == TCP_CLOSE)
		return 0;
	if (account(tp))
		return 0;
	if (state == TCP_LISTEN) {
		if (with_listen_drops)
			meet_namespace(net_of(tp));
		blank(tp, &met);
		met.listener = 1;
		met.counted = old ? tp->inet_conn.icsk_inet.sk.sk_drops.counter : 0;
	} else {
		discover(tp, &met, state, old);
	}
	error = sockets_add((u64)tp, &met);
	if (error && error != -EEXIST && old && !(flags & NAMESPACE_CROWDED)) {
		flags |= NAMESPACE_CROWDED;
		bpf_map_update_elem(&known_namespaces, &namespace, &flags, BPF_ANY);
	}
	return 0;
}

/* A socket as it was read. There is one collection at a time. */
static char taken[4096] __attribute__((aligned(8)));

/* Its memory may have been freed, but not for anything else than a socket of its kind, as long as its account was found in this collection. */
static __always_inline struct tcp_sock *take(struct tcp_sock *sk)
{
	void *copy = taken;

	barrier_var(copy);
	return bpf_probe_read_kernel(copy, bpf_core_type_size(struct tcp_sock), sk) ? 0 : copy;
}

/* Whether somebody is at the socket's numbers now. */
static __always_inline bool is_locked(struct tcp_sock *sk)
{
	if (BPF_CORE_READ(sk, inet_conn.icsk_inet.sk.sk_lock.owned))
		return true;
	/* With PREEMPT_RT, a spin lock is no number. */
	return bpf_core_field_exists(sk->inet_conn.icsk_inet.sk.sk_lock.slock.rlock.raw_lock.val) &&
	       BPF_CORE_READ(sk, inet_conn.icsk_inet.sk.sk_lock.slock.rlock.raw_lock.val.counter);
}

/* Whether there may be something to count of an established connection. Most are idle. */
static __always_inline bool has_moved(struct tcp_sock *tp, struct connection *c)
{
	u64 acked = c->visited ? c->acked : 0, came = c->visited ? c->came : 0;
	u32 heard = c->visited ? c->heard : 0;

	return acked != tp->bytes_acked || came != tp->bytes_received || (u16)c->opened == OPENED || (samples() && heard != tp->segs_in) ||
	       (with_out_of_order && c->counted != tp->rcv_ooopack);
}

/* Whether the account is still that of the socket between these ports. It may have ended since, and both have become another connection's. */
static __always_inline bool is_still(struct connection *c, u32 ports)
{
	return !*(volatile u8 *)&c->closed && *(volatile u32 *)&c->ports == ports;
}

/* What a socket has shown, and between which ports its account was then. */
struct sight {
	struct tcp_sock *sk;
	u64 acked;
	u64 came;
	u32 ports;
	u8 state;
};

/*
 * What has grown of a connection that has just been seen. Its lock is not held. So numbers are
 * taken for exact when the socket was nobody's and nothing moved; else they may have one too
 * many each way, for a FIN whose flag is not set yet.
 */
static __noinline void count_growth(struct tcp_key *key, struct connection *c, struct sight *seen)
{
	u64 sent, got, seen_sent, seen_got;
	struct tcp_sock *tp;
	bool busy;

	read_barrier();
	seen_sent = c->transmitted;
	seen_got = c->received;
	if (!c->visited) {
		c->acked = 0;
		c->came = 0;
		c->heard = 0;
		read_barrier();
		c->visited = 1;
	}
	read_barrier();
	busy = is_locked(seen->sk);
	read_barrier();
	tp = take(seen->sk);
	if (!tp)
		return;
	read_barrier();
	sent = transmitted(tp, c, seen->state);
	got = received(tp);
	/* It was slow here. A FIN that came or went meanwhile can not be told from a byte. */
	if (tp->inet_conn.icsk_inet.sk.__sk_common.skc_state != seen->state || (seen->ports && seen->ports != ports_of(tp)) || !is_still(c, seen->ports))
		return;
	if (busy || is_locked(seen->sk) || seen->acked != tp->bytes_acked || seen->came != tp->bytes_received) {
		sent = sent ? sent - 1 : 0;
		got = got ? got - 1 : 0;
	} else {
		c->acked = seen->acked;
		c->came = seen->came;
	}
	sent = grown(&c->transmitted, seen_sent, marked(seen->ports, sent));
	got = grown(&c->received, seen_got, marked(seen->ports, got));
	count(key, tp, c, seen->ports, sent, got);
}

/* A socket whose end was missed, or one that is closed and not destroyed yet: nobody asks for its account any more. */
static __always_inline void forget(u64 address, struct tcp_sock *tp, struct connection *c, u8 state)
{
	if (!c->over) {
		c->over = 1;
		return;
	}
	if (!c->closed && !c->listener && state == TCP_CLOSE && (!c->ports || c->ports == ports_of(tp)))
		conclude(tp, c);
	sockets_remove(address);
}

/* A socket that has an account: what has grown since the last collection. Global, so that it is verified once for all slots of a set. */
__noinline int visit(const u64 *of)
{
	/* Not on the stack, of which little is left below two calls. There is one collection at a time. */
	static struct tcp_key key;
	u64 address = of ? *of : 0;
	struct sight seen = {};
	struct connection *c;
	struct tcp_sock *tp;
	u8 state;

	c = sockets_find(address);
	if (!c)
		return 0;
	read_barrier();
	seen.sk = (struct tcp_sock *)address;
	seen.ports = *(volatile u32 *)&c->ports;
	read_barrier();
	tp = take(seen.sk);
	if (!tp)
		return 0;
	state = tp->inet_conn.icsk_inet.sk.__sk_common.skc_state;
	if (c->closed || !state || state == TCP_CLOSE || state > TCP_CLOSING || (seen.ports && seen.ports != ports_of(tp))) {
		forget(address, tp, c, state);
		return 0;
	}
	/* The program is run before the state can be seen. */
	if (c->over)
		c->over = 0;
	__builtin_memset(&key, 0, sizeof(key));
	fill(&key, tp, c, 0, 0, 0, 0);
	if (with_states && acquainted) {
		u64 word = KEY_WORD(&key);

		KEY_WORD(&key) |= key_word(0, 0, 0, state, 0, 0, 0);
		add_to(states_row(&key), 1);
		KEY_WORD(&key) = word;
	}
	if (state == TCP_LISTEN) {
		if (with_accept_queue && acquainted)
			add_to(accept_queues_row(&key), tp->inet_conn.icsk_inet.sk.sk_ack_backlog);
		if (c->listener)
			count_listen_drops(tp, c);
		return 0;
	}
	if (state == TCP_SYN_SENT || state == TCP_SYN_RECV)
		return 0;
	/* The program is run before the state can be seen: here it was not. */
	if (!c->opened && is_still(c, seen.ports))
		opened(c, 0, seen.ports);
	if (with_zero_window && acquainted && !tp->snd_wnd)
		add_to(zero_windows_row(&key), 1);
	if (!has_moved(tp, c))
		return 0;
	seen.acked = tp->bytes_acked;
	seen.came = tp->bytes_received;
	seen.state = state;
	count_growth(&key, c, &seen);
	return 0;
}

/*
 * Each collection, over all sockets that have an account, in all network
 * namespaces: those in slots, then the others.
 */
SEC("iter/bpf_map_elem")
int collect(struct bpf_iter__bpf_map_elem *ctx)
{
	u32 *element = ctx->key, number;
	struct sockets_set *set;
	u64 address;

	if (!element)
		return 0;
	/* The iterator's is a buffer to the verifier. */
	number = *element;
	set = bpf_map_lookup_elem(&sockets_slots, &number);
	if (!set)
		return 0;
	for (int i = 0; i < SLOTS_IN_SET; i++) {
		address = *(volatile u64 *)&set->addresses[i];
		if (address != SLOT_FREE && address != SLOT_TAKEN)
			visit(&address);
	}
	return 0;
}

SEC("iter/bpf_map_elem")
int collect_elsewhere(struct bpf_iter__bpf_map_elem *ctx)
{
	u64 address, *element = ctx->key;

	if (!element) {
		acquainted = true;
		return 0;
	}
	address = *element;
	/* Two may have added it at once; then it was visited. */
	if (!sockets_in_slot(address))
		visit(&address);
	return 0;
}

/* What the socket is sending again, by what made it do so: __tcp_retransmit_skb() in net/ipv4/tcp_output.c and its callers. */
static __always_inline u8 kind_of(struct tcp_sock *tp)
{
	u8 state = tp->inet_conn.icsk_inet.sk.__sk_common.skc_state;
	u8 congestion = BPF_CORE_READ_BITFIELD(&tp->inet_conn, icsk_ca_state);

	if (state == TCP_SYN_SENT)
		return KIND_SYN;
	if (state == TCP_SYN_RECV)
		return KIND_SYN_ACK;
	if (congestion == TCP_CA_LOSS)
		return KIND_TIMEOUT;
	if (congestion == TCP_CA_RECOVERY)
		return KIND_FAST;
	/* The timer's handler takes it back when the probe was sent. */
	return tp->inet_conn.icsk_pending == ICSK_TIME_LOSS_PROBE ? KIND_PROBE : KIND_OTHER;
}

/*
 * A segment, or several at once, was sent again. What the socket's own number of
 * them has grown by is counted, so that it does not matter whether the kernel
 * tells of those that it could not send; it does not before 6.17.
 */
SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(retransmit, struct sock *sk, struct sk_buff *skb)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct connection unknown, *c;

	if (!tp)
		return 0;
	c = account(tp);
	if (!c) {
		struct tcp_skb_cb *cb = (void *)skb->cb;

		discover(tp, &unknown, tp->inet_conn.icsk_inet.sk.__sk_common.skc_state, !are_old_ones_known(tp));
		unknown.retransmits = tp->total_retrans - BPF_CORE_READ(cb, tcp_gso_segs);
		keep(tp, &unknown);
		c = account(tp);
		if (!c)
			c = &unknown;
	}
	count_retransmits(tp, c, kind_of(tp));
	return 0;
}

/* The second step of a handshake, again. There is no socket yet, but the listener's. */
SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(retransmit_synack, struct sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct connection child, *c;
	struct tcp_key key = {};

	if (!tp)
		return 0;
	c = account(tp);
	/* With fast open, the connection's own socket exists, whose number has it too. */
	if (!c && tp->inet_conn.icsk_inet.sk.__sk_common.skc_state == TCP_SYN_RECV) {
		accepting(tp, &child);
		keep(tp, &child);
		c = account(tp);
	}
	if (c && tp->inet_conn.icsk_inet.sk.__sk_common.skc_state != TCP_LISTEN)
		c->retransmits = tp->total_retrans;
	fill(&key, tp, c, 0, 0, KIND_SYN_ACK, 0);
	if (by_role)
		key.role = ROLE_ACCEPT;
	add_to(retransmits_row(&key), 1);
	return 0;
}

/* The last reset on a CPU that a socket received which its process had closed: whether it was one is seen later. */
struct supposed_reset {
	u64 socket;
	u64 at; /* us, the time of the packet */
	struct tcp_key key;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct supposed_reset);
} supposed_resets SEC(".maps");

static __always_inline struct supposed_reset *supposed_reset(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&supposed_resets, &zero);
}

/*
 * A reset came that is valid, in any state but TIME_WAIT and a listener's handshakes.
 */
SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(reset_received, struct sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct supposed_reset *supposed;
	struct tcp_key key = {};
	struct connection *c;

	if (!tp)
		return 0;
	c = account(tp);
	if (c && tp->inet_conn.icsk_inet.sk.__sk_common.skc_state == TCP_SYN_SENT)
		c->closer = CLOSER_PEER;
	fill(&key, tp, c, 0, 0, DIRECTION_RECEIVE, 0);
	add_to(resets_row(&key), 1);
	supposed = tp->inet_conn.icsk_inet.sk.sk_shutdown & RCV_SHUTDOWN ? supposed_reset() : 0;
	if (supposed) {
		supposed->socket = (u64)tp;
		supposed->at = tp->tcp_mstamp;
		supposed->key = key;
	}
	return 0;
}

/* To a packet that no socket, or one in TIME_WAIT, wanted: all that is known is in the packet. */
static __noinline void count_reset_of(struct sk_buff *skb, u8 reason)
{
	unsigned char *head = skb->head;
	struct tcphdr_start tcp = {};
	struct tcp_key key = {};
	u8 family, role = ROLE_NONE;

	if (bpf_probe_read_kernel(&tcp, sizeof(tcp), head + skb->transport_header))
		return;
	/* Somebody asked for a server that is not there. Its port is told by nobody but the one who asked: who scans ports would make series. */
	if ((tcp.flags & 0x12) == 0x02)
		role = ROLE_ACCEPT;
	family = skb->protocol == bpf_htons(0x86dd) ? 6 : 4;
	KEY_WORD(&key) = key_word(0, role, 0, 0, DIRECTION_TRANSMIT, reason, family);
	if (by_namespace)
		key.network_namespace = net_id(BPF_CORE_READ(skb, dev, nd_net.net));
	if (by_peer || by_local) {
		unsigned char *ip = head + skb->network_header;
		struct address peer = {}, local = {};

		if (family == 6) {
			bpf_probe_read_kernel(&peer, sizeof(peer), ip + 8);
			bpf_probe_read_kernel(&local, sizeof(local), ip + 24);
		} else {
			__be32 addresses[2] = {};

			bpf_probe_read_kernel(addresses, sizeof(addresses), ip + 12);
			peer = ipv4_mapped(addresses[0]);
			local = ipv4_mapped(addresses[1]);
		}
		if (by_peer)
			key.peer = address_named(&peer);
		if (by_local)
			key.local = address_named(&local);
	}
	add_to(resets_row(&key), 1);
}

static __always_inline int reset_sent(struct sock *sk, struct sk_buff *skb, u32 reason)
{
	struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : 0;
	struct supposed_reset *supposed;
	struct tcp_key key = {};
	struct count *row;

	if (!tp) {
		if (skb)
			count_reset_of(skb, reason);
		return 0;
	}
	supposed = skb ? supposed_reset() : 0;
	if (supposed && supposed->socket == (u64)tp && supposed->at == tp->tcp_mstamp) {
		/*
		 * Data for a socket that is closed, which the kernel handles like a reset until it answers with one (tcp_rcv_state_process() in
		 * net/ipv4). A reset itself is not answered. The socket's account is gone by now.
		 */
		supposed->socket = 0;
		row = resets_row(&supposed->key);
		if (row && row->count) /* else a collection has come in between */
			add(&row->count, -1);
		key = supposed->key;
		KEY_WORD(&key) &= ~key_word(0, 0, 0, 0, 0xff, 0xff, 0);
		KEY_WORD(&key) |= key_word(0, 0, 0, 0, DIRECTION_TRANSMIT, reason, 0);
	} else {
		/* A listener's, where the handshake was no good. */
		fill(&key, tp, account(tp), 0, 0, DIRECTION_TRANSMIT, reason);
	}
	add_to(resets_row(&key), 1);
	return 0;
}

/* A reset was sent: by a socket that gives up, or in answer to a packet that is wrong here. */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(reset_sent_reason, struct sock *sk, struct sk_buff *skb, int reason)
{
	return reset_sent(sk, skb, reason);
}

/* Before Linux 6.10: without a reason, and only those of which there is a socket. */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(reset_sent_plain, struct sock *sk, struct sk_buff *skb)
{
	return reset_sent(sk, skb, 0);
}

/* Packets that the kernel threw away. */
struct drop_key {
	u32 reason; /* enum skb_drop_reason of the running kernel */
	u8 transport;
	u8 unused;
	u16 ethertype;
	u64 cgroup;
	u32 network_namespace;
	u32 unused2;
	u64 location;
};

SWAPPED_MAP(drops, HASH, struct drop_key, struct count, 10000);

/* Of a socket of any protocol. Requests, and what waits, have no owner. */
static __always_inline u64 cgroup_of_any(struct sock *sk)
{
	u8 state = sk->__sk_common.skc_state;

	return state == TCP_TIME_WAIT || state == TCP_NEW_SYN_RECV ? 0 : sock_cgroup_id(sk);
}

/* In v1 hierarchies, that of a TCP socket is known; the verifier lets us ask of the tracepoint's own argument only. */
static __always_inline u64 cgroup_of_receiver(struct sock *receiver)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(receiver);
	struct connection *c = tp ? account(tp) : 0;

	return c ? c->cgroup : 0;
}

/*
 * A packet was freed that was not used up: what is used up goes through
 * consume_skb. Only network packets are looked at, and not the messages of
 * netlink and local sockets.
 */
static __always_inline int drop(struct sk_buff *skb, void *location, u32 reason, struct sock *receiver)
{
	u16 ethertype = bpf_ntohs(skb->protocol);
	struct net_device *dev = skb->dev;
	struct drop_key key = {};
	struct sock *sk = skb->sk;

	if (ethertype != 0x0800 && ethertype != 0x86dd && !(ethertype && dev))
		return 0;
	key.reason = reason;
	if (by_transport && skb->network_header != 0xffff && (ethertype == 0x0800 || ethertype == 0x86dd)) {
		unsigned char *ip = skb->head + skb->network_header;

		bpf_probe_read_kernel(&key.transport, 1, ip + (ethertype == 0x0800 ? 9 : 6));
	}
	if (by_family)
		key.ethertype = ethertype;
	if (receiver)
		sk = receiver;
	if (by_cgroup && cgroup_controller < 0 && sk)
		key.cgroup = cgroup_of_any(sk);
	if (by_cgroup && cgroup_controller >= 0 && receiver)
		key.cgroup = cgroup_of_receiver(receiver);
	/* The sender's socket stays with a packet on its way through a veth. And in the queue of a socket, dev is no pointer. */
	if (by_namespace) {
		if (!receiver)
			key.network_namespace = net_id(BPF_CORE_READ(dev, nd_net.net));
		if (!key.network_namespace && sk)
			key.network_namespace = net_id(BPF_CORE_READ(sk, __sk_common.skc_net.net));
	}
	if (by_location)
		key.location = (u64)location;
	add_to(drops_row(&key), 1);
	return 0;
}

enum skb_drop_reason {
	SKB_NOT_DROPPED_YET,
	SKB_DROP_REASON_QUEUE_PURGE,
};

/*
 * What was used up has the reason 0; on Linux 5.17, which has no name for that, 0 is any reason. What is left in a socket that
 * is destroyed is one, but for the peer's FIN, with which nothing is lost: there is one in about every connection.
 */
static __always_inline bool is_drop(struct sk_buff *skb, u32 reason)
{
	if (bpf_core_enum_value_exists(enum skb_drop_reason, SKB_DROP_REASON_QUEUE_PURGE) &&
	    reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_QUEUE_PURGE) && !skb->len)
		return false;
	return reason || !bpf_core_enum_value_exists(enum skb_drop_reason, SKB_NOT_DROPPED_YET);
}

/* Since Linux 6.11 it is told who was to receive the packet. */
SEC("tp_btf/kfree_skb")
int BPF_PROG(drop_receiver, struct sk_buff *skb, void *location, int reason, struct sock *receiver)
{
	u64 there = 0;

	if (!is_drop(skb, reason))
		return 0;
	/* It is null mostly; verifiers of Linux 6.11 to 6.13 take it for set, and would throw a comparison with null away. */
	bpf_probe_read_kernel(&there, sizeof(there), &ctx[3]);
	return drop(skb, location, reason, there ? receiver : 0);
}

/* Since Linux 5.17 there are reasons. */
SEC("tp_btf/kfree_skb")
int BPF_PROG(drop_reason, struct sk_buff *skb, void *location, int reason)
{
	return is_drop(skb, reason) ? drop(skb, location, reason, 0) : 0;
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(drop_plain, struct sk_buff *skb, void *location)
{
	return drop(skb, location, 0, 0);
}
