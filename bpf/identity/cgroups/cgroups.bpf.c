/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Names of cgroups from their birth, so that a container has one that was gone
 * before anybody asked. Not a probe for users: the receiver reads the records
 * itself, when it is about to resolve ids.
 */
#include "kernel.h"
#include "event.h"
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define CGROUP_PATH_MAX 384

enum identity_event {
	EVENT_CGROUP,
};

struct cgroup_event {
	struct event_header header;
	u64 id;
	char path[CGROUP_PATH_MAX];
};

/* Keeps the enum and the record in the BTF. */
const enum identity_event identity_event_type = EVENT_CGROUP;
struct cgroup_event *const cgroup_event_type = 0;

struct cgroup_root___identity {
	int hierarchy_id;
	unsigned int subsys_mask;
} __attribute__((preserve_access_index));

struct cgroup___identity {
	struct cgroup_root___identity *root;
} __attribute__((preserve_access_index));

/* Ids of different hierarchies overlap. That of v2 has the number 0. */
static __always_inline bool names_containers(struct cgroup *cgroup)
{
	struct cgroup___identity *c = (void *)cgroup;
	s32 controller = cgroup_controller;

	if (controller < 0)
		return BPF_CORE_READ(c, root, hierarchy_id) == 0;
	return BPF_CORE_READ(c, root, subsys_mask) >> (controller & 31) & 1;
}

/*
 * Every cgroup that is made, in all hierarchies, with its path from the root of
 * its hierarchy. A rename (only in v1, and by hand) is missed.
 */
SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_made, struct cgroup *cgroup, const char *path)
{
	/* Not to be followed: this event has no filters, which are what asks for the task. */
	struct task_struct *task = (void *)bpf_get_current_task();
	struct cgroup_event *event;
	u64 now;

	if (!names_containers(cgroup) || !event_begin(EVENT_CGROUP, task, &now))
		return 0;
	event = event_reserve(EVENT_CGROUP, struct cgroup_event, now);
	if (!event)
		return 0;
	event->id = BPF_CORE_READ(cgroup, kn, id);
	if (bpf_probe_read_kernel_str(event->path, sizeof(event->path), path) < 0)
		event->path[0] = 0;
	event_submit(EVENT_CGROUP, event);
	return 0;
}
