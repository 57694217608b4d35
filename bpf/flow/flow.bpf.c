//go:build ignore
/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Bytes and packets by who talks to whom. A socket filter on a packet socket
 * sees every packet of an interface, counts it and returns 0: nothing is
 * queued to the socket, and nothing happens to the packet.
 */
#include "kernel.h"
#include "map.h"
#include "event.h"
#include "packet.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Options. */
const volatile u32 sampling = 1;
const volatile bool service_ports = true;
const volatile bool tunnels = false;
const volatile u64 idle_timeout = 15000000000ULL;
const volatile u64 active_timeout = 60000000000ULL;

/* What the key consists of. */
const volatile bool by_source_address = true;
const volatile bool by_destination_address = true;
const volatile bool by_server_port = true;
const volatile bool by_transport = true;
const volatile bool by_direction = true;
const volatile bool by_type = true;
const volatile bool by_source_port = false;
const volatile bool by_destination_port = false;
const volatile bool by_flags = false;
const volatile bool by_dscp = false;
const volatile bool by_vlan = false;
const volatile bool by_interface = false;
const volatile bool by_container = false;

const volatile bool with_metrics = true;

/* An index is one within its network namespace. */
struct interface {
	u32 network_namespace;
	u32 index;
};

/* What is selected by default comes first; the key ends with the last field that is selected. */
struct flow_key {
	struct address source;
	struct address destination;
	__be16 server_port;
	u8 transport;
	u8 transmit;
	u16 ethertype;
	__be16 source_port;
	__be16 destination_port;
	u16 unused;
	u8 flags;
	u8 dscp;
	u16 vlan;
	struct interface interface;
	struct address local; /* this end's */
} __attribute__((aligned(8)));

struct flow_value {
	u64 bytes;
	u64 packets;
};

SWAPPED_MAP(flows, HASH, struct flow_key, struct flow_value, 10000);

/* Packets that could not be read to the ports. Their bytes are in a flow of what could be. */
struct broken {
	u64 truncated;
	u64 malformed;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct broken);
} broken SEC(".maps");

/* Ports of which a TCP handshake showed that a server listens on them. */
u8 server_ports[65536];

/* Live flows, for records. */
struct live_key {
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	u8 transport;
	u8 transmit;
	u16 vlan;
	struct interface interface;
};

struct live_flow {
	u64 first, last; /* CLOCK_BOOTTIME, ns */
	u64 bytes, packets;
	/* What records have told already, and up to when. */
	u64 told_bytes, told_packets, told;
	u32 flags;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct live_key);
	__type(value, struct live_flow);
} live SEC(".maps");

/* Packets of flows that had no room in it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct live_flow);
} unrecorded SEC(".maps");

enum flow_event {
	EVENT_FLOW = 0,
};

enum flow_end {
	END_IDLE,
	END_ACTIVE, /* the flow goes on, with another record */
	END_FIN,
	END_RST,
	END_OVERFLOW, /* packets of flows that max_flows has no room for */
	END_SHUTDOWN,
};

struct flow_record {
	struct event_header header;
	struct live_key flow;
	u64 first, last;
	u64 bytes, packets;
	u8 flags;
	u8 end;
	u8 padding[6];
};

/* Records have no other name in the object's type information. */
const struct flow_record *const flow_record_type = 0;
const enum flow_event flow_event_type = 0;

static __always_inline __be16 lower_port(__be16 a, __be16 b)
{
	return bpf_ntohs(a) < bpf_ntohs(b) ? a : b;
}

/*
 * The end that serves: of TCP's handshake the one that was asked, later the
 * one that was seen to answer a handshake, and otherwise the lower port. Both
 * directions give the same.
 */
static __always_inline __be16 server_port(u8 protocol, u8 flags, __be16 source_port, __be16 destination_port)
{
	bool source, destination;

	if (protocol != PROTOCOL_TCP)
		return lower_port(source_port, destination_port);
	flags &= TCP_SYN | TCP_ACK;
	if (flags == TCP_SYN)
		return destination_port;
	if (flags == (TCP_SYN | TCP_ACK)) {
		if (!server_ports[source_port])
			server_ports[source_port] = 1;
		return source_port;
	}
	source = server_ports[source_port];
	destination = server_ports[destination_port];
	if (source != destination)
		return source ? source_port : destination_port;
	return lower_port(source_port, destination_port);
}

