//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Processes: created, executed, signalled, killed, exited.
 *
 * A process is a thread group. Threads that come and go inside one are not
 * seen here. A kernel thread is a process, as it is in /proc.
 */
#include "kernel.h"
#include "task.h"
#include "map.h"
#include "histogram.h"
#include "event.h"
#include "path.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ARGS_SIZE_MAX 8192
#define THREADS_MAX 256
#define TICK_MAX 20000000 /* ns */
#define SCHEDULER_CLOCK_AGE 10000000000 /* ns */

#define SIGNAL_GROUP_EXIT 0x4

/* si_code of signals that a system call sends. */
#define SI_USER 0
#define SI_QUEUE -1
#define SI_TKILL -6
#define SI_KERNEL 0x80

#define MM_FILEPAGES 0
#define MM_ANONPAGES 1
#define MM_SHMEMPAGES 3

const volatile bool capture_args = true;
const volatile u64 max_args_size = 1024;
/* Set by user space before load. */
const volatile u32 page_size = 4096;

const volatile bool by_cgroup;
const volatile bool created_enabled;
const volatile bool lifetime_enabled;

enum process_event {
	EVENT_EXEC,
	EVENT_EXIT,
	EVENT_FORK,
	EVENT_SIGNAL,
	EVENT_OOM_KILL,
};

/* What every record says of the process that it is about. */
struct process_info {
	u64 start; /* CLOCK_BOOTTIME, ns; an exec keeps it */
	u64 cgroup;
	u32 pid;
	u32 vpid; /* in its own pid namespace */
	u32 parent_pid;
	u32 uid; /* effective */
	char comm[TASK_COMM_LEN];
};

struct exec_event {
	struct event_header header;
	struct process_info process;
	u32 real_uid;
	u32 gid; /* effective */
	u32 real_gid;
	u32 args_count;
	u32 args_size; /* of all of them, each with its NUL, bytes */
	bool args_truncated;
	bool path_truncated;
	bool directory_truncated;
	bool memfd;
	bool deleted;
	u8 unused[3];
	struct blob name; /* the path's leaf */
	struct blob path;
	struct blob directory;
	struct blob args;
};

struct exit_event {
	struct event_header header;
	struct process_info process;
	u64 lifetime; /* ns */
	u64 cpu_time; /* ns */
	u64 user_time;
	u64 system_time;
	u64 memory_peak; /* bytes */
	u32 code;	 /* 128 + signal for one that a signal killed */
	u32 signal;
	bool core_dumped;
	u8 unused[7];
};

struct fork_event {
	struct event_header header;
	struct process_info process; /* the child */
	u32 creator_pid;	     /* not the parent where CLONE_PARENT was asked for */
	u32 unused;
};

struct signal_event {
	struct event_header header;
	struct process_info process; /* the target */
	u32 signal;
	s32 code;	/* siginfo's si_code */
	u32 result;	/* of the generation: enum { TRACE_SIGNAL_* } */
	u32 sender_pid; /* 0 when the kernel sent it */
	u32 sender_uid;
	char sender_comm[TASK_COMM_LEN];
	bool to_process; /* and not to one thread */
	u8 unused[3];
};

struct oom_kill_event {
	struct event_header header;
	struct process_info process;
	u64 memory; /* resident, bytes */
	s32 score_adjustment;
	u32 unused;
};

/* BTF keeps only the names and types that something global has. */
const volatile union {
	enum process_event id;
	struct fork_event fork;
	struct exit_event exit;
	struct signal_event signal;
	struct oom_kill_event oom_kill;
} event_types;

struct process_metric_key {
	u64 cgroup;
};

struct process_count {
	u64 count;
};

struct process_lifetime {
	HISTOGRAM(20, 47, 0); /* 1 ms to 39 hours */
};

struct exec_failure_key {
	u64 cgroup;
	s32 error; /* errno, positive */
	u32 unused;
};

SWAPPED_MAP(processes_created, HASH, struct process_metric_key, struct process_count, 10000)
SWAPPED_MAP(process_lifetimes, HASH, struct process_metric_key, struct process_lifetime, 10000)
SWAPPED_MAP(exec_failures, HASH, struct exec_failure_key, struct process_count, 10000)

/*
 * Where process_exec() puts a record together. Only that program uses it, and
 * two runs of it can not meet on one CPU. The tracepoint fires in a task, never
 * in an interrupt. Up to Linux 6.18 that task can not be preempted meanwhile;
 * later it can, and the kernel then skips a program for the others on the CPU
 * until it has ended there. A second program must not use it: what is skipped is
 * the same program only.
 */
