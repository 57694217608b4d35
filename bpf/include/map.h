/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Maps that user space takes exact snapshots of.
 *
 * SWAPPED_MAP(name, type, key, value, entries) declares
 *   name		an array of one slot, which points at one of two inner hashes
 *			of that type (HASH or PERCPU_HASH). User space points it at
 *			the empty one, waits for an RCU grace period inside that
 *			update, and then owns the retired one: no program writes it.
 *   name_overflow	a per-CPU cell that takes what a full inner map can not.
 *
 * A map that is declared without it is "plain": cumulative, never deleted from.
 */
#ifndef __EBPFRECEIVER_MAP_H
#define __EBPFRECEIVER_MAP_H

#include "kernel.h"

/*
 * Adds a key, and returns 0 or a negative error, -EEXIST when it is there already.
 * Before Linux 6.4 the kernel's own functions behind the call return an int, which
 * leaves the upper half of the register without its sign: a long would be no error.
 */
static __always_inline int map_insert(void *map, const void *key, const void *value)
{
	return bpf_map_update_elem(map, key, value, BPF_NOEXIST);
}

#define SWAPPED_MAP(_name, _type, _key, _value, _entries)                      \
	struct _name##_inner {                                                 \
		__uint(type, BPF_MAP_TYPE_##_type);                            \
		__uint(max_entries, _entries);                                 \
		__type(key, _key);                                             \
		__type(value, _value);                                         \
	};                                                                     \
	struct {                                                               \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                      \
		__uint(max_entries, 1);                                        \
		__type(key, u32);                                              \
		__array(values, struct _name##_inner);                         \
	} _name SEC(".maps");                                                  \
	struct {                                                               \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                       \
		__uint(max_entries, 1);                                        \
		__type(key, u32);                                              \
		__type(value, _value);                                         \
	} _name##_overflow SEC(".maps");                                       \
	/* Bytes of the key that rows are told apart by; user space knows. */   \
	const volatile u32 _name##_key_size = sizeof(_key);                    \
	/* Behind a map in a map, clang leaves BTF just a name for the key. */  \
	_key *const _name##_key_type = 0;                                      \
	static const _value _name##_zero;                                      \
	/* The row of a key: found, made, or the overflow cell. */             \
	static __always_inline _value *_name##_row(const _key *key)            \
	{                                                                      \
		u32 slot = 0;                                                  \
		void *inner = bpf_map_lookup_elem(&_name, &slot);              \
		_value *row;                                                   \
		if (!inner)                                                    \
			goto overflow;                                         \
		row = bpf_map_lookup_elem(inner, key);                         \
		if (row)                                                       \
			return row;                                            \
		/* EEXIST: another CPU made it in between, which is as good. */ \
		bpf_map_update_elem(inner, key, &_name##_zero, BPF_NOEXIST);   \
		row = bpf_map_lookup_elem(inner, key);                         \
		if (row)                                                       \
			return row;                                            \
overflow:                                                                      \
		return bpf_map_lookup_elem(&_name##_overflow, &slot);          \
	}

#endif
