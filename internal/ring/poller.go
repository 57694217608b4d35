// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ring

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// poller waits for a ring's wake-ups, or for the end.
type poller struct {
	epoll int
	event int // an eventfd that is never read: once written, it ends each wait
}

// newPoller polls the ring buffer fd. The poller has to be closed also when there is an error.
func newPoller(fd int) (p poller, err error) {
	p = poller{epoll: -1, event: -1}
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return p, fmt.Errorf("create an epoll instance: %w", err)
	}
	if p.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return p, fmt.Errorf("create an eventfd: %w", err)
	}
	// Edge-triggered: the kernel's wake-ups are what counts. A level would be up as long as there is
	// a single byte, and so undo what writers save with BPF_RB_NO_WAKEUP.
	ring := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)}
	if err = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &ring); err != nil {
		return p, fmt.Errorf("poll a ring buffer: %w", err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(p.event)}
	if err = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, p.event, &event); err != nil {
		return p, fmt.Errorf("poll an eventfd: %w", err)
	}
	return p, nil
}

// wait returns at a wake-up, after d, or when wake has been called (closed).
func (p poller) wait(d time.Duration) (closed bool, err error) {
	deadline := time.Now().Add(d)
	for {
		var events [2]unix.EpollEvent
		n, err := unix.EpollWait(p.epoll, events[:], milliseconds(d))
		if errors.Is(err, unix.EINTR) {
			// The Go runtime sends signals to preempt goroutines.
			if d >= 0 {
				d = max(0, time.Until(deadline))
			}
			continue
		}
		if err != nil {
			return false, err
		}
		for _, event := range events[:n] {
			closed = closed || event.Fd == int32(p.event)
		}
		return closed, nil
	}
}

// milliseconds is d as epoll_wait(2) takes it: rounded up, -1 for ever.
func milliseconds(d time.Duration) int {
	if d < 0 {
		return -1
	}
	return int(min((d+time.Millisecond-1)/time.Millisecond, math.MaxInt32))
}

// wake ends all waits, now and later.
func (p poller) wake() error {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	if _, err := unix.Write(p.event, one[:]); err != nil {
		return fmt.Errorf("wake the waiting: %w", err)
	}
	return nil
}

func (p poller) close() error {
	var errs []error
	for _, fd := range []int{p.epoll, p.event} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}