struct exec_scratch {
	struct exec_event event;
	u8 data[2 * PATH_ROOM + ARGS_SIZE_MAX]; /* follows the event in the record */
	u16 directory_name;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct exec_scratch);
} exec_scratch SEC(".maps");

static __always_inline void process_info_read(struct task_struct *task, struct process_info *info)
{
	struct task_struct *leader = task->group_leader;
	struct pid *pid = leader->thread_pid;
	u32 number = pid->level * bpf_core_type_size(struct upid);

	/* Verifiers up to that of Linux 6.1 want a bound: MAX_PID_NS_LEVEL is 32, and a struct upid has 16 bytes. */
	barrier_var(number);
	number &= 1023;
	info->start = leader->start_boottime;
	info->cgroup = task_cgroup_id(task);
	info->pid = task->tgid;
	info->vpid = 0;
	bpf_probe_read_kernel(&info->vpid, sizeof(info->vpid),
			      (void *)pid + bpf_core_field_offset(struct pid, numbers) + number +
				      bpf_core_field_offset(struct upid, nr));
	info->parent_pid = task->real_parent->tgid;
	info->uid = task->real_cred->euid.val;
	bpf_probe_read_kernel_str(info->comm, sizeof(info->comm), leader->comm);
}

/*
 * Sees each exec that succeeded, in its last step: the new program's memory,
 * credentials and name are in place and nothing of it has run. Misses failed
 * ones. Once per exec: a script's interpreter is found before, inside it.
 */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct exec_scratch *scratch;
	struct exec_event *event;
	struct dentry *dentry;
	struct mm_struct *mm;
	u32 zero = 0, offset;
	u64 now, size, start;

	scratch = bpf_map_lookup_elem(&exec_scratch, &zero);
	if (!scratch || !event_begin(EVENT_EXEC, task, &now))
		return 0;
	event = &scratch->event;
	process_info_read(task, &event->process);
	event->real_uid = task->real_cred->uid.val;
	event->gid = task->real_cred->egid.val;
	event->real_gid = task->real_cred->gid.val;
	event->args_count = bprm->argc;

	/* The kernel's open file: the interpreter's, where a script was executed. */
	dentry = BPF_CORE_READ(bprm, file, f_path.dentry);
	event->memfd = dentry_is_memfd(dentry);
	event->deleted = !event->memfd && dentry_is_deleted(dentry);
	path_read(scratch->data, dentry, BPF_CORE_READ(bprm, file, f_path.mnt), &event->path.length,
		  &event->name.length, &event->path_truncated);
	event->path.offset = sizeof(*event);
	event->name.offset = sizeof(*event);

	offset = event->path.length;
	if (offset > PATH_ROOM)
		offset = PATH_ROOM; /* never, but the verifier can not know */
	path_read(scratch->data + offset, BPF_CORE_READ(task, fs, pwd.dentry), BPF_CORE_READ(task, fs, pwd.mnt),
		  &event->directory.length, &scratch->directory_name, &event->directory_truncated);
	event->directory.offset = sizeof(*event) + offset;
	offset += event->directory.length;

	/*
	 * From user memory, and yet not to be changed behind our back: it is
	 * the new memory, into which the kernel itself copied the arguments.
	 * No thread has it but this one, which is still in the kernel.
	 */
	mm = task->mm;
	start = mm->arg_start;
	size = mm->arg_end - start;
	event->args_size = size;
	if (size > max_args_size)
		size = max_args_size;
	if (!capture_args)
		size = 0;
	barrier_var(offset);
	if (offset > 2 * PATH_ROOM)
		offset = 2 * PATH_ROOM;
	barrier_var(size);
	if (size > ARGS_SIZE_MAX)
		size = ARGS_SIZE_MAX;
	if (bpf_probe_read_user(scratch->data + offset, size, (void *)start))
		size = 0; /* a page was swapped out already: all of it is cut */
	event->args_truncated = capture_args && size < event->args_size;
	event->args.offset = sizeof(*event) + offset;
	event->args.length = size;
	offset += size;

	barrier_var(offset);
	if (offset > sizeof(scratch->data))
		offset = sizeof(scratch->data);
	event_output(EVENT_EXEC, &event->header, sizeof(*event) + offset, now);
	return 0;
}

