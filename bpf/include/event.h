/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ring-buffer events with an account of every occurrence. For each event type
 * and at rest:
 *
 *	produced = submitted + dropped + filtered + limited
 *
 * A program calls event_begin() once per occurrence, which counts it as
 * produced and decides filters and rate; then either event_reserve() and
 * event_submit(), or event_output(). Each path out counts exactly one outcome.
 */
#ifndef __EBPFRECEIVER_EVENT_H
#define __EBPFRECEIVER_EVENT_H

#include "kernel.h"
#include "task.h"

/* Event ids of a probe are 0..EVENT_TYPES_MAX-1. */
#define EVENT_TYPES_MAX 16

/* Every record starts with it. */
struct event_header {
	u64 time; /* CLOCK_BOOTTIME, ns */
	u32 id;	  /* the probe's event id */
	u32 size; /* of the whole record, bytes */
};

/* What became of the occurrences of one type, on one CPU. */
struct event_stats {
	u64 produced;
	u64 submitted;
	u64 dropped;  /* the ring was full */
	u64 filtered; /* a configured filter did not match */
	u64 limited;  /* over the configured rate */
};

enum event_filter {
	EVENT_FILTER_PID = 1 << 0,
	EVENT_FILTER_UID = 1 << 1,
	EVENT_FILTER_CGROUP = 1 << 2,
	EVENT_FILTER_COMM = 1 << 3,
};

/* Set by user space before load. */
struct event_config {
	u64 interval; /* ns between two events at the configured rate; 0: no limit */
	u64 burst;    /* ns of unused rate that may be spent at once */
	u32 enabled;
	u32 filters; /* enum event_filter */
};

/* {event id, one filter, value}: an entry means that the value may pass. */
struct event_filter_key {
	u32 event;
	u32 filter;
	u8 value[16]; /* u32 pid or effective uid, u64 cgroup id, or the process's comm; zero-padded */
};

const volatile struct event_config event_config[EVENT_TYPES_MAX];
/* Unread bytes from which a submit wakes the reader; below, its timer does. */
const volatile u32 event_wakeup_bytes = 256 * 1024;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 * 1024 * 1024);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, EVENT_TYPES_MAX);
	__type(key, u32);
	__type(value, struct event_stats);
} event_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct event_filter_key);
	__type(value, u8);
} event_filters SEC(".maps");

/* The theoretical arrival time of the next event at the configured rate, per type. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, EVENT_TYPES_MAX);
	__type(key, u32);
	__type(value, u64);
} event_limits SEC(".maps");

/* Set when the programs have been detached: the next run of an iterator is the last one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} ending SEC(".maps");

static __always_inline bool probe_is_ending(void)
{
	u32 zero = 0, *value = bpf_map_lookup_elem(&ending, &zero);

	return value && *value;
}

static __always_inline struct event_stats *event_stats_of(u32 id)
{
	return bpf_map_lookup_elem(&event_stats, &id);
}

/* An array's element, of which the compiler may not assume the initial value. */
static __always_inline const volatile struct event_config *event_config_of(u32 id)
{
	return &event_config[id & (EVENT_TYPES_MAX - 1)];
}

static __always_inline bool event_filter_has(struct event_filter_key *key)
{
	return bpf_map_lookup_elem(&event_filters, key) != 0;
}

/* A cgroup passes when it, or one above it, is in the filter. */
static __always_inline bool event_filter_cgroup(struct event_filter_key *key, struct task_struct *task)
{
	struct cgroup *cgroup = task_cgroup(task);
	int level;

	for (level = 0; level < CGROUP_DEPTH_MAX; level++) {
		u64 id = cgroup_ancestor_id(cgroup, level);

		if (!id)
			return false;
		__builtin_memcpy(key->value, &id, sizeof(id));
		if (event_filter_has(key))
			return true;
	}
	return false;
}

