// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// threadNamespace is the network namespace of the calling thread.
const threadNamespace = "/proc/thread-self/ns/net"

// openNamespace opens a network namespace by the path of its link.
func openNamespace(path string) (fd int, inode uint32, err error) {
	fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("open a network namespace: %w", err)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		_ = unix.Close(fd)
		return -1, 0, fmt.Errorf("identify a network namespace: %w", err)
	}
	return fd, uint32(stat.Ino), nil
}

// within calls fn on a thread that is in a namespace. Sockets stay in the namespace that they were opened in.
func within(fd int, inode uint32, fn func() error) error {
	runtime.LockOSThread()
	var stat unix.Stat_t
	err := unix.Stat(threadNamespace, &stat)
	if err == nil && uint32(stat.Ino) == inode {
		defer runtime.UnlockOSThread()
		return fn()
	}
	runtime.UnlockOSThread()

	result := make(chan error, 1)
	go func() {
		defer close(result) // also when fn ends the goroutine
		// A goroutine that ends while it is locked takes its thread along. So one that can not come back harms nobody, and keeps no
		// namespace alive.
		runtime.LockOSThread()
		home, _, err := openNamespace(threadNamespace)
		if err != nil {
			result <- err
			return
		}
		defer unix.Close(home)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("enter a network namespace: %w", err)
			return
		}
		err = fn()
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}