/* CLOCK_MONOTONIC less the scheduler's clock, as it was at a time, in ns. */
struct scheduler_clock {
	u64 offset;
	u64 time;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scheduler_clock);
} scheduler_clock SEC(".maps");

/*
 * Sees every new thread as it is put on a run queue, with the scheduler's clock
 * just read, which no helper gives. Of two at once, either will do. The offset
 * changes by as little as CLOCK_MONOTONIC is slewed, 500 us a second at most.
 */
SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(scheduler_clock_read, struct task_struct *task)
{
	struct scheduler_clock *clock;
	u32 zero = 0;
	u64 queued;

	if (!bpf_core_field_exists(task->sched_info.last_queued))
		return 0;
	queued = task->sched_info.last_queued;
	clock = bpf_map_lookup_elem(&scheduler_clock, &zero);
	if (!clock || !queued)
		return 0;
	clock->time = bpf_ktime_get_ns();
	clock->offset = clock->time - queued;
	return 0;
}

/*
 * How long the current task has run since its time was last summed, in ns. It
 * is not known without a reading of the clock in the last seconds, as there is
 * after any fork; and it is at most a tick, or the clocks are not to be trusted.
 */
static __always_inline u64 running_slice(struct task_struct *task)
{
	struct scheduler_clock *clock;
	u64 now = bpf_ktime_get_ns();
	u64 slice, taken = 0;
	u32 zero = 0;

	clock = bpf_map_lookup_elem(&scheduler_clock, &zero);
	if (!clock || !clock->time || now - clock->time > SCHEDULER_CLOCK_AGE)
		return 0;
	if (bpf_core_field_exists(task->se.cfs_rq)) {
		struct rq *rq = BPF_CORE_READ(task, se.cfs_rq, rq);

		taken = BPF_CORE_READ(rq, clock) - BPF_CORE_READ(rq, clock_task);
	}
	slice = now - clock->offset - taken - task->se.exec_start;
	return slice < TICK_MAX ? slice : 0;
}

/*
 * CPU time of all threads: of those that are gone as summed by the kernel, and
 * of those that are not. A thread that goes in between the two readings is
 * missed, and none is counted twice.
 *
 * User and system time are samples of the tick, so the sum is divided in their
 * proportion, as the kernel does it for wait4().
 */
static __always_inline void process_cpu_time(struct task_struct *task, u64 *total, u64 *user, u64 *system)
{
	struct signal_struct *signal = task->signal;
	u64 sum = signal->sum_sched_runtime + running_slice(task);
	u64 utime = signal->utime;
	u64 stime = signal->stime;
	void *head = (void *)signal + bpf_core_field_offset(struct signal_struct, thread_head);
	void *node = BPF_CORE_READ(signal, thread_head.next);
	u64 all, remainder;
	int i;

#pragma clang loop unroll(disable)
	for (i = 0; i < THREADS_MAX; i++) {
		struct task_struct *thread;

		if (node == head || !node)
			break;
		thread = node - bpf_core_field_offset(struct task_struct, thread_node);
		sum += BPF_CORE_READ(thread, se.sum_exec_runtime);
		utime += BPF_CORE_READ(thread, utime);
		stime += BPF_CORE_READ(thread, stime);
		node = BPF_CORE_READ(thread, thread_node.next);
	}
	*total = sum;
	/* sum * stime / (utime + stime), in microseconds so that it fits. */
	stime >>= 10;
	all = (utime >> 10) + stime;
	if (!all) {
		*user = sum;
		*system = 0;
		return;
	}
	remainder = sum % all;
	stime = sum / all * stime + (all >> 32 ? remainder / (all >> 20) * (stime >> 20) : remainder * stime / all);
	*system = stime;
	*user = sum - stime;
}

static __always_inline void process_exited(struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct signal_struct *signal = task->signal;
	struct exit_event *event;
	u32 code;
	u64 now;

	if (lifetime_enabled) {
		struct process_metric_key key = {};
		struct process_lifetime *lifetime;

		if (by_cgroup)
			key.cgroup = task_cgroup_id(task);
		lifetime = process_lifetimes_row(&key);
		if (lifetime)
			HISTOGRAM_ADD_SHARED(lifetime, 20, 47, 0, bpf_ktime_get_boot_ns() - leader->start_boottime);
	}
	if (!event_begin(EVENT_EXIT, task, &now))
		return;
	event = event_reserve(EVENT_EXIT, struct exit_event, now);
	if (!event)
		return;
	process_info_read(task, &event->process);
	event->lifetime = now - event->process.start;
	process_cpu_time(task, &event->cpu_time, &event->user_time, &event->system_time);
	event->memory_peak = (u64)signal->maxrss * page_size;
	/* What wait() tells the parent. */
	code = signal->flags & SIGNAL_GROUP_EXIT ? signal->group_exit_code : leader->exit_code;
	event->signal = code & 0x7f;
	event->code = event->signal ? 128 + event->signal : (code >> 8) & 0xff;
	event->core_dumped = code & 0x80;
	__builtin_memset(event->unused, 0, sizeof(event->unused));
	event_submit(EVENT_EXIT, event);
}

