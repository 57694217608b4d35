/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * histogram_slot() as a function of a packet's first 8 bytes, so that a test can
 * ask what the compiled code does with any value. Nothing is ever attached.
 */
#include "kernel.h"
#include "histogram.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define SLOT(name, min, max, sub)                                              \
	struct name##_value {                                                  \
		HISTOGRAM(min, max, sub);                                      \
	};                                                                     \
	struct name##_value *name##_type;                                      \
	SEC("xdp")                                                             \
	int name(struct xdp_md *packet)                                        \
	{                                                                      \
		u64 *value = (void *)(unsigned long)packet->data;              \
                                                                               \
		if ((void *)(value + 1) > (void *)(unsigned long)packet->data_end) \
			return -1;                                             \
		return histogram_slot(*value, min, max, sub);                  \
	}

SLOT(halves, 10, 34, 1)
SLOT(powers, 20, 47, 0)
SLOT(fine, 8, 40, 8)
SLOT(wide, 2, 62, 2)
SLOT(all, 0, 62, 0)
