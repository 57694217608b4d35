/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel types that the probes read: only the fields that are used, with
 * CO-RE relocations, so that one object fits every kernel. A struct's comment
 * says what it is read for. Types of which a kernel has two shapes carry a
 * ___suffix per shape (libbpf's "flavours"); bpf_core_field_exists() picks.
 */
#ifndef __EBPFRECEIVER_KERNEL_H
#define __EBPFRECEIVER_KERNEL_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s32 s32;
typedef __s64 s64;
typedef _Bool bool;
#define true 1
#define false 0

#define EEXIST 17


#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct list_head {
	struct list_head *next, *prev;
};

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	u32 val;
} kuid_t;

typedef struct {
	u32 val;
} kgid_t;

struct qstr {
	u32 len;
	const unsigned char *name;
};

struct hlist_bl_node {
	struct hlist_bl_node **pprev;
};

/* A path's components: leaf first, by d_parent. An unlinked name is unhashed. */
struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	struct super_block *d_sb;
};

struct super_block {
	unsigned long s_magic;
	u32 s_dev;
};

struct inode {
	unsigned long i_ino;
	unsigned int i_nlink;
	unsigned short i_mode;
	struct super_block *i_sb;
};

struct vfsmount {
	struct dentry *mnt_root;
};

/* Crosses a mount point on the way up: vfsmount is embedded in mount. */
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
};

/* Behind a file descriptor. */
struct fdtable {
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct fs_struct {
	struct path pwd;
};

/* kn->id names a cgroup in user space: it is the directory's inode number
 * and, since 5.5, its file handle.
 */
struct kernfs_node {
	u64 id;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct cgroup {
	int level;
	struct kernfs_node *kn;
};

/* Since 6.1 a cgroup points at its ancestors... */
struct cgroup___ancestors {
	struct cgroup *ancestors[1];
};

/* ...and before, it kept their ids. */
struct cgroup___ancestor_ids {
	u64 ancestor_ids[1];
};

/* A task's cgroups: dfl_cgrp in the v2 hierarchy, subsys[i] for controller i. */
struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};

/* Only to ask the running kernel for a controller's index. */
enum cgroup_subsys_id {
	cpuset_cgrp_id,
	cpu_cgrp_id,
	cpuacct_cgrp_id,
	memory_cgrp_id,
	pids_cgrp_id,
};

struct cred {
	kuid_t uid;
	kgid_t gid;
	kuid_t euid;
	kgid_t egid;
};

struct mm_struct {
	unsigned long arg_start, arg_end;
	struct file *exe_file;
};

typedef struct {
	s64 counter;
} atomic64_t;

struct percpu_counter {
	s64 count;
};

/* Resident pages by kind: batched per CPU since 6.2... */
struct mm_struct___percpu {
	struct percpu_counter rss_stat[4];
};

/* ...and before, in numbers that the threads add to in batches. */
struct mm_rss_stat {
	atomic64_t count[4];
};

struct mm_struct___atomic {
	struct mm_rss_stat rss_stat;
};

/* A pid in one pid namespace; numbers[level] is the innermost's. */
struct upid {
	int nr;
	void *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

/* Shared by the threads of one process. */
struct signal_struct {
	atomic_t live;
	struct list_head thread_head;
	unsigned int flags;
	int group_exit_code;
	u64 utime, stime;
	unsigned long maxrss;
	unsigned long long sum_sched_runtime;
	short oom_score_adj;
};

/* What a signal's sender says of it. */
struct kernel_siginfo {
	int si_code;
};

/* Kept by the scheduler core for every task, exported as /proc/PID/schedstat. */
struct sched_info {
	unsigned long pcount;
	unsigned long long run_delay;
	unsigned long long last_arrival;
	unsigned long long last_queued;
};

struct rq {
	u64 clock;
	u64 clock_task; /* without the time that interrupts and the hypervisor took */
};

struct cfs_rq {
	struct rq *rq;
};

/* cfs_rq exists with CONFIG_FAIR_GROUP_SCHED; it is set for tasks of every class. */
struct sched_entity {
	u64 exec_start; /* up to where sum_exec_runtime is summed, by rq->clock_task */
	u64 sum_exec_runtime;
	struct cfs_rq *cfs_rq;
};

struct task_struct {
	unsigned int flags;
	int on_cpu;
	struct sched_entity se;
	struct sched_info sched_info;
	struct mm_struct *mm;
	int exit_code;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct list_head thread_node;
	u64 utime, stime;
	unsigned long nvcsw, nivcsw;
	u64 start_time;
	u64 start_boottime;
	const struct cred *real_cred;
	const struct cred *cred;
	char comm[16];
	struct fs_struct *fs;
	struct files_struct *files;
	struct signal_struct *signal;
	struct css_set *cgroups;
};

struct linux_binprm {
	struct file *file;
	const char *filename;
	int argc;
};

/* Iterators' contexts; task, and key and value, are NULL once, after the last one. */
struct bpf_iter__task {
	struct task_struct *task;
};

struct bpf_iter__bpf_map_elem {
	void *key;
	void *value;
};

#pragma clang attribute pop

/* What tracepoints of a system call's end give: their format is the same for all calls, and no type of the kernel's. */
struct syscall_exit {
	u64 common;
	s32 number;
	u32 unused;
	s64 result;
};

#endif