/*
 * Sees the end of every thread, before its memory goes; group_dead is true for
 * exactly one of a process's, the one that took the count of live ones to zero.
 * Misses CPU time that the rest of the exit takes.
 */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *task, bool group_dead)
{
	if (group_dead)
		process_exited(task);
	return 0;
}

struct process_exit_key {
	u64 start;
	u32 pid;
	u32 unused;
};

/* Processes whose end was seen. It has to outlast only the race of two threads. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct process_exit_key);
	__type(value, u8);
} exited SEC(".maps");

/*
 * Before 6.16: sees the end of every thread, after its memory went, and has to
 * read the count of live ones. Two last threads can both find zero, and one
 * does always: so the first of them to write the process down is taken.
 */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit_counted, struct task_struct *task)
{
	struct process_exit_key key = {};
	u8 seen = 1;

	if (task->signal->live.counter)
		return 0;
	key.start = task->group_leader->start_boottime;
	key.pid = task->tgid;
	if (map_insert(&exited, &key, &seen) == -EEXIST)
		return 0;
	process_exited(task);
	return 0;
}

/*
 * Sees every clone that succeeded, in the creating task, before the child runs.
 * Once per child; a thread is no process. Misses the kernel's own io_uring
 * workers, which are threads too.
 */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(process_fork, struct task_struct *parent, struct task_struct *child)
{
	struct fork_event *event;
	u64 now;

	if (child->pid != child->tgid)
		return 0;
	if (created_enabled) {
		struct process_metric_key key = {};
		struct process_count *created;

		if (by_cgroup)
			key.cgroup = task_cgroup_id(child);
		created = processes_created_row(&key);
		if (created)
			__sync_fetch_and_add(&created->count, 1);
	}
	if (!event_begin(EVENT_FORK, child, &now))
		return 0;
	event = event_reserve(EVENT_FORK, struct fork_event, now);
	if (!event)
		return 0;
	process_info_read(child, &event->process);
	event->creator_pid = parent->tgid;
	event->unused = 0;
	event_submit(EVENT_FORK, event);
	return 0;
}

/*
 * Sees each signal as it is generated, whoever or whatever sends it, with what
 * became of it; also those that are ignored. Misses the SIGKILL with which the
 * kernel ends a process's other threads: it is set without being sent.
 */
SEC("tp_btf/signal_generate")
int BPF_PROG(process_signal, int signal, struct kernel_siginfo *info, struct task_struct *task, int group, int result)
{
	struct signal_event *event;
	bool from_user;
	s32 code = 0;
	u64 now;

	if (!event_begin(EVENT_SIGNAL, task, &now))
		return 0;
	event = event_reserve(EVENT_SIGNAL, struct signal_event, now);
	if (!event)
		return 0;
	process_info_read(task, &event->process);
	event->signal = signal;
	event->result = result;
	event->to_process = group;
	/*
	 * Two special values stand for no siginfo: 0 is a kernel function that
	 * signals for the current task, 1 is the kernel on its own behalf.
	 */
	if ((u64)info == 1)
		code = SI_KERNEL;
	else if (info)
		code = BPF_CORE_READ(info, si_code);
	event->code = code;
	event->sender_pid = 0;
	event->sender_uid = 0;
	__builtin_memset(event->sender_comm, 0, sizeof(event->sender_comm));
	__builtin_memset(event->unused, 0, sizeof(event->unused));
	/* Only these are sent by a system call, so that the sender is at hand. */
	from_user = code == SI_USER || code == SI_TKILL || code == SI_QUEUE;
	if (from_user) {
		event->sender_pid = bpf_get_current_pid_tgid() >> 32;
		event->sender_uid = bpf_get_current_uid_gid();
		bpf_get_current_comm(event->sender_comm, sizeof(event->sender_comm));
	}
	event_submit(EVENT_SIGNAL, event);
	return 0;
}

