// SPDX-License-Identifier: Apache-2.0

//go:build linux

package udp_test

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// As in include/uapi/linux/io_uring.h.
const (
	uringSend, uringReceive = 26, 27
	uringSubmissions        = 0x10000000
	uringWait               = 1
)

type uringParameters struct {
	entries, completions, flags, cpu, idle, features, workers uint32
	_                                                         [3]uint32
	submission                                                struct{ head, tail, mask, entries, flags, dropped, array, _ uint32 }
	_                                                         uint64
	completion                                                struct{ head, tail, mask, entries, overflow, results, flags, _ uint32 }
	_                                                         uint64
}

type uringSubmission struct {
	opcode, flags      uint8
	priority           uint16
	fd                 int32
	offset, address    uint64
	length, operations uint32
	data               uint64
	_                  [3]uint64
}

// uring does one thing after the other, and returns the results.
func uring(t *testing.T, opcode uint8, fd int, buffers ...[]byte) (results []int) {
	t.Helper()
	var p uringParameters
	ring, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&p)), 0)
	if e == unix.ENOSYS || e == unix.EPERM {
		t.Skip("this kernel has no io_uring, or not for us")
	}
	require.Zero(t, e)
	defer unix.Close(int(ring))
	rings, err := unix.Mmap(int(ring), 0, 1<<12, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(rings)) }()
	entries, err := unix.Mmap(int(ring), uringSubmissions, int(unsafe.Sizeof(uringSubmission{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(entries)) }()
	word := func(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&rings[offset])) }
	for _, b := range buffers {
		*(*uringSubmission)(unsafe.Pointer(&entries[0])) = uringSubmission{
			opcode: opcode, fd: int32(fd), address: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))), length: uint32(len(b)),
		}
		*word(p.submission.tail)++
		_, _, e := unix.Syscall6(unix.SYS_IO_URING_ENTER, ring, 1, 1, uringWait, 0, 0)
		require.Zero(t, e)
		at := *word(p.completion.head) & *word(p.completion.mask)
		results = append(results, int(*(*int32)(unsafe.Pointer(&rings[p.completion.results+at*16+8]))))
		*word(p.completion.head)++
	}
	return results
}

// io_uring has calls of its own.
func TestKernelUDPUring(t *testing.T) {
	here, there := kernel.Pair(t, "cable", "cable")
	run := start(t, here, byNamespace)
	s, c := server(t, there, unix.AF_INET, "10.1.0.2:1000"), client(t, here, unix.AF_INET, "10.1.0.2:1000")
	assert.Equal(t, []int{10, 20, 30}, uring(t, uringSend, c, make([]byte, 10), make([]byte, 20), make([]byte, 30)))
	assert.Equal(t, []int{10, 20, 30}, uring(t, uringReceive, s, make([]byte, 100), make([]byte, 100), make([]byte, 100)))
	run.Stop()
	assert.Equal(t, map[string]int{"transmit": 60}, kernel.Values(kernel.Of(run.Last("ebpf.udp.io"), here), "network.io.direction"))
	assert.Equal(t, map[string]int{"receive": 60}, kernel.Values(kernel.Of(run.Last("ebpf.udp.io"), there), "network.io.direction"))
	assert.Equal(t, map[string]int{"transmit": 3}, kernel.Values(kernel.Of(run.Last("ebpf.udp.datagrams"), here), "network.io.direction"))
	assert.Equal(t, map[string]int{"receive": 3}, kernel.Values(kernel.Of(run.Last("ebpf.udp.datagrams"), there), "network.io.direction"))
}
