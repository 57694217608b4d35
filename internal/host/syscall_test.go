// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

import (
	"bufio"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSyscallName(t *testing.T) {
	// The standard library's numbers come from another table than the one that ours was made from.
	for nr, want := range map[int64]string{
		syscall.SYS_READ: "read", syscall.SYS_WRITE: "write", syscall.SYS_CLOSE: "close", syscall.SYS_OPENAT: "openat",
		syscall.SYS_EXECVE: "execve", syscall.SYS_EXIT_GROUP: "exit_group", syscall.SYS_CLONE: "clone", syscall.SYS_FUTEX: "futex",
		syscall.SYS_EPOLL_PWAIT: "epoll_pwait", syscall.SYS_PRLIMIT64: "prlimit64", syscall.SYS_MMAP: "mmap", syscall.SYS_SENDTO: "sendto",
		321 - bpfOffset: "bpf", 424: "pidfd_send_signal", 439: "faccessat2", 462: "mseal",
	} {
		got, ok := SyscallName(nr)
		assert.True(t, ok, want)
		assert.Equal(t, want, got)
	}
	for _, nr := range []int64{-1, 100_000, 0x40000000, int64(len(syscallNames))} {
		_, ok := SyscallName(nr)
		assert.False(t, ok, nr)
	}
}

// The system's own header, where one is installed.
func TestSyscallNamesAgreeWithTheHeader(t *testing.T) {
	f, err := os.Open(syscallHeader)
	if err != nil {
		t.Skipf("no kernel headers: %v", err)
	}
	defer f.Close()
	define := regexp.MustCompile(`^#define __NR_(\w+) (\d+)$`)
	checked := 0
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		m := define.FindStringSubmatch(lines.Text())
		if m == nil || m[1] == "syscalls" || m[1] == "arch_specific_syscall" {
			continue
		}
		nr, err := strconv.ParseInt(m[2], 10, 64)
		require.NoError(t, err)
		name, ok := SyscallName(nr)
		assert.True(t, ok, m[1])
		assert.Equal(t, m[1], name)
		checked++
	}
	require.NoError(t, lines.Err())
	assert.Greater(t, checked, 200)
}

func BenchmarkSyscallName(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		SyscallName(1)
	}
}
