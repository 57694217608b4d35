// SPDX-License-Identifier: Apache-2.0

//go:build linux

package snapshot

import (
	"fmt"
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// enotsupp is the kernel's internal ENOTSUPP, which bpf(2) lets through for a map type that lacks
// a command; it has no name in user space.
const enotsupp = unix.Errno(524)

// batchAttr is `batch` of union bpf_attr in include/uapi/linux/bpf.h.
type batchAttr struct {
	inBatch, outBatch uint64
	keys, values      uint64
	count             uint32
	mapFD             uint32
	elemFlags, flags  uint64
}

// elemAttr is the anonymous member of union bpf_attr for BPF_MAP_*_ELEM and BPF_MAP_GET_NEXT_KEY;
// value is also next_key.
type elemAttr struct {
	mapFD uint32
	_     uint32
	key   uint64
	value uint64
	flags uint64
}

// bpfFunc is bpf(2). It is a variable of each table so that tests can make the kernel fail.
type bpfFunc func(cmd int, attr unsafe.Pointer, size uintptr) unix.Errno

func bpf(cmd int, attr unsafe.Pointer, size uintptr) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(attr), size)
	return errno
}

// kernel calls bpf(2) and counts the calls. The attributes live in it, and it lives on the heap,
// so that a call allocates nothing. Pointers inside attributes are plain numbers to Go: whoever
// sets one keeps the memory alive beyond the call, and never takes it from a stack, which can move.
type kernel struct {
	sys   bpfFunc
	batch batchAttr
	elem  elemAttr
	calls int
}

// address is p as bpf(2) wants pointers.
func address(p []byte) uint64 {
	if len(p) == 0 {
		return 0
	}
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p))))
}

// readBatch reads up to count rows into keys and values, and returns how many it read. An error
// may come with rows that have been read, and removed: they are only here now.
func (k *kernel) readBatch(cmd int, m *ebpf.Map, in, out, keys, values []byte, count int) (int, unix.Errno) {
	k.batch = batchAttr{
		inBatch:  address(in),
		outBatch: address(out),
		keys:     address(keys),
		values:   address(values),
		count:    uint32(count),
		mapFD:    uint32(m.FD()),
	}
	k.calls++
	errno := k.sys(cmd, unsafe.Pointer(&k.batch), unsafe.Sizeof(k.batch))
	runtime.KeepAlive(m)
	runtime.KeepAlive(in)
	runtime.KeepAlive(out)
	runtime.KeepAlive(keys)
	runtime.KeepAlive(values)
	if !countIsValid(errno) {
		return 0, errno
	}
	return min(int(k.batch.count), count), errno
}

// countIsValid tells whether the kernel has set batch.count before it failed. Checks of the
// attributes come before the count is first set to 0, so their errors leave our own number there.
// All other ways out of __htab_map_lookup_and_delete_batch (kernel/bpf/hashtab.c) and
// generic_map_lookup_batch (kernel/bpf/syscall.c) set it, or leave the 0; but EFAULT, which needs a
// wrong pointer, may not.
func countIsValid(errno unix.Errno) bool {
	switch errno {
	case 0, unix.ENOENT, unix.ENOSPC, unix.ENOMEM:
		return true
	default:
		return transient(errno)
	}
}

// transient errors of a batch are those of a bucket's lock (EBUSY on older kernels, EDEADLK and
// ETIMEDOUT on those whose lock is a resilient spin lock), and EINTR of older kernels for an element
// that went away repeatedly while it was copied.
func transient(errno unix.Errno) bool {
	switch errno {
	case unix.EBUSY, unix.EDEADLK, unix.ETIMEDOUT, unix.EINTR, unix.EAGAIN:
		return true
	default:
		return false
	}
}

// unsupported tells whether the kernel does not know the command, or not for this type of map.
func unsupported(errno unix.Errno) bool {
	return errno == unix.EINVAL || errno == enotsupp || errno == unix.EOPNOTSUPP
}

// element runs a command on one element. A nil key asks BPF_MAP_GET_NEXT_KEY for the first one.
func (k *kernel) element(cmd int, m *ebpf.Map, key, value []byte) unix.Errno {
	for attempt := 0; ; attempt++ {
		k.elem = elemAttr{mapFD: uint32(m.FD()), key: address(key), value: address(value)}
		k.calls++
		errno := k.sys(cmd, unsafe.Pointer(&k.elem), unsafe.Sizeof(k.elem))
		runtime.KeepAlive(m)
		runtime.KeepAlive(key)
		runtime.KeepAlive(value)
		if !transient(errno) || attempt == maxAttempts {
			return errno
		}
	}
}

// alignedBytes is n bytes whose start is aligned for u64.
func alignedBytes(n int) []byte {
	words := make([]uint64, (n+7)/8)
	return wordBytes(words)[:n]
}

func wordBytes(words []uint64) []byte {
	if len(words) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), len(words)*8)
}

// wordsOf is p as u64 words; p comes from alignedBytes, and its length is a multiple of 8.
func wordsOf(p []byte) []uint64 {
	if len(p) == 0 {
		return nil
	}
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(p))), len(p)/8)
}

func describe(m *ebpf.Map) string {
	return fmt.Sprintf("%v with keys of %d bytes, values of %d bytes and %d entries",
		m.Type(), m.KeySize(), m.ValueSize(), m.MaxEntries())
}