static __always_inline bool event_passes(u32 id, u32 filters, struct task_struct *task)
{
	struct event_filter_key key = { .event = id };

	if (filters & EVENT_FILTER_PID) {
		u32 tgid = task->tgid;

		key.filter = EVENT_FILTER_PID;
		__builtin_memcpy(key.value, &tgid, sizeof(tgid));
		if (!event_filter_has(&key))
			return false;
	}
	if (filters & EVENT_FILTER_UID) {
		u32 uid = task->real_cred->euid.val;

		key.filter = EVENT_FILTER_UID;
		__builtin_memset(key.value, 0, sizeof(key.value));
		__builtin_memcpy(key.value, &uid, sizeof(uid));
		if (!event_filter_has(&key))
			return false;
	}
	if (filters & EVENT_FILTER_COMM) {
		key.filter = EVENT_FILTER_COMM;
		__builtin_memset(key.value, 0, sizeof(key.value));
		/* The process's: threads have names of their own, and any may be the one that ends it. */
		bpf_probe_read_kernel_str(key.value, sizeof(key.value), task->group_leader->comm);
		if (!event_filter_has(&key))
			return false;
	}
	if (filters & EVENT_FILTER_CGROUP) {
		key.filter = EVENT_FILTER_CGROUP;
		__builtin_memset(key.value, 0, sizeof(key.value));
		if (!event_filter_cgroup(&key, task))
			return false;
	}
	return true;
}

/*
 * Token bucket in its "theoretical arrival time" form: one number per type.
 * Two CPUs that meet here may both read the same number, so that a few more
 * than the rate can pass; each is still counted as what became of it. A
 * compare-and-swap would close that gap, and would keep the program from
 * loading before Linux 5.12.
 */
static __always_inline bool event_within_rate(u32 id, u64 interval, u64 burst, u64 now)
{
	u64 *next = bpf_map_lookup_elem(&event_limits, &id);
	u64 at;

	if (!next)
		return false;
	at = *next;
	if (at < now)
		at = now;
	if (at - now > burst)
		return false;
	*next = at + interval;
	return true;
}

/*
 * Count one occurrence of an event that concerns task; true when it is to be
 * recorded. *now is set to the event's time.
 */
static __always_inline bool event_begin(u32 id, struct task_struct *task, u64 *now)
{
	const volatile struct event_config *config = event_config_of(id);
	struct event_stats *stats;
	u32 filters;

	if (!config->enabled)
		return false;
	stats = event_stats_of(id);
	if (!stats)
		return false;
	__sync_fetch_and_add(&stats->produced, 1);
	filters = config->filters;
	if (filters && !event_passes(id, filters, task)) {
		__sync_fetch_and_add(&stats->filtered, 1);
		return false;
	}
	*now = bpf_ktime_get_boot_ns();
	if (config->interval && !event_within_rate(id, config->interval, config->burst, *now)) {
		__sync_fetch_and_add(&stats->limited, 1);
		return false;
	}
	return true;
}

static __always_inline u64 event_wakeup_flags(void)
{
	u64 unread = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);

	return unread >= event_wakeup_bytes ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* Room for a record of a fixed size, or NULL, which is counted as dropped. */
#define event_reserve(id, type, now)                                           \
	((type *)__event_reserve(id, sizeof(type), now))

static __always_inline void *__event_reserve(u32 id, u32 size, u64 now)
{
	struct event_header *header = bpf_ringbuf_reserve(&events, size, 0);
	struct event_stats *stats;

	if (header) {
		header->time = now;
		header->id = id;
		header->size = size;
		return header;
	}
	stats = event_stats_of(id);
	if (stats)
		__sync_fetch_and_add(&stats->dropped, 1);
	return 0;
}

static __always_inline void event_submit(u32 id, void *record)
{
	struct event_stats *stats = event_stats_of(id);

	if (stats)
		__sync_fetch_and_add(&stats->submitted, 1);
	bpf_ringbuf_submit(record, event_wakeup_flags());
}

/* A record of a variable size, copied from a buffer of the caller's. */
static __always_inline void event_output(u32 id, struct event_header *record, u32 size, u64 now)
{
	struct event_stats *stats = event_stats_of(id);
	long err;

	record->time = now;
	record->id = id;
	record->size = size;
	err = bpf_ringbuf_output(&events, record, size, event_wakeup_flags());
	if (!stats)
		return;
	if (err)
		__sync_fetch_and_add(&stats->dropped, 1);
	else
		__sync_fetch_and_add(&stats->submitted, 1);
}

/* A run of bytes inside the record, after its fixed part. */
struct blob {
	u16 offset; /* from the record's start */
	u16 length;
};

#endif
