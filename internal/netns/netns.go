// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package netns runs code in other network namespaces.
package netns

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Thread is the link of the calling thread's network namespace.
const Thread = "/proc/thread-self/ns/net"

// Open opens a network namespace by the path of its link, and tells its number. Whoever opens it closes it.
func Open(path string) (fd int, inode uint32, err error) {
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

// Within calls fn on a thread that is in a namespace of some number. Sockets stay in the namespace that they were opened in.
func Within(fd int, inode uint32, fn func() error) error {
	runtime.LockOSThread()
	var stat unix.Stat_t
	err := unix.Stat(Thread, &stat)
	if err == nil && uint32(stat.Ino) == inode {
		defer runtime.UnlockOSThread()
		return fn()
	}
	runtime.UnlockOSThread()

	result := make(chan error, 1)
	go func() {
		defer close(result) // also when fn ends the goroutine
		// The thread goes back by itself. It is not left to end with a goroutine that stays locked: the process's first thread does not, and what
		// it is in is the whole process's /proc/net.
		runtime.LockOSThread()
		home, _, err := Open(Thread)
		if err != nil {
			runtime.UnlockOSThread()
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
