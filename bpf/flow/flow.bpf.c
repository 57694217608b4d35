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
const volatile bool with_cidrs = false;
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
	u8 source[16];
	u8 destination[16];
	__be16 server_port;
	u8 transport;
	u8 transmit;
	u16 ethertype;
	__be16 source_port;
	__be16 destination_port;
	u8 flags;
	u8 dscp;
	u16 vlan;
	u16 unused;
	struct interface interface;
	u8 local[16]; /* this end's address */
};

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

/* Names of address ranges: a stand-in for each address that lies in one. */
struct cidr {
	u32 length; /* bits */
	u8 address[16];
};

struct address {
	u8 bytes[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct cidr);
	__type(value, struct address);
} cidrs SEC(".maps");

/* Ports of which a TCP handshake showed that a server listens on them. */
u8 server_ports[65536];

/* Live flows, for records. */
struct live_key {
	u32 source[4];
	u32 destination[4];
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

static __always_inline __be16 lower_port(const struct packet *p)
{
	return bpf_ntohs(p->source_port) < bpf_ntohs(p->destination_port) ? p->source_port : p->destination_port;
}

/*
 * The end that serves: of TCP's handshake the one that was asked, later the
 * one that was seen to answer a handshake, and otherwise the lower port. Both
 * directions give the same.
 */
static __always_inline __be16 server_port(const struct packet *p)
{
	u8 flags = p->flags & (TCP_SYN | TCP_ACK);
	bool source, destination;

	if (p->protocol != PROTOCOL_TCP)
		return lower_port(p);
	if (flags == TCP_SYN)
		return p->destination_port;
	if (flags == (TCP_SYN | TCP_ACK)) {
		if (!server_ports[p->source_port])
			server_ports[p->source_port] = 1;
		return p->source_port;
	}
	source = server_ports[p->source_port];
	destination = server_ports[p->destination_port];
	if (source != destination)
		return source ? p->source_port : p->destination_port;
	return lower_port(p);
}

/* The address, or what stands for the range that it is in. */
static __always_inline void put_address(u8 *to, const u32 *address)
{
	if (with_cidrs) {
		struct cidr key = { .length = 128 };
		struct address *name;

		__builtin_memcpy(key.address, address, sizeof(key.address));
		name = bpf_map_lookup_elem(&cidrs, &key);
		if (name) {
			__builtin_memcpy(to, name->bytes, sizeof(name->bytes));
			return;
		}
	}
	__builtin_memcpy(to, address, 16);
}

static __always_inline void count_broken(const struct packet *p)
{
	u32 zero = 0;
	struct broken *b = bpf_map_lookup_elem(&broken, &zero);

	if (!b)
		return;
	if (p->truncated)
		__sync_fetch_and_add(&b->truncated, 1);
	else
		__sync_fetch_and_add(&b->malformed, 1);
}

static __always_inline void add(struct __sk_buff *skb, const struct packet *p, bool transmit, u64 bytes, u64 packets)
{
	struct flow_key key = {};
	struct flow_value *row;

	if (by_source_address && p->transport)
		put_address(key.source, p->source);
	if (by_destination_address && p->transport)
		put_address(key.destination, p->destination);
	if (by_server_port || (service_ports && (by_source_port || by_destination_port))) {
		__be16 server = server_port(p);

		if (by_server_port)
			key.server_port = server;
		if (by_source_port && (!service_ports || p->source_port == server))
			key.source_port = p->source_port;
		if (by_destination_port && (!service_ports || p->destination_port == server))
			key.destination_port = p->destination_port;
	} else {
		if (by_source_port)
			key.source_port = p->source_port;
		if (by_destination_port)
			key.destination_port = p->destination_port;
	}
	if (by_transport)
		key.transport = p->protocol;
	if (by_direction)
		key.transmit = transmit;
	if (by_type)
		key.ethertype = p->ethertype;
	if (by_flags)
		key.flags = p->flags;
	if (by_dscp)
		key.dscp = p->dscp;
	if (by_vlan)
		key.vlan = p->vlan;
	if (by_interface) {
		key.interface.network_namespace = attachment.network_namespace;
		key.interface.index = skb->ifindex;
	}
	if (by_container && p->transport)
		__builtin_memcpy(key.local, transmit ? p->source : p->destination, sizeof(key.local));
	row = flows_row(&key);
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

	__builtin_memcpy(key.source, p->source, sizeof(key.source));
	__builtin_memcpy(key.destination, p->destination, sizeof(key.destination));
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
	__sync_fetch_and_add(&flow->bytes, bytes);
	__sync_fetch_and_add(&flow->packets, packets);
	return 0;
}

SEC("socket")
int count(struct __sk_buff *skb)
{
	bool transmit = skb->pkt_type == PACKET_OUTGOING;
	struct packet p = {};
	u64 bytes, packets;

	if (sampling > 1 && bpf_get_prandom_u32() % sampling)
		return 0;
	if (packet_filter && !packet_matches(skb))
		return 0;
	packet_dissect(skb, &p);
	if (p.truncated || p.malformed)
		count_broken(&p);
	packets = packet_segments(skb);
	bytes = packet_bytes(skb, transmit, packets, p.transport + p.transport_header);
	if (tunnels && packet_tunnelled(&p))
		packet_tunnel(skb, &p);
	if (sampling > 1) {
		bytes *= sampling;
		packets *= sampling;
	}
	if (with_metrics)
		add(skb, &p, transmit, bytes, packets);
	if (event_config[EVENT_FLOW].enabled && p.transport)
		follow(skb, &p, bytes, packets);
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
	u64 now, first, bytes, packets;
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
	now = bpf_ktime_get_boot_ns();
	bytes = flow->bytes;
	packets = flow->packets;
	first = flow->told ? flow->told : flow->first;
	if (flow->flags & TCP_RST && now - flow->last > QUIET)
		end = END_RST;
	else if (flow->flags & TCP_FIN && now - flow->last > QUIET)
		end = END_FIN;
	else if (now - flow->last > idle_timeout)
		end = END_IDLE;
	else if (now - first > active_timeout)
		end = END_ACTIVE;
	else
		return 0;
	__builtin_memcpy(&key, key_in, sizeof(key));
	if (bytes != flow->told_bytes)
		tell(&key, flow, first, bytes, packets, end);
	if (end != END_ACTIVE) {
		bpf_map_delete_elem(&live, &key);
		return 0;
	}
	flow->told_bytes = bytes;
	flow->told_packets = packets;
	flow->told = now;
	return 0;
}
