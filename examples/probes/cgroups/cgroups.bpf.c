/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Control groups that are created and removed, in the v2 hierarchy and in those
 * of v1.
 */
#include "kernel.h"
#include "task.h"
#include "event.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* TRACE_CGROUP_PATH_LEN in kernel/cgroup/cgroup-internal.h: the tracepoints' paths are no longer. */
#define CGROUP_PATH_MAX 1024

enum cgroups_event {
	EVENT_CREATED,
	EVENT_REMOVED,
};

struct cgroup_event {
	struct event_header header;
	u64 id;	       /* the directory's inode number */
	u64 container; /* the id again, or 0 where the hierarchy is not the one that names containers */
	u32 level;     /* 1 below the root */
	u32 hierarchy; /* as in /proc/PID/cgroup; 0: v2 */
	char path[CGROUP_PATH_MAX];
};

/* BTF keeps only the types of what is global. */
const volatile union {
	enum cgroups_event id;
	struct cgroup_event record;
} event_types;

/*
 * What kernel.h has not. The suffix makes it another struct for C and the same
 * one for the kernel.
 */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct cgroup_root {
	unsigned int subsys_mask;
	int hierarchy_id;
};

struct cgroup___root {
	struct cgroup_root *root;
};

#pragma clang attribute pop

/* Every hierarchy numbers its cgroups itself, so that an id has a meaning only within its own. */
static __always_inline bool names_containers(struct cgroup_root *root)
{
	if (cgroup_controller < 0)
		return root->hierarchy_id == 0;
	return root->subsys_mask & (1U << (cgroup_controller & 31));
}

/* The event's task, for filters, is whoever asked for it. */
static __always_inline int record(u32 id, struct cgroup *cgroup, const char *path)
{
	struct cgroup_root *root = ((struct cgroup___root *)cgroup)->root;
	struct cgroup_event *event;
	u64 now;

	if (!event_begin(id, bpf_get_current_task_btf(), &now))
		return 0;
	event = event_reserve(id, struct cgroup_event, now);
	if (!event)
		return 0;
	event->id = cgroup->kn->id;
	event->container = names_containers(root) ? event->id : 0;
	event->level = cgroup->level;
	event->hierarchy = root->hierarchy_id;
	if (bpf_probe_read_kernel_str(event->path, sizeof(event->path), path) < 0)
		event->path[0] = 0;
	event_submit(id, event);
	return 0;
}

/* At the end of a mkdir that succeeded, before anything can be in the cgroup. */
SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_created, struct cgroup *cgroup, const char *path)
{
	return record(EVENT_CREATED, cgroup, path);
}

/* At the end of a rmdir that succeeded. Nothing is in the cgroup any more, and its name is free again. */
SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(cgroup_removed, struct cgroup *cgroup, const char *path)
{
	return record(EVENT_REMOVED, cgroup, path);
}
