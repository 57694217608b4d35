/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A hash of what the kernel has at an address, for what comes and goes by the
 * ten thousand each second. The kernel's own hash takes two locks to add a row and two to
 * remove it, and a call to find one. Here an address has one slot in an array, and
 * the row is there if the slot was free when it was added; else it is in a hash of the
 * kernel's, as all would be otherwise.
 *
 * The kernel's allocator has objects of a kind side by side, and gives what was freed last first.
 * So rows whose addresses are neighbors are neighbors, and those of what comes and goes are in few
 * pages and cache lines. Slots are told apart for addresses that differ by 2 KiB at least, as
 * those of sockets do.
 *
 * SLOTTED_HASH(name, value, entries) declares
 *   name		the hash, for what found its slot taken
 *   name_slots		the slots, sixteen in an element, so that an iterator that
 *			finds no row passes sixteen of them at once
 *   name_sets		the number of those elements; user space gives an option of
 *			the type entries half as many slots as entries
 *   name_find(address), name_put(address, value), name_add(address, value), name_remove(address),
 *   name_in_slot(address): whether the row is not in the hash
 *
 * How a row is copied to its slot is told before it, in
 *   static void name_copy(value *to, const value *from)
 * which may leave out what nobody will read, so that it need not come into the cache. The first row begins with a pair of cache lines.
 *
 * Whoever adds or removes the row of an address must be alone with that address, as with a
 * socket's lock held; name_add is for who is not. What a row says may be that of another address
 * by the time it is read without that lock.
 */
#ifndef __EBPFRECEIVER_SLOTS_H
#define __EBPFRECEIVER_SLOTS_H

#include "kernel.h"
#include "map.h"

/* Slots of an element are for addresses in one block of 32 KiB, each for 2 KiB of it. */
#define SLOT_BITS 11
#define SLOTS_BLOCK_BITS 15
#define SLOTS_IN_SET (1 << (SLOTS_BLOCK_BITS - SLOT_BITS))

/* Instead of an address: nothing is there, or the row is being written. */
#define SLOT_FREE 0
#define SLOT_TAKEN 1

#define SLOTS_UNUSED __attribute__((unused))