static __always_inline void count_broken(const struct packet *p)
{
	u32 zero = 0;
	struct broken *b = bpf_map_lookup_elem(&broken, &zero);

	if (!b)
		return;
	if (p->truncated)
		__sync_fetch_and_add(&b->truncated, sampling);
	else
		__sync_fetch_and_add(&b->malformed, sampling);
}

/*
 * The fields of a key after the addresses, as words: to write them one by one
 * makes the hash function, which reads words, wait for each of them.
 */
static __always_inline u64 first_word(__be16 server, u8 transport, bool transmit, u16 ethertype, __be16 source_port)
{
	u64 word = by_server_port ? server : 0;

	if (by_transport)
		word |= (u64)transport << 16;
	if (by_direction)
		word |= (u64)transmit << 24;
	if (by_type)
		word |= (u64)ethertype << 32;
	if (by_source_port)
		word |= (u64)source_port << 48;
	return word;
}

static __always_inline u64 second_word(__be16 destination_port, u8 flags, u8 dscp, u16 vlan)
{
	u64 word = by_destination_port ? destination_port : 0;

	if (by_flags)
		word |= (u64)flags << 32;
	if (by_dscp)
		word |= (u64)dscp << 40;
	if (by_vlan)
		word |= (u64)vlan << 48;
	return word;
}

static __always_inline u64 interface_word(struct __sk_buff *skb)
{
	return by_interface ? attachment.network_namespace | (u64)skb->ifindex << 32 : 0;
}

#define KEY_WORD(key, field, word) __builtin_memcpy(&(key)->field, &(u64){ word }, sizeof(u64))

/* The key has words from here on. */
#define KEY_REACHES(field) (flows_key_size > __builtin_offsetof(struct flow_key, field))

static __always_inline void add(const void *key, u64 bytes, u64 packets)
{
	struct flow_value *row = flows_row(key);

	if (!row)
		return;
	__sync_fetch_and_add(&row->bytes, bytes);
	__sync_fetch_and_add(&row->packets, packets);
}

/* Keep account of a flow for its records. */
static __noinline int follow(struct __sk_buff *skb, const struct packet *p, u64 bytes, u64 packets)
{
	bool transmit = skb->pkt_type == PACKET_OUTGOING;
	struct live_key key = {
		.source = p->source,
		.destination = p->destination,
		.source_port = p->source_port,
		.destination_port = p->destination_port,
		.transport = p->protocol,
		.transmit = transmit,
		.vlan = p->vlan,
		.interface = { .network_namespace = attachment.network_namespace, .index = skb->ifindex },
	};
	u64 now = bpf_ktime_get_boot_ns();
	struct live_flow *flow;
	u32 zero = 0;

	flow = bpf_map_lookup_elem(&live, &key);
	if (!flow) {
		struct live_flow fresh = { .first = now, .last = now };

		bpf_map_update_elem(&live, &key, &fresh, BPF_NOEXIST);
		flow = bpf_map_lookup_elem(&live, &key);
		if (!flow)
			flow = bpf_map_lookup_elem(&unrecorded, &zero);
		if (!flow)
			return 0;
		if (!flow->first)
			flow->first = now;
	}
	flow->last = now;
	/* Not atomic: two CPUs that meet here can lose a flag, which is worth less than the kernels that have no atomic or. */
	if ((flow->flags | p->flags) != flow->flags)
		flow->flags |= p->flags;
	__sync_fetch_and_add(&flow->bytes, bytes * sampling);
	__sync_fetch_and_add(&flow->packets, packets * sampling);
	return 0;
}

/* TCP's header up to its flags after IPv4's, with the ethertype. */
#define LOAD_IPV4 (2 + 20 + TCP_LOAD)

/*
 * Nearly every packet: TCP or UDP straight after IP's header, in one piece,
 * untagged, on Ethernet, with nothing asked of it but the fields that most
 * ask for. What it does not know it leaves to count_any(), with nothing
 * counted. It does what that does, in half the time.
 */
