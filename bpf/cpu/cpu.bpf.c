//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Scheduler latency, CPU time and context switches, per task as the scheduler
 * itself keeps them:
 *
 *   task->sched_info.run_delay	    ns spent ready to run, without the wait that is going on
 *   task->sched_info.last_queued   rq clock at which that wait began, 0 when there is none
 *   task->se.sum_exec_runtime	    ns spent running
 *
 * Their growth between two looks at a task is what is counted, so a histogram's
 * sum is /proc/PID/schedstat's second number, and CPU time is its first, to the
 * nanosecond. Nothing has to be measured at a wakeup: there is no program on
 * sched_wakeup, and none of these reads a clock.
 */
#include "kernel.h"
#include "histogram.h"
#include "map.h"
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set by user space before load: what is asked for. */
const volatile bool by_cgroup = true;
const volatile bool by_process = false;
const volatile bool with_run_queue = true;
const volatile bool with_container_time = true;
const volatile bool with_process_time = false;
const volatile bool with_process_switches = false;
const volatile bool with_off_cpu = false;

/* User space keeps just the leading fields that somebody selected. */
struct cpu_key {
	u64 cgroup;
	struct process_key process;
};

/* 1 us to 17 s in steps of a half, of which the last is 8.6 s. */
#define LATENCY_MIN 10
#define LATENCY_MAX 34
#define LATENCY_SUB 1

struct latency {
	HISTOGRAM(LATENCY_MIN, LATENCY_MAX, LATENCY_SUB);
};

struct usage {
	u64 ns;
	u64 voluntary;
	u64 involuntary;
};

/* Few and fixed: cells of each CPU, cumulative. */
struct switches {
	u64 voluntary;
	u64 involuntary;
	u64 idle; /* from the idle task, which is nobody's */
};

SWAPPED_MAP(run_queue, PERCPU_HASH, struct cpu_key, struct latency, 10000);
SWAPPED_MAP(off_cpu, PERCPU_HASH, struct cpu_key, struct latency, 10000);
SWAPPED_MAP(usage, PERCPU_HASH, struct cpu_key, struct usage, 10000);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct switches);
} switches SEC(".maps");

/* How much of a task has been counted. */
struct seen {
	u64 run_delay;
	u64 arrivals; /* sched_info.pcount */
	u64 runtime;
	u64 voluntary;
	u64 involuntary;
	u64 left; /* the rq clock when it last left a CPU, until it is back */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct seen);
} seen_storage SEC(".maps");

/* The same by task_struct address: for kernels without task storage, and for tasks that an iterator does not show us. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, struct seen);
} seen_hash SEC(".maps");

/*
 * CLOCK_BOOTTIME at the first pass of the iterator, when all programs are
 * attached; 0 before. Of a task that was born since, all is to be counted, and of an
 * older one just what comes after the first look.
 */
static u64 since;

/* Tasks that could not get a state, for want of memory or room. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} uncounted SEC(".maps");

static __always_inline void count_uncounted(void)
{
	u32 zero = 0;
	u64 *cell = bpf_map_lookup_elem(&uncounted, &zero);

	if (cell)
		__sync_fetch_and_add(cell, 1);
}

/*
 * The clock of the task's run queue, the one that sched_info is kept in. At
 * sched_switch the queue is locked and its clock was just updated.
 */
static __always_inline u64 rq_clock(struct task_struct *task)
{
	return task->se.cfs_rq->rq->clock;
}

static __always_inline bool with_usage(void)
{
	return with_container_time || with_process_time || with_process_switches;
}

static __always_inline bool is_idle(struct task_struct *task)
{
	return task->pid == 0;
}

static __always_inline void cpu_key(struct cpu_key *key, struct task_struct *task)
{
	if (by_cgroup)
		key->cgroup = task_cgroup_id(task);
	if (by_process)
		task_process_key(task, &key->process);
}

/*
 * prev leaves its CPU. With storage its state is shared with the iterator, so
 * what each of them counts is decided by an atomic exchange.
 */
