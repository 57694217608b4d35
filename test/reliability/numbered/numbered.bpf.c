//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Numbered events and numbered keys, as many as a generator asks for: a burst
 * each time that a thread gives itself a name that begins with the token. What
 * arrives can be held against what was made, one by one.
 */
#include "kernel.h"
#include "task.h"
#include "event.h"
#include "map.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define BURST_MAX 200
#define STREAMS 16

/* Set by user space before load. */
const volatile u32 token;
const volatile u32 burst = 1;

enum numbered_event {
	EVENT_PLAIN,
	EVENT_LIMITED,
	EVENT_FILTERED,
};

struct record {
	struct event_header header;
	u64 sequence; /* of the stream's events of this type, from 0 */
	u32 stream;
	u32 unused;
	u64 ballast[8]; /* records of a size that is usual */
};

const volatile union {
	enum numbered_event id;
	struct record record;
} event_types;

/* What a thread gives itself as its name. */
struct command {
	u32 token;
	char what;   /* 'e': events, 'k': keys */
	char stream; /* 'A' + number: each has one thread */
};

/*
 * How many of each there were so far. A stream has one writer: its thread, which
 * may be preempted here, but not by itself.
 */
struct counts {
	u64 events;
	u64 keys;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STREAMS);
	__type(key, u32);
	__type(value, struct counts);
} streams SEC(".maps");

struct key {
	u64 number; /* stream and sequence */
};

struct value {
	u64 count;
	u64 sum; /* of the sequence numbers */
};

SWAPPED_MAP(keys, PERCPU_HASH, struct key, struct value, 10000)

static __always_inline void number_event(u32 id, struct task_struct *task, u64 sequence, u32 stream)
{
	struct record *record;
	u64 now;

	if (!event_begin(id, task, &now))
		return;
	record = event_reserve(id, struct record, now);
	if (!record)
		return;
	record->sequence = sequence;
	record->stream = stream;
	record->unused = 0;
	__builtin_memset(record->ballast, 0, sizeof(record->ballast));
	event_submit(id, record);
}

/* The stream that a rename asks for, or -1. */
static __always_inline int asked_for(const char *comm, char what)
{
	struct command command = {};

	bpf_probe_read_kernel(&command, 6, comm);
	if (command.token != token || command.what != what)
		return -1;
	return (command.stream - 'A') & (STREAMS - 1);
}

/* Sees each change of a thread's name, by itself or another. */
SEC("tp_btf/task_rename")
int BPF_PROG(number_events, struct task_struct *task, const char *comm)
{
	int stream = asked_for(comm, 'e');
	struct counts *counts;
	u32 i;

	if (stream < 0)
		return 0;
	counts = bpf_map_lookup_elem(&streams, &stream);
	if (!counts)
		return 0;
#pragma clang loop unroll(disable)
	for (i = 0; i < BURST_MAX; i++) {
		u64 sequence;

		if (i >= burst)
			break;
		sequence = counts->events++;
		number_event(EVENT_PLAIN, task, sequence, stream);
		number_event(EVENT_LIMITED, task, sequence, stream);
		number_event(EVENT_FILTERED, task, sequence, stream);
	}
	return 0;
}

/* The same. No key comes twice. */
SEC("tp_btf/task_rename")
int BPF_PROG(number_keys, struct task_struct *task, const char *comm)
{
	int stream = asked_for(comm, 'k');
	struct counts *counts;
	struct key key = {};
	struct value *row;
	u32 i;

	if (stream < 0)
		return 0;
	counts = bpf_map_lookup_elem(&streams, &stream);
	if (!counts)
		return 0;
#pragma clang loop unroll(disable)
	for (i = 0; i < BURST_MAX; i++) {
		u64 sequence;

		if (i >= burst)
			break;
		sequence = counts->keys++;
		key.number = (u64)stream << 40 | sequence;
		row = keys_row(&key);
		if (!row)
			continue;
		row->count++;
		row->sum += sequence;
	}
	return 0;
}
