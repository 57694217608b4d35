/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A hash with slots, which does what a packet says.
 */
#include "kernel.h"
#include "slots.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct row {
	u64 value;
	u64 unused[3];
};

static __always_inline void rows_copy(struct row *to, const struct row *from)
{
	*to = *from;
}

SLOTTED_HASH(rows, struct row, 64);

enum operation {
	FIND,
	PUT,
	ADD,
	REMOVE,
};

struct order {
	u64 operation;
	u64 address;
	u64 value;
};

/* What was found, or 0; an error, without its sign. */
SEC("socket")
int obey(struct __sk_buff *skb)
{
	struct order order;
	struct row *found, row = {};

	if (bpf_skb_load_bytes(skb, 0, &order, sizeof(order)))
		return 1000;
	row.value = order.value;
	switch (order.operation) {
	case FIND:
		found = rows_find(order.address);
		return found ? found->value : 0;
	case PUT:
		return -rows_put(order.address, &row);
	case ADD:
		return -rows_add(order.address, &row);
	case REMOVE:
		rows_remove(order.address);
	}
	return 0;
}