static __always_inline void leave(struct task_struct *prev, struct seen *seen, bool shared)
{
	u64 voluntary, involuntary, runtime, before;
	struct cpu_key key = {};
	struct switches *cell;
	struct usage *row;
	u32 zero = 0;

	if (!seen)
		return;
	voluntary = prev->nvcsw - seen->voluntary;
	involuntary = prev->nivcsw - seen->involuntary;
	seen->voluntary += voluntary;
	seen->involuntary += involuntary;
	cell = bpf_map_lookup_elem(&switches, &zero);
	if (cell) {
		cell->voluntary += voluntary;
		cell->involuntary += involuntary;
	}
	if (with_off_cpu)
		seen->left = rq_clock(prev);
	if (!with_usage())
		return;
	runtime = prev->se.sum_exec_runtime;
	if (shared) {
		before = __sync_lock_test_and_set(&seen->runtime, runtime);
	} else {
		before = seen->runtime;
		seen->runtime = runtime;
	}
	cpu_key(&key, prev);
	row = usage_row(&key);
	if (!row)
		return;
	row->ns += runtime - before;
	row->voluntary += voluntary;
	row->involuntary += involuntary;
}

static __always_inline void count_wait(struct latency *row, u64 ns)
{
	HISTOGRAM_ADD(row, LATENCY_MIN, LATENCY_MAX, LATENCY_SUB, ns);
}

/*
 * next comes onto a CPU. The tracepoint is passed before the scheduler ends the
 * wait (sched_info_arrive), so last_queued still tells when it began. Its part
 * on the queue of a CPU that the task was moved away from is in run_delay.
 */
static __always_inline void arrive(struct task_struct *next, struct seen *seen)
{
	u64 queued = next->sched_info.last_queued;
	u64 delay, arrivals, missed, clock;
	struct cpu_key key = {};
	struct latency *row;

	if (!seen || (!queued && !with_off_cpu))
		return;
	clock = rq_clock(next);
	cpu_key(&key, next);
	if (with_off_cpu && seen->left) {
		row = off_cpu_row(&key);
		/* Clocks of two CPUs may differ by a little. */
		if (row)
			count_wait(row, clock > seen->left ? clock - seen->left : 0);
		seen->left = 0;
	}
	if (!with_run_queue || !queued)
		return;
	row = run_queue_row(&key);
	if (!row)
		return;
	delay = next->sched_info.run_delay;
	arrivals = next->sched_info.pcount;
	missed = arrivals - seen->arrivals;
	if (missed && delay != seen->run_delay) {
		/*
		 * The kernel did not run us at an earlier switch, as when a program is
		 * already running on that CPU. What the task waited then is known.
		 * (Before 5.14 there are arrivals without a wait, which are none.)
		 */
		u64 each = (delay - seen->run_delay) / missed;
		u32 slot = histogram_slot(each, LATENCY_MIN, LATENCY_MAX, LATENCY_SUB);

		if (slot < HISTOGRAM_SLOTS(LATENCY_MIN, LATENCY_MAX, LATENCY_SUB)) {
			row->slots[slot] += missed;
			row->sum += delay - seen->run_delay;
		}
		seen->run_delay = delay;
	}
	delay += clock - queued;
	count_wait(row, delay - seen->run_delay);
	seen->run_delay = delay;
	seen->arrivals = arrivals + 1;
}

static __always_inline void count_idle(void)
{
	u32 zero = 0;
	struct switches *cell = bpf_map_lookup_elem(&switches, &zero);

	if (cell)
		cell->idle++;
}

/*
 * The state that a task's first look makes. It is published as a whole: a switch
 * elsewhere must not meet a state that is still zero.
 */
static __always_inline void first_look(struct task_struct *task, struct seen *seen)
{
	if (since && task->start_boottime > since)
		return;
	seen->run_delay = task->sched_info.run_delay;
	seen->arrivals = task->sched_info.pcount;
	seen->runtime = task->se.sum_exec_runtime;
	seen->voluntary = task->nvcsw;
	seen->involuntary = task->nivcsw;
}

/*
 * Every switch, of every task, once: prev's time on the CPU ends here and next's
 * wait for it. Never makes a state: the run queue is locked, no place to
 * allocate.
 */
