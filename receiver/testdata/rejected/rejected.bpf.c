/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs that no kernel takes, each for a reason of its own. To build it:
 * make receiver/testdata/rejected/rejected.bpf.o
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct count {
	u64 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct count);
} counts SEC(".maps");

/* A key of which the verifier knows nothing: of a constant one, newer kernels know that it is in the array. */
static __always_inline struct count *cell(void)
{
	u32 key = bpf_ktime_get_ns();

	return bpf_map_lookup_elem(&counts, &key);
}

/* The verifier wants the pointer to be checked. */
SEC("tp_btf/sched_switch")
int BPF_PROG(unchecked_pointer)
{
	cell()->count++;
	return 0;
}

struct task_struct___none {
	u64 no_such_field;
} __attribute__((preserve_access_index));

/* A relocation without a target. */
SEC("tp_btf/sched_switch")
int BPF_PROG(unknown_field, bool preempt, struct task_struct *prev)
{
	struct count *c = cell();

	if (c)
		c->count += ((struct task_struct___none *)prev)->no_such_field;
	return 0;
}

SEC("tp_btf/no_such_tracepoint")
int BPF_PROG(unknown_hook)
{
	struct count *c = cell();

	if (c)
		c->count++;
	return 0;
}

/* XDP programs decide about packets: no hook for a probe. */
SEC("xdp")
int unsupported_hook(struct xdp_md *ctx)
{
	struct count *c = cell();

	if (c)
		c->count++;
	return 2; /* XDP_PASS */
}

/* Nothing is wrong with it. */
SEC("tp_btf/sched_switch")
int BPF_PROG(good)
{
	u32 zero = 0;
	struct count *c = bpf_map_lookup_elem(&counts, &zero);

	if (c)
		c->count++;
	return 0;
}