/* Resident bytes. The kernel counts in batches per CPU: some 100 pages may be missing. */
static __always_inline u64 mm_resident(void *mm)
{
	s64 pages = 0;

	if (!mm)
		return 0;
	if (bpf_core_field_exists(((struct mm_struct___atomic *)0)->rss_stat.count)) {
		struct mm_struct___atomic *m = mm;

		pages += BPF_CORE_READ(m, rss_stat.count[MM_FILEPAGES].counter);
		pages += BPF_CORE_READ(m, rss_stat.count[MM_ANONPAGES].counter);
		pages += BPF_CORE_READ(m, rss_stat.count[MM_SHMEMPAGES].counter);
	} else {
		struct mm_struct___percpu *m = mm;

		pages += BPF_CORE_READ(m, rss_stat[MM_FILEPAGES].count);
		pages += BPF_CORE_READ(m, rss_stat[MM_ANONPAGES].count);
		pages += BPF_CORE_READ(m, rss_stat[MM_SHMEMPAGES].count);
	}
	return pages > 0 ? pages * page_size : 0;
}

/* Victims that were told of. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct process_exit_key);
	__type(value, u8);
} oom_told SEC(".maps");

static __always_inline void oom_killed(struct task_struct *task, u64 at)
{
	struct process_exit_key key = {};
	struct oom_kill_event *event;
	u8 told = 1;
	u64 now;

	/* Threads are marked, each that asks for memory while the process dies. */
	key.start = task->group_leader->start_boottime;
	key.pid = task->tgid;
	if (map_insert(&oom_told, &key, &told) == -EEXIST)
		return;
	if (!event_begin(EVENT_OOM_KILL, task, &now))
		return;
	event = event_reserve(EVENT_OOM_KILL, struct oom_kill_event, at ? at : now);
	if (!event)
		return;
	process_info_read(task, &event->process);
	event->memory = mm_resident(task->mm);
	event->score_adjustment = task->signal->oom_score_adj;
	event->unused = 0;
	event_submit(EVENT_OOM_KILL, event);
}

/*
 * Sees each thread of a victim that gets access to the reserves, of which the
 * first is told. One that was already exiting is among them. Misses processes that
 * share the victim's memory and die with it; their exit says SIGKILL.
 */
SEC("tp_btf/mark_victim")
int BPF_PROG(oom_kill, struct task_struct *task)
{
	oom_killed(task, 0);
	return 0;
}

/* Victims by thread id, with the time: their names are to be had when they exit. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, u64);
} oom_victims SEC(".maps");

/*
 * On older kernels: as above, and all that is told is the victim's thread id. No task
 * can be found by it here, so the record waits for the thread's exit.
 */
SEC("tp_btf/mark_victim")
int BPF_PROG(oom_kill_marked, int pid)
{
	u64 now = bpf_ktime_get_boot_ns();
	u32 key = pid;

	bpf_map_update_elem(&oom_victims, &key, &now, BPF_ANY);
	return 0;
}

/*
 * Sees every thread's exit, of which it takes the victims'. A thread exits once.
 * Its memory may be gone by then, so its size is told only where it is not.
 */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(oom_kill_exit, struct task_struct *task)
{
	u32 key = task->pid;
	u64 *at = bpf_map_lookup_elem(&oom_victims, &key);

	if (!at)
		return 0;
	oom_killed(task, *at);
	bpf_map_delete_elem(&oom_victims, &key);
	return 0;
}

static __always_inline int exec_failed(struct syscall_exit *call)
{
	struct exec_failure_key key = {};
	struct process_count *failures;

	if (call->result >= 0)
		return 0;
	if (by_cgroup)
		key.cgroup = current_cgroup_id();
	key.error = -call->result;
	failures = exec_failures_row(&key);
	if (failures)
		__sync_fetch_and_add(&failures->count, 1);
	return 0;
}

/*
 * Sees each execve that returns, which is each that failed: one that succeeds
 * returns to the new program with 0. Misses those of 32-bit programs on a
 * 64-bit kernel, whose calls have no such tracepoint.
 */
SEC("tracepoint/syscalls/sys_exit_execve")
int execve_exit(struct syscall_exit *call)
{
	return exec_failed(call);
}

/* As above, for execveat, which is the system call of fexecve. */
SEC("tracepoint/syscalls/sys_exit_execveat")
int execveat_exit(struct syscall_exit *call)
{
	return exec_failed(call);
}