SEC("tp_btf/sched_switch")
int BPF_PROG(switch_storage, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	if (is_idle(prev))
		count_idle();
	else
		leave(prev, bpf_task_storage_get(&seen_storage, prev, 0, 0), true);
	if (!is_idle(next))
		arrive(next, bpf_task_storage_get(&seen_storage, next, 0, 0));
	return 0;
}

/*
 * A task is born, before it can run: process, thread or kernel thread. Its
 * scheduler counts start at 0, and so does its state.
 */
SEC("tp_btf/task_newtask")
int BPF_PROG(new_task_storage, struct task_struct *task)
{
	if (!bpf_task_storage_get(&seen_storage, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE))
		count_uncounted();
	return 0;
}

/*
 * Each tick: tasks that are running now have spent time that no switch has
 * counted yet. A task that is in the act of leaving may be met here too; the
 * exchange fails for the one who comes second with an old sum, and the time is
 * counted once.
 */
SEC("iter/task")
int collect_storage(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct seen *seen, first = {};
	struct cpu_key key = {};
	u64 runtime, before;
	struct usage *row;

	if (!task)
		return 0;
	if (!since)
		since = bpf_ktime_get_boot_ns();
	seen = bpf_task_storage_get(&seen_storage, task, 0, 0);
	if (!seen) {
		first_look(task, &first);
		bpf_task_storage_get(&seen_storage, task, &first, BPF_LOCAL_STORAGE_GET_F_CREATE);
		return 0;
	}
	if (!with_usage())
		return 0;
	before = seen->runtime;
	runtime = task->se.sum_exec_runtime;
	if (runtime <= before ||
	    __sync_val_compare_and_swap(&seen->runtime, before, runtime) != before)
		return 0;
	cpu_key(&key, task);
	row = usage_row(&key);
	/* Atomic: a switch on this CPU may interrupt the addition. */
	if (row)
		__sync_fetch_and_add(&row->ns, runtime - before);
	return 0;
}

/* The state in the hash, whose elements exist already: it can be made anywhere. */
static __always_inline struct seen *seen_in_hash(struct task_struct *task)
{
	u64 key = (u64)task;
	struct seen *seen = bpf_map_lookup_elem(&seen_hash, &key);
	struct seen first = {};

	if (seen || !since)
		return seen;
	first_look(task, &first);
	bpf_map_update_elem(&seen_hash, &key, &first, BPF_NOEXIST);
	return bpf_map_lookup_elem(&seen_hash, &key);
}

/*
 * As switch_storage; and tasks get their state here that the iterator does not
 * see, because they are not in the Collector's pid namespace.
 */
SEC("tp_btf/sched_switch")
int BPF_PROG(switch_hash, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	if (is_idle(prev))
		count_idle();
	else
		leave(prev, seen_in_hash(prev), false);
	if (!is_idle(next))
		arrive(next, seen_in_hash(next));
	return 0;
}

/* As new_task_storage. */
SEC("tp_btf/task_newtask")
int BPF_PROG(new_task_hash, struct task_struct *task)
{
	struct seen seen = {};
	u64 key = (u64)task;

	if (bpf_map_update_elem(&seen_hash, &key, &seen, BPF_ANY))
		count_uncounted();
	return 0;
}

/* The last that is heard of a task_struct: nothing refers to it any more. */
SEC("tp_btf/sched_process_free")
int BPF_PROG(free_task_hash, struct task_struct *task)
{
	u64 key = (u64)task;

	bpf_map_delete_elem(&seen_hash, &key);
	return 0;
}

/*
 * Only the first look. Kernels without task storage have no atomic exchange either, so the
 * time of a task that is running now is counted when it leaves.
 */
SEC("iter/task")
int collect_hash(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct seen first = {};
	u64 key = (u64)task;

	if (!task)
		return 0;
	if (!since)
		since = bpf_ktime_get_boot_ns();
	first_look(task, &first);
	bpf_map_update_elem(&seen_hash, &key, &first, BPF_NOEXIST);
	return 0;
}
