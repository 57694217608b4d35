/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who did it: cgroups, processes and their names, read from the task. */
#ifndef __EBPFRECEIVER_TASK_H
#define __EBPFRECEIVER_TASK_H

#include "kernel.h"

#define TASK_COMM_LEN 16
#define PF_KTHREAD 0x00200000
#define CGROUP_DEPTH_MAX 16

/*
 * Which hierarchy names containers: below 0 the v2 one; else the index of a v1
 * controller, on hosts whose containers live in v1 hierarchies. Set by user
 * space, which knows the running kernel's indices.
 */
const volatile s32 cgroup_controller = -1;

/* A process as a map key: a pid alone is used again. Wants zeroed padding. */
struct process_key {
	u64 start; /* CLOCK_BOOTTIME, ns */
	u32 pid;   /* the process's (tgid), in the initial pid namespace */
	u32 unused;
	char comm[TASK_COMM_LEN]; /* the thread group leader's */
};

static __always_inline struct cgroup *task_cgroup(struct task_struct *task)
{
	s32 controller = cgroup_controller;
	struct css_set *set = task->cgroups;
	struct cgroup_subsys_state **state;

	if (controller < 0)
		return set->dfl_cgrp;
	/* The index is a constant to the verifier: the typed pointer stays one, and no helper has to read. */
	state = (void *)set + bpf_core_field_offset(struct css_set, subsys) + controller * sizeof(void *);
	return (*state)->cgroup;
}

static __always_inline u64 task_cgroup_id(struct task_struct *task)
{
	return task_cgroup(task)->kn->id;
}

/* The same for the current task, in programs that are not given a typed one. */
static __always_inline u64 current_cgroup_id(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct css_set *set;
	struct cgroup *cgroup;

	if (cgroup_controller < 0)
		return bpf_get_current_cgroup_id();
	set = BPF_CORE_READ(task, cgroups);
	cgroup = BPF_CORE_READ(set, subsys[cgroup_controller], cgroup);
	return BPF_CORE_READ(cgroup, kn, id);
}

/* The id of the cgroup's ancestor at a level (0: the root), 0 below its own. */
static __always_inline u64 cgroup_ancestor_id(struct cgroup *cgroup, int level)
{
	if (level > BPF_CORE_READ(cgroup, level))
		return 0;
	if (bpf_core_field_exists(((struct cgroup___ancestors *)0)->ancestors)) {
		struct cgroup___ancestors *c = (void *)cgroup;
		struct cgroup *ancestor = 0;

		bpf_core_read(&ancestor, sizeof(ancestor), &c->ancestors[level]);
		return BPF_CORE_READ(ancestor, kn, id);
	} else {
		struct cgroup___ancestor_ids *c = (void *)cgroup;
		u64 id = 0;

		bpf_core_read(&id, sizeof(id), &c->ancestor_ids[level]);
		return id;
	}
}

static __always_inline void task_process_key(struct task_struct *task, struct process_key *key)
{
	struct task_struct *leader = task->group_leader;

	/* A thread that has been released may still be leaving its CPU when its leader is already freed. */
	if (leader->tgid != task->tgid)
		leader = task;
	key->start = leader->start_boottime;
	key->pid = task->tgid;
	bpf_probe_read_kernel_str(key->comm, sizeof(key->comm), leader->comm);
}

#endif
