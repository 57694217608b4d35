/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Log-linear histograms. Every power of two between 2^min and 2^max is cut
 * into 2^sub equal slots; slot 0 holds all values up to 2^min, the last slot
 * all above 2^max. Bounds are inclusive above, as OpenTelemetry's are, so the
 * exported bounds are exact and nothing is interpolated.
 *
 * There is no count field: the count is the sum of the slots, so that the two
 * can not disagree.
 *
 * The declaration is the only place that knows min, max and sub: they reach
 * user space in a BTF declaration tag on the slots.
 *
 *	struct latency { HISTOGRAM(10, 34, 1); };	// 1 us to 17 s, in ns
 *	HISTOGRAM_ADD(&value, 10, 34, 1, nanoseconds);
 */
#ifndef __EBPFRECEIVER_HISTOGRAM_H
#define __EBPFRECEIVER_HISTOGRAM_H

#include "kernel.h"

#define HISTOGRAM_SLOTS(min, max, sub) ((((max) - (min)) << (sub)) + 2)

/* In two steps, so that arguments which are macros themselves are expanded. */
#define HISTOGRAM(min, max, sub) __HISTOGRAM(min, max, sub)
#define __HISTOGRAM(min, max, sub)                                             \
	u64 sum;                                                               \
	u64 slots[HISTOGRAM_SLOTS(min, max, sub)] __attribute__((              \
		btf_decl_tag("histogram min=" #min " max=" #max " sub=" #sub)))

/* The position of the highest bit that is set; v must not be 0. */
static __always_inline u32 log2_u64(u64 v)
{
	u32 r = 0;

	if (v >> 32) {
		v >>= 32;
		r = 32;
	}
	if (v >> 16) {
		v >>= 16;
		r += 16;
	}
	if (v >> 8) {
		v >>= 8;
		r += 8;
	}
	if (v >> 4) {
		v >>= 4;
		r += 4;
	}
	if (v >> 2) {
		v >>= 2;
		r += 2;
	}
	return r + (u32)(v >> 1);
}

static __always_inline u32 histogram_slot(u64 v, u32 min, u32 max, u32 sub)
{
	u32 exponent, fraction;

	if (v <= 1ULL << min)
		return 0;
	if (v > 1ULL << max)
		return HISTOGRAM_SLOTS(min, max, sub) - 1;
	v--; /* inclusive upper bounds: 2^k belongs to the slot that ends there */
	exponent = log2_u64(v);
	fraction = (v >> (exponent - sub)) & ((1U << sub) - 1);
	return 1 + ((exponent - min) << sub) + fraction;
}

/* For per-CPU values: one writer at a time. */
#define HISTOGRAM_ADD(h, min, max, sub, v)                                     \
	do {                                                                   \
		u64 __v = (v);                                                 \
		u32 __s = histogram_slot(__v, min, max, sub);                  \
		if (__s < HISTOGRAM_SLOTS(min, max, sub)) {                    \
			(h)->slots[__s]++;                                     \
			(h)->sum += __v;                                       \
		}                                                              \
	} while (0)

/* For values that several CPUs share. */
#define HISTOGRAM_ADD_SHARED(h, min, max, sub, v)                              \
	do {                                                                   \
		u64 __v = (v);                                                 \
		u32 __s = histogram_slot(__v, min, max, sub);                  \
		if (__s < HISTOGRAM_SLOTS(min, max, sub)) {                    \
			__sync_fetch_and_add(&(h)->slots[__s], 1);             \
			__sync_fetch_and_add(&(h)->sum, __v);                  \
		}                                                              \
	} while (0)

#endif