#define SLOTTED_HASH(_name, _value, _entries)                                  \
	struct _name##_set {                                                   \
		u64 addresses[SLOTS_IN_SET];                                   \
		u64 elsewhere; /* rows in the hash whose slot is here */       \
		_value rows[SLOTS_IN_SET] __attribute__((aligned(128)));       \
	};                                                                     \
	struct {                                                               \
		__uint(type, BPF_MAP_TYPE_ARRAY);                              \
		__uint(map_flags, BPF_F_MMAPABLE); /* aligned to a page */     \
		__uint(max_entries, 1);                                        \
		__type(key, u32);                                              \
		__type(value, struct _name##_set);                             \
	} _name##_slots SEC(".maps");                                          \
	struct {                                                               \
		__uint(type, BPF_MAP_TYPE_HASH);                               \
		__uint(max_entries, _entries);                                 \
		__type(key, u64);                                              \
		__type(value, _value);                                         \
	} _name SEC(".maps");                                                  \
	const volatile u32 _name##_sets = 1;                                   \
	/* Fibonacci hashing, for addresses differ in their middle. To the verifier, what it gets is a number only from memory. */ \
	__noinline u32 _name##_slot(const u64 *address)                        \
	{                                                                      \
		u64 block = address ? *address >> SLOTS_BLOCK_BITS : 0;        \
		u64 set = (block * 0x9e3779b97f4a7c15ULL >> 32) * _name##_sets >> 32; \
		return set * SLOTS_IN_SET + (address ? *address >> SLOT_BITS & (SLOTS_IN_SET - 1) : 0); \
	}                                                                      \
	static __always_inline struct _name##_set *_name##_set_of(u64 address, u32 *way) \
	{                                                                      \
		u32 slot = _name##_slot(&address), set = slot / SLOTS_IN_SET;  \
		*way = slot % SLOTS_IN_SET;                                    \
		return bpf_map_lookup_elem(&_name##_slots, &set);              \
	}                                                                      \
	static __always_inline _value *_name##_find(u64 address)               \
	{                                                                      \
		u32 way;                                                       \
		struct _name##_set *set = _name##_set_of(address, &way);       \
		if (!set)                                                      \
			return 0;                                              \
		if (*(volatile u64 *)&set->addresses[way] == address)          \
			return &set->rows[way];                                \
		return set->elsewhere ? bpf_map_lookup_elem(&_name, &address) : 0; \
	}                                                                      \
	static __always_inline SLOTS_UNUSED bool _name##_in_slot(u64 address)  \
	{                                                                      \
		u32 way;                                                       \
		struct _name##_set *set = _name##_set_of(address, &way);       \
		return set && *(volatile u64 *)&set->addresses[way] == address; \
	}                                                                      \
	static __always_inline int _name##_insert(u64 address, const _value *row, u64 flags) \
	{                                                                      \
		u32 way;                                                       \
		struct _name##_set *set = _name##_set_of(address, &way);       \
		u64 before;                                                    \
		int error;                                                     \
		if (!set)                                                      \
			return -1;                                             \
		before = *(volatile u64 *)&set->addresses[way];                \
		if (before == address && flags == BPF_NOEXIST)                 \
			return -EEXIST;                                        \
		if (before != address && set->elsewhere) {                     \
			if (flags == BPF_NOEXIST && bpf_map_lookup_elem(&_name, &address)) \
				return -EEXIST;                                \
			if (flags == BPF_ANY && !bpf_map_update_elem(&_name, &address, row, BPF_EXIST)) \
				return 0;                                      \
		}                                                              \
		/* Its own is taken first, too: somebody may be about to give it back. */ \
		if ((before == SLOT_FREE || before == address) &&              \
		    __sync_val_compare_and_swap(&set->addresses[way], before, SLOT_TAKEN) == before) { \
			_name##_copy(&set->rows[way], row);                    \
			/* With a barrier: who sees the address sees the row. */ \
			__sync_lock_test_and_set(&set->addresses[way], address); \
			return 0;                                              \
		}                                                              \
		__sync_fetch_and_add(&set->elsewhere, 1);                      \
		error = map_insert(&_name, &address, row);                     \
		if (error)                                                     \
			__sync_fetch_and_add(&set->elsewhere, -1);             \
		/* The slot may have been taken for this address, by who adds: the one who is alone with it prevails. */ \
		else if (flags == BPF_ANY && *(volatile u64 *)&set->addresses[way] == address) \
			__sync_val_compare_and_swap(&set->addresses[way], address, SLOT_FREE); \
		return error;                                                  \
	}                                                                      \
	/* In the place of a row that is there already. 0, or a negative error: there is no room. */ \
	static __always_inline SLOTS_UNUSED int _name##_put(u64 address, const _value *row) \
	{                                                                      \
		return _name##_insert(address, row, BPF_ANY);                  \
	}                                                                      \
	/* -EEXIST where a row is there already. */                            \
	static __always_inline SLOTS_UNUSED int _name##_add(u64 address, const _value *row) \
	{                                                                      \
		u32 way;                                                       \
		struct _name##_set *set = _name##_set_of(address, &way);       \
		int error = _name##_insert(address, row, BPF_NOEXIST);         \
		if (error || !set || !set->elsewhere || *(volatile u64 *)&set->addresses[way] != address || \
		    !bpf_map_lookup_elem(&_name, &address))                    \
			return error;                                          \
		__sync_val_compare_and_swap(&set->addresses[way], address, SLOT_FREE); \
		return -EEXIST;                                                \
	}                                                                      \
	static __always_inline SLOTS_UNUSED void _name##_remove(u64 address)   \
	{                                                                      \
		u32 way;                                                       \
		struct _name##_set *set = _name##_set_of(address, &way);       \
		if (!set)                                                      \
			return;                                                \
		if (*(volatile u64 *)&set->addresses[way] == address)          \
			__sync_val_compare_and_swap(&set->addresses[way], address, SLOT_FREE); \
		/* Both, where two added it at once. */                        \
		if (set->elsewhere && !bpf_map_delete_elem(&_name, &address))  \
			__sync_fetch_and_add(&set->elsewhere, -1);             \
	}

#endif
