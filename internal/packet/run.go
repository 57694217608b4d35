// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"errors"
	"fmt"
	"math"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	// soonest is how long after a look at all processes the next one may be.
	soonest = 20 * time.Millisecond
	// share is how many times as long as a look took there is none afterwards.
	share = 20
)

// run owns all that changes, until the end.
func (f *Follower) run(host *namespace, started chan<- error) {
	defer close(f.done)
	defer f.end()
	err := f.add(host)
	if err == nil {
		f.watchable = ours(f.proc)
		f.tick()
	}
	started <- err
	if err != nil {
		return
	}
	for {
		if err := f.wait(); err != nil {
			f.log.Error("interfaces are not followed any more", zap.Error(err))
			return
		}
		f.mu.Lock()
		closing, waiters := f.closing, f.waiters
		f.waiters = nil
		f.mu.Unlock()
		if closing {
			return
		}
		if len(waiters) > 0 || !time.Now().Before(f.next) {
			f.tick()
		}
		for _, seen := range waiters {
			close(seen)
		}
	}
}

// wait handles what can be read, at the latest when the next tick is due.
func (f *Follower) wait() error {
	var events [64]unix.EpollEvent
	left := max(0, time.Until(f.next))
	n, err := unix.EpollWait(f.epoll, events[:], int(min((left+time.Millisecond-1)/time.Millisecond, math.MaxInt32)))
	if err != nil {
		if errors.Is(err, unix.EINTR) {
			return nil // the Go runtime's signals
		}
		return fmt.Errorf("wait for changes: %w", err)
	}
	for _, event := range events[:n] {
		// A descriptor that was closed while this was handled may have been opened again as another one, which has nothing to read yet:
		// all that are polled are prepared for that.
		if fn := f.polled[event.Fd]; fn != nil {
			fn()
		}
	}
	return nil
}

// tick looks at all processes, where that is needed, and tries again what failed.
func (f *Follower) tick() {
	begin := time.Now()
	f.next = time.Time{}
	if f.opts.Namespaces == AllNamespaces || f.opts.Addresses {
		f.look(begin)
	}
	for _, n := range f.namespaces {
		if n.stale {
			f.list(n)
		}
		f.reconcile(n)
	}
	f.looked = time.Now()
	f.cost = f.looked.Sub(begin)
	// Something may have asked for an earlier one meanwhile.
	if regular := f.looked.Add(max(f.opts.Interval, share*f.cost)); f.next.IsZero() || f.next.After(regular) {
		f.next = regular
	}
	f.mu.Lock()
	f.names.expire(f.looked)
	f.owners.expire(f.looked)
	f.mu.Unlock()
}

// soon makes the next tick come early, as far as ticks are cheap.
func (f *Follower) soon(after time.Duration) {
	at := time.Now().Add(max(after, share*f.cost-time.Since(f.looked)))
	if at.Before(f.next) || f.next.IsZero() {
		f.next = at
	}
}

// look finds namespaces that are new, and lets go of those that have no process any more.
func (f *Follower) look(now time.Time) {
	s, err := scanProcesses(f.proc)
	f.limit("processes", err)
	if err != nil {
		return
	}
	var denied error
	// A process that a sandbox protects is denied to those with the capability, too.
	if s.denied && !has(unix.CAP_SYS_PTRACE) {
		denied = permission("look at the network namespaces of all processes", "CAP_SYS_PTRACE", unix.EACCES)
	}
	f.limit("denied", denied)
	var more error
	if s.more {
		more = fmt.Errorf("there are more than %d network namespaces: the others are not followed", maxNamespaces)
	}
	f.limit("more", more)

	f.mu.Lock()
	f.owners.setPids(s.pids, now)
	f.mu.Unlock()
	f.letGo(s, now)
	var refused error
	for inode, pids := range s.pids {
		n := f.namespaces[inode]
		if n == nil {
			if now.Sub(f.refused[inode]) < time.Minute {
				continue
			}
			if n, err = f.enter(inode, pids); err != nil {
				f.refused[inode] = now
				refused = err
				continue
			}
			if n == nil {
				continue // all its processes ended
			}
		}
		n.missing = 0
		f.watch(n, pids)
	}
	for inode := range f.refused {
		if _, there := s.pids[inode]; !there {
			delete(f.refused, inode)
		}
	}
	if len(f.refused) == 0 || refused != nil {
		f.limit("enter", refused)
	}
}

// letGo of namespaces without a process. Processes that are born while others die may be overlooked once: it takes two looks.
func (f *Follower) letGo(s *scan, now time.Time) {
	for inode, n := range f.namespaces {
		if _, there := s.pids[inode]; there || n.host {
			continue
		}
		if n.missing++; n.missing < 2 {
			f.soon(soonest)
			continue
		}
		f.remove(n, now)
	}
}

// watch waits for the end of one of a namespace's processes.
func (f *Follower) watch(n *namespace, pids []int) {
	if n.host || n.process >= 0 || !f.watchable || len(pids) == 0 {
		return
	}
	fd, err := unix.PidfdOpen(pids[0], 0) // since Linux 5.3; without it, the regular look notices
	if err != nil {
		return
	}
	ended := func() {
		if n.process != fd {
			return
		}
		f.close(fd)
		n.process = -1
		f.soon(soonest)
	}
	if f.poll(fd, ended) != nil {
		_ = unix.Close(fd)
		return
	}
	n.process = fd
}

// limit sets or clears one of the reasons why less is followed than was asked for. It is logged when it appears.
func (f *Follower) limit(name string, err error) {
	f.mu.Lock()
	_, had := f.limits[name]
	if err != nil {
		f.limits[name] = err
	} else {
		delete(f.limits, name)
	}
	f.mu.Unlock()
	if err != nil && !had {
		f.log.Warn("not all network namespaces are followed", zap.Error(err))
	}
}

// close closes a descriptor that may be polled.
func (f *Follower) close(fd int) {
	delete(f.polled, int32(fd))
	_ = unix.Close(fd)
}

// end lets go of everything.
func (f *Follower) end() {
	now := time.Now()
	for _, n := range f.namespaces {
		f.remove(n, now)
	}
	f.releases.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closing = true
	_ = unix.Close(f.epoll)
	_ = unix.Close(f.event)
}
