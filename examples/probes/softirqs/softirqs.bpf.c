/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How often each kind of softirq was handled, as /proc/softirqs has it.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* NR_SOFTIRQS in include/linux/interrupt.h. */
#define VECTORS 10

struct count {
	u64 count;
};

/*
 * Plain: the keys are few and fixed. Each CPU has cells of its own, which only
 * grow; user space adds them up.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VECTORS);
	__type(key, u32); /* the vector */
	__type(value, struct count);
} softirqs SEC(".maps");

/*
 * Every softirq that is handled, once, just after the kernel has counted it for
 * /proc/softirqs (handle_softirqs in kernel/softirq.c). One that is raised and
 * still pending is not seen.
 */
SEC("tp_btf/softirq_entry")
int BPF_PROG(count_softirq, u32 vector)
{
	struct count *cell = bpf_map_lookup_elem(&softirqs, &vector);

	/* No other program run of this CPU touches its cell: softirqs do not nest. */
	if (cell)
		cell->count++;
	return 0;
}
