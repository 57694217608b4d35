/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A file's path, read from the dentries and mounts that the kernel itself
 * holds, so that it is what the kernel opened and not what a caller wrote.
 *
 * The components are stored leaf first, each ended by a NUL; "/" is one empty
 * component. It is the path that readlink of /proc/PID/exe shows to a reader
 * whose root directory is that of the file's own mount namespace: mounts are
 * crossed, and a chroot of the task is not.
 */
#ifndef __EBPFRECEIVER_PATH_H
#define __EBPFRECEIVER_PATH_H

#include "kernel.h"

/* Steps up: components and mount points. */
#define PATH_STEPS_MAX 48
/* A component that starts at or above it is left out. */
#define PATH_SIZE_MAX 1024
#define PATH_NAME_MAX 255
/* What path_read() may fill. */
#define PATH_ROOM (PATH_SIZE_MAX + PATH_NAME_MAX + 1)
/* The room of one component with its NUL. */
#define PATH_COMPONENT (PATH_NAME_MAX + 1)

#define TMPFS_MAGIC 0x01021994

/*
 * Write a path's components to buf, which has PATH_ROOM bytes, and their length
 * to *length, and the leaf's own length to *leaf. *cut tells that components
 * next to the root are missing, or a part of one: some file systems have names
 * of more than PATH_NAME_MAX bytes.
 *
 * length, leaf and cut lie in a map, and go there and back in each step: so the
 * verifier knows nothing of what they were, and a step looks to it like any
 * other. With what it could learn of them in registers, it would follow some
 * hundred thousand instructions more.
 */
static __always_inline void path_read(u8 *buf, struct dentry *dentry, struct vfsmount *vfsmount,
				      volatile u16 *length, volatile u16 *leaf, volatile bool *cut)
{
	struct mount *mount = (void *)vfsmount - bpf_core_field_offset(struct mount, mnt);
	struct dentry *root = BPF_CORE_READ(mount, mnt.mnt_root);
	int i;

	*length = 0;
	*leaf = 0;
	*cut = true;
#pragma clang loop unroll(disable)
	for (i = 0; i < PATH_STEPS_MAX; i++) {
		const unsigned char *name;
		struct dentry *parent;
		u32 offset;
		long n;

		if (dentry == root) {
			struct mount *above = BPF_CORE_READ(mount, mnt_parent);

			if (above == mount || !above) {
				*cut = false;
				break;
			}
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = above;
			root = BPF_CORE_READ(mount, mnt.mnt_root);
			continue;
		}
		offset = *length;
		if (offset >= PATH_SIZE_MAX)
			break;
		name = BPF_CORE_READ(dentry, d_name.name);
		/* As a string: a rename may put another name, of another length, in its place meanwhile. */
		n = bpf_probe_read_kernel_str(buf + offset, PATH_COMPONENT, name);
		if (n < 0)
			break;
		if (!offset)
			*leaf = n - 1;
		*length = offset + n;
		if (BPF_CORE_READ(dentry, d_name.len) > PATH_NAME_MAX)
			break;
		parent = BPF_CORE_READ(dentry, d_parent);
		if (parent == dentry) { /* without a place in a tree, as memfds are */
			*cut = false;
			break;
		}
		dentry = parent;
	}
	if (!*length) {
		buf[0] = 0;
		*length = 1;
	}
}

/* A file of memfd_create(): its dentry has no parent, in the kernel's own tmpfs. */
static __always_inline bool dentry_is_memfd(struct dentry *dentry)
{
	char name[6] = {};

	if (BPF_CORE_READ(dentry, d_sb, s_magic) != TMPFS_MAGIC || BPF_CORE_READ(dentry, d_parent) != dentry)
		return false;
	bpf_probe_read_kernel(name, sizeof(name), BPF_CORE_READ(dentry, d_name.name));
	return name[0] == 'm' && name[1] == 'e' && name[2] == 'm' && name[3] == 'f' && name[4] == 'd' && name[5] == ':';
}

/* Its name was taken out of the directory, whether or not other names are left. */
static __always_inline bool dentry_is_deleted(struct dentry *dentry)
{
	if (!BPF_CORE_READ(dentry, d_inode, i_nlink))
		return true;
	return !BPF_CORE_READ(dentry, d_hash.pprev) && BPF_CORE_READ(dentry, d_parent) != dentry;
}

#endif