static __always_inline int count_plain(struct __sk_buff *skb)
{
	u32 length = skb->len;
	struct packet_headers h;
	const struct tcp_header *l4;
	/* As much of a struct flow_key as it has here. */
	struct {
		struct address source, destination;
		u64 words[2];
	} key;
	bool transmit;
	u64 bytes;
	u8 protocol, flags = 0;
	__be16 server, source_port, destination_port;
	u16 ethertype;

	/* Metrics are wanted where records are not. */
	if (!attachment.ethernet || with_cidrs || tunnels || sampling > 1 || event_config[EVENT_FLOW].enabled || KEY_REACHES(flags))
		return 0;
	if (skb->vlan_present || skb->gso_size)
		return 0;
	if (length >= ETHERNET_HEADER - 2 + PACKET_LOAD) {
		if (bpf_skb_load_bytes(skb, ETHERNET_HEADER - 2, &h.ethertype, PACKET_LOAD))
			return 0;
	} else if (length >= ETHERNET_HEADER - 2 + LOAD_IPV4) {
		__builtin_memset(h.network + 32, 0, sizeof(h.network) - 32);
		if (bpf_skb_load_bytes(skb, ETHERNET_HEADER - 2, &h.ethertype, LOAD_IPV4))
			return 0;
		if (h.ethertype != bpf_htons(ETHERTYPE_IPV4))
			return 0;
	} else {
		return 0;
	}
	if (h.ethertype == bpf_htons(ETHERTYPE_IPV4)) {
		const struct ipv4_header *ip = (const void *)h.network;

		if (ip->version_length != 0x45 || ip->fragment & bpf_htons(0x1fff))
			return 0;
		protocol = ip->protocol;
		key.source = by_source_address ? ipv4_mapped(ip->source) : nobody;
		key.destination = by_destination_address ? ipv4_mapped(ip->destination) : nobody;
		ethertype = ETHERTYPE_IPV4;
		l4 = (const void *)(h.network + sizeof(*ip));
	} else if (h.ethertype == bpf_htons(ETHERTYPE_IPV6)) {
		const struct ipv6_header *ip = (const void *)h.network;

		if (h.network[0] >> 4 != 6)
			return 0;
		protocol = ip->next_header;
		key.source = by_source_address ? ip->source : nobody;
		key.destination = by_destination_address ? ip->destination : nobody;
		ethertype = ETHERTYPE_IPV6;
		l4 = (const void *)(h.network + sizeof(*ip));
	} else {
		return 0;
	}
	if (protocol == PROTOCOL_TCP) {
		flags = l4->flags;
		if (l4->offset < 0x50)
			return 0;
	} else if (protocol != PROTOCOL_UDP) {
		return 0;
	}
	source_port = l4->source;
	destination_port = l4->destination;
	transmit = skb->pkt_type == PACKET_OUTGOING;
	bytes = packet_bytes(skb, transmit);
	server = server_port(protocol, flags, source_port, destination_port);
	if (KEY_REACHES(source_port) && service_ports && (by_source_port || by_destination_port)) {
		source_port = source_port == server ? source_port : 0;
		destination_port = destination_port == server ? destination_port : 0;
	}
	key.words[0] = first_word(server, protocol, transmit, ethertype, source_port);
	key.words[1] = by_destination_port ? destination_port : 0;
	add(&key, bytes, 1);
	return 1;
}

static __noinline int count_any(struct __sk_buff *skb)
{
	bool transmit = skb->pkt_type == PACKET_OUTGOING;
	u64 packets;
	u32 headers;
	__be16 server, source_port, destination_port;
	struct flow_key key;
	struct packet p;
	u64 bytes;

	packet_any(skb, &p);
	headers = p.transport + p.transport_header;
	if (skb->gso_size && packet_encapsulated(&p)) {
		u32 inner = packet_inner_headers(skb, &p);

		if (inner)
			headers = inner;
	}
	packets = packet_segments(skb, headers);
	bytes = packet_bytes(skb, transmit) + packet_headers(skb, transmit, headers);
	if (p.truncated || p.malformed)
		count_broken(&p);
	if (tunnels && packet_tunnelled(&p))
		packet_tunnel(skb, &p);
	if (event_config[EVENT_FLOW].enabled && p.transport)
		follow(skb, &p, bytes, packets);
	if (!with_metrics)
		return 0;
	source_port = p.source_port;
	destination_port = p.destination_port;
	server = server_port(p.protocol, p.flags, source_port, destination_port);
	if (service_ports) {
		source_port = source_port == server ? source_port : 0;
		destination_port = destination_port == server ? destination_port : 0;
	}
	key.source = by_source_address ? address_named(&p.source) : nobody;
	key.destination = by_destination_address ? address_named(&p.destination) : nobody;
	KEY_WORD(&key, server_port, first_word(server, p.protocol, transmit, p.ethertype, source_port));
	KEY_WORD(&key, destination_port, second_word(destination_port, p.flags, p.dscp, p.vlan));
	KEY_WORD(&key, interface, interface_word(skb));
	key.local = by_container ? (transmit ? p.source : p.destination) : nobody;
	add(&key, bytes * sampling, packets * sampling);
	return 0;
}

