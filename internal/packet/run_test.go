// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

// run is a follower whose programs count.
type run struct {
	*Follower
	t testing.TB

	mu       sync.Mutex
	counters map[Key]*counter
	attached int // how often
	detached int
}

// rootOf is a file system with a /proc of only these processes, so that nobody else's namespaces are looked at. The first is the
// host's number 1.
func rootOf(t testing.TB, containers ...*container) string {
	t.Helper()
	root := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(root, "proc"), 0o755))
	require.NoError(t, os.Symlink(strconv.Itoa(os.Getpid()), filepath.Join(root, "proc", "self")))
	require.NoError(t, os.Symlink(containers[0].proc(), filepath.Join(root, "proc", "1")))
	for _, c := range containers[1:] {
		c.enter(root)
	}
	return root
}

func (c *container) proc() string { return filepath.Join("/proc", strconv.Itoa(c.process.Process.Pid)) }

// enter adds the container's process to a root's.
func (c *container) enter(root string) {
	c.t.Helper()
	require.NoError(c.t, os.Symlink(c.proc(), filepath.Join(root, "proc", filepath.Base(c.proc()))))
}

// follow follows with the space as the host.
func (s *space) follow(opts Options) (r *run) {
	s.t.Helper()
	s.in(func() { r = s.followHere(opts) })
	return r
}

// followHere follows with the calling thread's namespace as the host.
func (s *space) followHere(opts Options) *run {
	s.t.Helper()
	r := &run{t: s.t, counters: make(map[Key]*counter)}
	if opts.Logger == nil {
		opts.Logger = zaptest.NewLogger(s.t, zaptest.Level(zap.WarnLevel))
	}
	if opts.Attach == nil {
		opts.Attach = r.attach
	}
	opts.Detach = func(Interface) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.detached++
	}
	var err error
	r.Follower, err = Follow(s.t.Context(), opts)
	require.NoError(s.t, err)
	s.t.Cleanup(r.close)
	return r
}

func (r *run) attach(i Interface) (*ebpf.Program, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attached++
	c := r.counters[i.Key()]
	if c == nil {
		var err error
		if c, err = newCounter(i, 0); err != nil {
			return nil, err
		}
		r.counters[i.Key()] = c
	}
	return c.program, nil
}

func (r *run) close() {
	require.NoError(r.t, r.Follower.Close())
	r.forget()
}

// forget lets go of the programs.
func (r *run) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.counters {
		c.close()
	}
	clear(r.counters)
}

func (r *run) counter(key Key) *counter {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counters[key]
}

// find is an attachment by name.
func (r *run) find(s *space, name string) *Attachment {
	for _, a := range r.Attachments() {
		if a.Namespace == s.inode && a.Name == name {
			return &a
		}
	}
	return nil
}

// names are what is attached in a namespace, without errors.
func (r *run) attachedIn(s *space) []string {
	list := []string{}
	for _, a := range r.Attachments() {
		if a.Namespace == s.inode && a.Err == nil {
			list = append(list, a.Name)
		}
	}
	return list
}

// eventually waits for a condition that an event brings about.
func eventually(t testing.TB, condition func() bool, what string, args ...any) {
	t.Helper()
	require.Eventually(t, condition, time.Minute, 10*time.Millisecond, append([]any{what}, args...)...)
}

// descriptors counts this process's, by what they are.
func descriptors(t testing.TB) map[string]int {
	t.Helper()
	runtime.GC() // files of earlier tests that nobody closed
	runtime.GC()
	const dir = "/proc/self/fd"
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	kinds := make(map[string]int)
	for _, e := range list {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // that of the listing
		}
		kind, _, _ := strings.Cut(target, ":[")
		kinds[kind]++
	}
	return kinds
}
