//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records like those of ebpf.process.exec, as many as one wants: one burst each
 * time that a chosen process renames a thread, which costs it a system call.
 */
#include "kernel.h"
#include "task.h"
#include "event.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define BURST_MAX 200

/* Set by user space before load. */
const volatile u32 generator_pid;
const volatile u32 burst = 1;

enum storm_event {
	EVENT_EXEC,
};

/* struct exec_event of the process probe, with a number in place of the arguments' size. */
struct record {
	struct event_header header;
	u64 start;
	u64 cgroup;
	u32 pid;
	u32 vpid;
	u32 parent_pid;
	u32 uid;
	char comm[TASK_COMM_LEN];
	u32 real_uid;
	u32 gid;
	u32 real_gid;
	u32 args_count;
	u32 sequence; /* of the record, from 0 */
	bool args_truncated;
	bool path_truncated;
	bool directory_truncated;
	bool memfd;
	bool deleted;
	u8 unused[3];
	struct blob name;
	struct blob path;
	struct blob directory;
	struct blob args;
};

const volatile union {
	enum storm_event id;
	struct record record;
} event_types;

/* Leaf first, as path_read() writes them. */
#define EXECUTABLE "python3.11\0bin\0usr"
#define DIRECTORY "0000\0storage\0services\0billing\0src\0build\0home"
#define ARGS                                                                   \
	"/usr/bin/python3.11\0-m\0pip\0install\0--no-cache-dir\0--requirement\0" \
	"/home/build/src/billing/services/storage/requirements-0000"

struct scratch {
	struct record record;
	char path[sizeof(EXECUTABLE)];
	char directory[sizeof(DIRECTORY)];
	char args[sizeof(ARGS)];
};

/*
 * One writer: the generator has one thread. Programs on this tracepoint do not
 * meet on one CPU.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

static u32 sequence;

/* Records that differ: nothing that remembers strings is to be flattered. */
static __always_inline void put_digits(char *to, u32 n)
{
	to[0] = 'a' + ((n >> 12) & 15);
	to[1] = 'a' + ((n >> 8) & 15);
	to[2] = 'a' + ((n >> 4) & 15);
	to[3] = 'a' + (n & 15);
}

/* Sees each change of a thread's name, by itself or another. */
SEC("tp_btf/task_rename")
int BPF_PROG(storm, struct task_struct *task, const char *comm)
{
	struct scratch *s;
	struct record *r;
	u32 zero = 0, i;
	u64 now;

	if (bpf_get_current_pid_tgid() >> 32 != generator_pid)
		return 0;
	s = bpf_map_lookup_elem(&scratch, &zero);
	if (!s)
		return 0;
	r = &s->record;
	__builtin_memcpy(s->path, EXECUTABLE, sizeof(EXECUTABLE));
	__builtin_memcpy(s->directory, DIRECTORY, sizeof(DIRECTORY));
	__builtin_memcpy(s->args, ARGS, sizeof(ARGS));
	r->start = task->group_leader->start_boottime;
	r->cgroup = task_cgroup_id(task);
	r->vpid = task->tgid;
	r->parent_pid = task->real_parent->tgid;
	__builtin_memcpy(r->comm, "python3.11", sizeof("python3.11"));
	r->args_count = 7;
	r->name = (struct blob){ __builtin_offsetof(struct scratch, path), sizeof("python3.11") - 1 };
	r->path = (struct blob){ __builtin_offsetof(struct scratch, path), sizeof(s->path) };
	r->directory = (struct blob){ __builtin_offsetof(struct scratch, directory), sizeof(s->directory) };
	r->args = (struct blob){ __builtin_offsetof(struct scratch, args), sizeof(s->args) };
#pragma clang loop unroll(disable)
	for (i = 0; i < BURST_MAX; i++) {
		if (i >= burst)
			break;
		r->sequence = sequence++;
		r->pid = r->sequence & 0x3fffff;
		put_digits(s->directory, r->sequence);
		put_digits(s->args + sizeof(ARGS) - 5, r->sequence);
		if (event_begin(EVENT_EXEC, task, &now))
			event_output(EVENT_EXEC, &r->header, sizeof(*s), now);
	}
	return 0;
}
