// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeTime is a clock that is set by hand.
type fakeTime struct {
	mu  sync.Mutex
	now time.Time
}

func newFakeTime() *fakeTime { return &fakeTime{now: time.Unix(1_700_000_000, 0)} }

func (f *fakeTime) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *fakeTime) Add(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

// fakeCgroups is a tree of plain directories, whose ids are inode numbers and which are found by walking.
func fakeCgroups(t testing.TB, opts CgroupOptions, dirs ...string) *Cgroups {
	t.Helper()
	mount := t.TempDir()
	for _, dir := range dirs {
		require.NoError(t, os.MkdirAll(filepath.Join(mount, dir), 0o755))
	}
	opts.Hierarchy.Version, opts.Hierarchy.Mount = 2, mount
	c, err := NewCgroups(opts)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	require.False(t, c.Exact(), "a plain directory was taken for a cgroup")
	return c
}

func inodeOf(t testing.TB, name string) uint64 {
	t.Helper()
	var stat syscall.Stat_t
	require.NoError(t, syscall.Stat(name, &stat))
	return stat.Ino
}

func TestCgroupsResolve(t *testing.T) {
	c := fakeCgroups(t, CgroupOptions{}, "docker/"+idA+"/inner", "system.slice")
	mount := c.Hierarchy().Mount

	id := inodeOf(t, mount+"/docker/"+idA+"/inner")
	assert.Equal(t, &Cgroup{ID: id, Path: "/docker/" + idA + "/inner", ContainerID: idA, Runtime: "docker"}, c.Resolve(id))
	first := c.Resolve(id)
	assert.Same(t, first, c.Resolve(id))

	// That one walk found the others.
	root := inodeOf(t, mount)
	assert.Equal(t, 4, c.Len()-1)
	assert.Equal(t, &Cgroup{ID: root, Path: "/"}, c.Resolve(root))
	assert.Equal(t, "/system.slice", c.Resolve(inodeOf(t, mount+"/system.slice")).Path)
}

func TestCgroupsUnknownIsTriedAgain(t *testing.T) {
	clock := newFakeTime()
	c := fakeCgroups(t, CgroupOptions{Now: clock.Now, NegativeTTL: 2 * time.Second})
	dir := c.Hierarchy().Mount + "/late"

	// The id that a directory is going to have, found out by making it elsewhere.
	elsewhere := filepath.Join(t.TempDir(), "late")
	require.NoError(t, os.Mkdir(elsewhere, 0o755))
	id := inodeOf(t, elsewhere)

	assert.Equal(t, &Cgroup{ID: id}, c.Resolve(id))
	require.NoError(t, os.Rename(elsewhere, dir))
	require.Equal(t, id, inodeOf(t, dir))
	clock.Add(2*time.Second - 1)
	assert.Empty(t, c.Resolve(id).Path)
	clock.Add(1)
	assert.Equal(t, "/late", c.Resolve(id).Path)

	assert.Equal(t, &Cgroup{}, c.Resolve(0))
}

func TestCgroupsWalksAreLimited(t *testing.T) {
	clock := newFakeTime()
	c := fakeCgroups(t, CgroupOptions{Now: clock.Now}, "a", "b")
	assert.Empty(t, c.Resolve(1<<63).Path) // walks
	require.NoError(t, os.Mkdir(c.Hierarchy().Mount+"/new", 0o755))
	id := inodeOf(t, c.Hierarchy().Mount+"/new")
	assert.Empty(t, c.Resolve(id).Path) // must not
	clock.Add(DefaultNegativeTTL)
	assert.Equal(t, "/new", c.Resolve(id).Path)
}

func TestCgroupsLearn(t *testing.T) {
	clock := newFakeTime()
	c := fakeCgroups(t, CgroupOptions{Now: clock.Now, GoneTTL: time.Minute})
	const id = 1 << 40
	assert.Empty(t, c.Resolve(id).Path)

	path := []byte("/kubepods/pod" + uid + "/" + idA)
	c.Learn(id, string(path))
	want := &Cgroup{ID: id, Path: string(path), ContainerID: idA, PodUID: uid}
	assert.Equal(t, want, c.Resolve(id))

	// Gone, it is known until its time is over and room is made.
	c.MarkGone(id)
	clock.Add(time.Minute - 1)
	c.Learn(1, "/other")
	assert.Equal(t, want, c.Resolve(id))
	clock.Add(1)
	c.Learn(2, "/another")
	assert.Equal(t, &Cgroup{ID: id}, c.Resolve(id))

	c.Learn(id, "/x")
	c.Forget(id)
	assert.Empty(t, c.Resolve(id).Path)

	before := c.Len()
	c.Learn(0, "/zero")
	c.Learn(77, "")
	c.Learn(78, "relative")
	c.MarkGone(79)
	assert.Equal(t, before, c.Len())
}

func TestCgroupsAreBounded(t *testing.T) {
	c := fakeCgroups(t, CgroupOptions{Max: 10}, "a", "b")
	for id := uint64(1 << 40); id < 1<<40+100; id++ {
		c.Learn(id, fmt.Sprintf("/docker/%064x", id))
		assert.LessOrEqual(t, c.Len(), 10)
	}
	assert.NotEmpty(t, c.Resolve(1<<40+99).ContainerID)
	assert.Empty(t, c.Resolve(1<<40).ContainerID)

	// What is asked for is found even when there is no room for all that a walk comes across.
	full := fakeCgroups(t, CgroupOptions{Max: 1}, "a", "b", "c")
	assert.Equal(t, "/b", full.Resolve(inodeOf(t, full.Hierarchy().Mount+"/b")).Path)
	assert.Equal(t, 1, full.Len())
}

func TestCgroupsIDOf(t *testing.T) {
	root := t.TempDir()
	mount := root + "/sys/fs/cgroup"
	writeTree(t, mount, map[string]string{"system.slice/x.service/cgroup.procs": ""})
	c, err := NewCgroups(CgroupOptions{Root: root, Hierarchy: Hierarchy{Version: 2, Mount: mount}})
	require.NoError(t, err)
	defer c.Close()
	want := inodeOf(t, mount+"/system.slice/x.service")

	for _, name := range []string{
		"/system.slice/x.service",
		"/system.slice/x.service/",
		"/../system.slice/./x.service",
		"/sys/fs/cgroup/system.slice/x.service",
		mount + "/system.slice/x.service",
	} {
		got, err := c.IDOf(name)
		require.NoError(t, err, name)
		assert.Equal(t, want, got, name)
	}
	for _, name := range []string{"/", "", "/sys/fs/cgroup", mount} {
		got, err := c.IDOf(name)
		require.NoError(t, err, name)
		assert.Equal(t, inodeOf(t, mount), got, name)
	}
	for _, name := range []string{"/none", "/sys/fs/cgroup2", "/system.slice/x.service/cgroup.procs", "/etc"} {
		_, err := c.IDOf(name)
		require.ErrorIs(t, err, fs.ErrNotExist, name)
	}
}

func TestCgroupsOfAPart(t *testing.T) {
	c := fakeCgroups(t, CgroupOptions{Hierarchy: Hierarchy{Root: "/docker/" + idA}}, "inner")
	mount := c.Hierarchy().Mount
	id := inodeOf(t, mount+"/inner")
	assert.Equal(t, &Cgroup{ID: id, Path: "/docker/" + idA + "/inner", ContainerID: idA, Runtime: "docker"}, c.Resolve(id))

	got, err := c.IDOf("/docker/" + idA + "/inner")
	require.NoError(t, err)
	assert.Equal(t, id, got)
	_, err = c.IDOf("/inner")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestNewCgroupsWithoutATree(t *testing.T) {
	_, err := NewCgroups(CgroupOptions{Hierarchy: Hierarchy{Version: 2, Mount: filepath.Join(t.TempDir(), "none")}})
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestCgroupsConcurrently(t *testing.T) {
	c := fakeCgroups(t, CgroupOptions{Max: 50}, "a", "b")
	a := inodeOf(t, c.Hierarchy().Mount+"/a")
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := range 2000 {
				id := uint64(1<<40 + (i*7+worker)%100)
				switch i % 5 {
				case 0:
					c.Learn(id, fmt.Sprintf("/docker/%064x", id))
				case 1:
					c.MarkGone(id)
				case 2:
					c.Forget(id)
				default:
					if cg := c.Resolve(id); cg.ID != id || cg.Path != "" && cg.ContainerID != fmt.Sprintf("%064x", id) {
						t.Errorf("%d is %+v", id, cg)
						return
					}
				}
				if cg := c.Resolve(a); cg.ID != a || cg.Path != "" && cg.Path != "/a" {
					t.Errorf("%d is %+v", a, cg)
					return
				}
			}
		})
	}
	group.Wait()
	assert.LessOrEqual(t, c.Len(), 50)
}

func BenchmarkCgroupsResolve(b *testing.B) {
	c := fakeCgroups(b, CgroupOptions{})
	for id := uint64(1); id <= 1000; id++ {
		c.Learn(id, fmt.Sprintf("/docker/%064x", id))
	}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for id := uint64(0); b.Loop(); id++ {
			c.Resolve(id%1000 + 1)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for id := uint64(0); pb.Next(); id++ {
				c.Resolve(id%1000 + 1)
			}
		})
	})
	b.Run("unknown", func(b *testing.B) {
		c.Resolve(1 << 50)
		b.ReportAllocs()
		for b.Loop() {
			c.Resolve(1 << 50)
		}
	})
}