SEC("socket")
int count(struct __sk_buff *skb)
{
	if (packet_filter && !packet_matches(skb))
		return 0;
	if (count_plain(skb))
		return 0;
	if (sampling > 1 && bpf_get_prandom_u32() % sampling)
		return 0;
	count_any(skb);
	return 0;
}

/* Record what a flow did since its last record. */
static __always_inline bool tell(const struct live_key *key, const struct live_flow *flow, u64 first, u64 bytes, u64 packets, u8 end)
{
	struct flow_record *record;
	u64 now;

	if (!event_begin(EVENT_FLOW, 0, &now))
		return true; /* over the rate: accounted for as such */
	record = event_reserve(EVENT_FLOW, struct flow_record, now);
	if (!record)
		return false;
	if (key)
		__builtin_memcpy(&record->flow, key, sizeof(record->flow));
	else
		__builtin_memset(&record->flow, 0, sizeof(record->flow));
	record->first = first;
	record->last = flow->last;
	record->bytes = bytes - flow->told_bytes;
	record->packets = packets - flow->told_packets;
	record->flags = flow->flags;
	record->end = end;
	__builtin_memset(record->padding, 0, sizeof(record->padding));
	event_submit(EVENT_FLOW, record);
	return true;
}

/* The ring has this much room at least, or the flow waits for the next read. */
#define ROOM 4096

/* A flow that has ended is quiet for a moment before its record: late packets are in it. */
#define QUIET 1000000000ULL

/*
 * Goes over all flows at each collection. What ended, or has not been told of
 * for long, becomes a record. Returning 1 asks for the same flow again, once
 * the reader has made room.
 */
SEC("iter/bpf_map_elem")
int tell_flows(struct bpf_iter__bpf_map_elem *ctx)
{
	const struct live_key *key_in = ctx->key;
	struct live_flow *flow = ctx->value;
	u64 now, first, last, quiet, bytes, packets;
	struct live_key key;
	u8 end;

	if (!key_in || !flow) {
		u32 zero = 0;

		flow = bpf_map_lookup_elem(&unrecorded, &zero);
		if (!flow || flow->bytes == flow->told_bytes)
			return 0;
		bytes = flow->bytes;
		packets = flow->packets;
		if (tell(0, flow, flow->told ? flow->told : flow->first, bytes, packets, END_OVERFLOW)) {
			flow->told_bytes = bytes;
			flow->told_packets = packets;
			flow->told = flow->last;
		}
		return 0;
	}
	if (bpf_ringbuf_query(&events, BPF_RB_RING_SIZE) < bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) + ROOM)
		return 1;
	bytes = flow->bytes;
	packets = flow->packets;
	first = flow->told ? flow->told : flow->first;
	last = *(const volatile u64 *)&flow->last;
	now = bpf_ktime_get_boot_ns();
	/* Another CPU may just have seen a packet, later than now by its own reading of the clock. */
	quiet = now > last ? now - last : 0;
	if (flow->flags & TCP_RST && quiet > QUIET)
		end = END_RST;
	else if (flow->flags & TCP_FIN && quiet > QUIET)
		end = END_FIN;
	else if (quiet > idle_timeout)
		end = END_IDLE;
	else if (probe_is_ending())
		end = END_SHUTDOWN;
	else if (now > first && now - first > active_timeout)
		end = END_ACTIVE;
	else
		return 0;
	__builtin_memcpy(&key, key_in, sizeof(key));
	if (bytes != flow->told_bytes)
		tell(&key, flow, first, bytes, packets, end);
	/* Also of a flow that goes: if it can not be deleted now, it is not told of twice. */
	flow->told_bytes = bytes;
	flow->told_packets = packets;
	flow->told = now;
	/*
	 * Where the next read of the iterator begins, the kernel passes over as many flows of a bucket as were there (bpf_hash_map_seq_find_next()
	 * in kernel/bpf/hashtab.c): of those that are left, that is too many. They wait for the next collection, and after the last there is none.
	 */
	if (end != END_ACTIVE && !probe_is_ending())
		bpf_map_delete_elem(&live, &key);
	return 0;
}
