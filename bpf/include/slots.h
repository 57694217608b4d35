/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A hash of what the kernel has at an address, for what comes and goes by the
 * ten thousand each second. The kernel's own hash takes two locks to add a row and two to
 * remove it, and a call to find one. Here an address has one slot in an array, and
 * the row is there if the slot was free when it was added; else it is in a hash of the
 * kernel's, as all would be otherwise.
 *
 * SLOTTED_HASH(name, value, entries) declares
 *   name		the hash, for what found its slot taken
 *   name_slots		the slots, eight in an element, so that an iterator that
 *			finds no row passes eight of them at once
 *   name_sets		the number of those elements; user space gives an option of
 *			the type entries half as many slots as entries
 *   name_find(address), name_put(address, value), name_add(address, value), name_remove(address),
 *   name_in_slot(address): whether the row is not in the hash
 *
 * Whoever adds or removes the row of an address must be alone with that address, as with a
 * socket's lock held; name_add is for who is not. What a row says may be that of another address
 * by the time it is read without that lock.
 */
#ifndef __EBPFRECEIVER_SLOTS_H
#define __EBPFRECEIVER_SLOTS_H

#include "kernel.h"
#include "map.h"

#define SLOTS_IN_SET 8

/* Instead of an address: nothing is there, or the row is being written. */
#define SLOT_FREE 0
#define SLOT_TAKEN 1

#define SLOTS_UNUSED __attribute__((unused))

#define SLOTTED_HASH(_name, _value, _entries)                                  \
	struct _name##_set {                                                   \
		u64 addresses[SLOTS_IN_SET];                                   \
		u64 elsewhere; /* rows in the hash whose slot is here */       \
		_value rows[SLOTS_IN_SET];                                     \
	};                                                                     \
	struct {                                                               \
		__uint(type, BPF_MAP_TYPE_ARRAY);                              \
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
		u64 hash = (address ? *address : 0) * 0x9e3779b97f4a7c15ULL;   \
		return (hash >> 32) * (_name##_sets * SLOTS_IN_SET) >> 32;     \
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
			set->rows[way] = *row;                                 \
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
