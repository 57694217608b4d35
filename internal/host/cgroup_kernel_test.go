// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// eachHierarchy runs a test in each version that is mounted.
func eachHierarchy(t *testing.T, test func(t *testing.T, h Hierarchy)) {
	needs.Root(t)
	ran := false
	for _, want := range []string{"v2", "v1"} {
		h, err := FindHierarchy("", want)
		if errors.Is(err, ErrNoHierarchy) {
			continue
		}
		require.NoError(t, err)
		ran = true
		t.Run(want, func(t *testing.T) { test(t, h) })
	}
	require.True(t, ran, "no cgroup hierarchy is mounted")
}

// makeCgroup makes a cgroup and returns its path in the hierarchy. It removes it in the end.
func makeCgroup(t testing.TB, h Hierarchy, name string) string {
	t.Helper()
	dir := filepath.Join(h.Mount, name)
	require.NoError(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() {
		if err := os.Remove(dir); !errors.Is(err, os.ErrNotExist) {
			assert.NoError(t, err)
		}
	})
	return name
}

func uniqueName() string {
	return fmt.Sprintf("/ebpfreceiver-test-%d-%d", os.Getpid(), time.Now().UnixNano())
}

func openCgroups(t testing.TB, h Hierarchy) *Cgroups {
	t.Helper()
	c, err := NewCgroups(CgroupOptions{Hierarchy: h})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, c.Close()) })
	return c
}

func TestKernelCgroupsResolve(t *testing.T) {
	eachHierarchy(t, func(t *testing.T, h Hierarchy) {
		outer := makeCgroup(t, h, uniqueName())
		container := makeCgroup(t, h, outer+"/docker-"+idA+".scope")
		odd := makeCgroup(t, h, outer+"/blank and (deleted)")
		fooling := makeCgroup(t, h, outer+"/really (deleted)")

		exact, walking := openCgroups(t, h), openCgroups(t, h)
		require.True(t, exact.Exact(), "root can open cgroups by id")
		assert.True(t, exact.Whole())
		require.NoError(t, walking.tree.close())
		walking.tree = nil

		for _, c := range []*Cgroups{exact, walking} {
			for _, name := range []string{"/", outer, container, odd, fooling} {
				want := inodeOf(t, h.Mount+name)
				got, err := c.IDOf(name)
				require.NoError(t, err)
				assert.Equal(t, want, got)
				assert.Equal(t, name, c.Resolve(want).Path)
			}
			id := inodeOf(t, h.Mount+container)
			assert.Equal(t, &Cgroup{ID: id, Path: container, ContainerID: idA, Runtime: "docker"}, c.Resolve(id))
		}
	})
}

func TestKernelCgroupsForgetsNone(t *testing.T) {
	eachHierarchy(t, func(t *testing.T, h Hierarchy) {
		name := makeCgroup(t, h, uniqueName())
		id := inodeOf(t, h.Mount+name)
		before := openCgroups(t, h)
		require.Equal(t, name, before.Resolve(id).Path)
		require.NoError(t, os.Remove(h.Mount+name))

		// Who knew it knows it still, and who did not cannot.
		assert.Equal(t, name, before.Resolve(id).Path)
		after := openCgroups(t, h)
		assert.Equal(t, &Cgroup{ID: id}, after.Resolve(id))
		_, err := before.IDOf(name)
		require.ErrorIs(t, err, os.ErrNotExist)

		// An id is not used again, even under the same name.
		makeCgroup(t, h, name)
		assert.NotEqual(t, id, inodeOf(t, h.Mount+name))
	})
}

func TestKernelCgroupsAfterClose(t *testing.T) {
	eachHierarchy(t, func(t *testing.T, h Hierarchy) {
		name := makeCgroup(t, h, uniqueName())
		c := openCgroups(t, h)
		require.NoError(t, c.Close())
		assert.Equal(t, &Cgroup{ID: inodeOf(t, h.Mount+name)}, c.Resolve(inodeOf(t, h.Mount+name)))
	})
}

// A container often sees only its own part of a hierarchy. The others' names are not to be had; the
// kernel calls them "/", which must not be believed.
func TestKernelCgroupsOfAPart(t *testing.T) {
	eachHierarchy(t, func(t *testing.T, h Hierarchy) {
		outer := makeCgroup(t, h, uniqueName())
		part := makeCgroup(t, h, outer+"/part")
		inside, outside := makeCgroup(t, h, part+"/inside"), makeCgroup(t, h, outer+"/outside")
		ids := map[string]uint64{}
		for _, name := range []string{part, inside, outside} {
			ids[name] = inodeOf(t, h.Mount+name)
		}
		mount := t.TempDir()
		paths := make(map[string]string)
		whole := true
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			// Never unlocked: the thread, and with it the mount, ends with the goroutine.
			runtime.LockOSThread()
			err = func() error {
				if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
					return err
				}
				if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
					return err
				}
				if err := unix.Mount(h.Mount+part, mount, "", unix.MS_BIND, ""); err != nil {
					return err
				}
				c, err := NewCgroups(CgroupOptions{Hierarchy: Hierarchy{Version: h.Version, Mount: mount, Root: part}})
				if err != nil {
					return err
				}
				whole = c.Whole()
				for name, id := range ids {
					paths[name] = c.Resolve(id).Path
				}
				return c.Close()
			}()
		}()
		<-done
		require.NoError(t, err)
		assert.Equal(t, map[string]string{part: part, inside: inside, outside: ""}, paths)
		assert.False(t, whole)
	})
}

// The ids that programs see are the ones that are resolved: asks bpf_get_current_cgroup_id() in a cgroup of our own.
func TestKernelCgroupIDIsThePrograms(t *testing.T) {
	needs.Root(t)
	h, err := FindHierarchy("", "v2")
	if errors.Is(err, ErrNoHierarchy) {
		t.Skip("cgroup v2 is not mounted")
	}
	require.NoError(t, err)

	results, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	require.NoError(t, err)
	defer results.Close()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:    ebpf.RawTracepoint,
		License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.FnGetCurrentCgroupId.Call(),
			asm.StoreMem(asm.RFP, -8, asm.R0, asm.DWord),
			asm.StoreImm(asm.RFP, -12, 0, asm.Word),
			asm.LoadMapPtr(asm.R1, results.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -12),
			asm.Mov.Reg(asm.R3, asm.RFP),
			asm.Add.Imm(asm.R3, -8),
			asm.Mov.Imm(asm.R4, 0),
			asm.FnMapUpdateElem.Call(),
			asm.Mov.Imm(asm.R0, 0),
			asm.Return(),
		},
	})
	require.NoError(t, err)
	defer program.Close()

	name := makeCgroup(t, h, uniqueName())
	data, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	home, ok := parseProcCgroup(data, h)
	require.True(t, ok)
	move := func(to string) error {
		return os.WriteFile(filepath.Join(h.Mount, to, "cgroup.procs"), []byte("0"), 0)
	}
	require.NoError(t, move(name))
	_, runErr := program.Run(&ebpf.RunOptions{})
	require.NoError(t, move(home))
	require.NoError(t, runErr)

	var id uint64
	require.NoError(t, results.Lookup(uint32(0), &id))
	c := openCgroups(t, h)
	assert.Equal(t, name, c.Resolve(id).Path)
	got, err := c.IDOf(name)
	require.NoError(t, err)
	assert.Equal(t, id, got)
}

func TestKernelCgroupsWithoutPrivileges(t *testing.T) {
	eachHierarchy(t, func(t *testing.T, h Hierarchy) {
		name := makeCgroup(t, h, uniqueName())
		id := inodeOf(t, h.Mount+name)
		var exact bool
		var path string
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread() // and never unlocked: the thread's capabilities are not to be had back
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var data [2]unix.CapUserData
			if err = unix.Capset(&header, &data[0]); err != nil {
				return
			}
			var c *Cgroups
			if c, err = NewCgroups(CgroupOptions{Hierarchy: h}); err != nil {
				return
			}
			exact, path = c.Exact(), c.Resolve(id).Path
			err = c.Close()
		}()
		<-done
		require.NoError(t, err)
		assert.False(t, exact)
		assert.Equal(t, name, path)
	})
}

func TestKernelDetectHierarchy(t *testing.T) {
	needs.Root(t)
	h, err := DetectHierarchy("")
	require.NoError(t, err)
	var stat unix.Statfs_t
	require.NoError(t, unix.Statfs(h.Mount, &stat))
	if h.Version == 2 {
		assert.EqualValues(t, unix.CGROUP2_SUPER_MAGIC, stat.Type)
		assert.Empty(t, h.Controller)
		return
	}
	assert.EqualValues(t, unix.CGROUP_SUPER_MAGIC, stat.Type)
	known, err := os.ReadFile("/proc/cgroups")
	require.NoError(t, err)
	assert.Contains(t, string(known), "\n"+h.Controller+"\t")
}

func BenchmarkKernelCgroupsFind(b *testing.B) {
	needs.Root(b)
	h, err := FindHierarchy("", "")
	require.NoError(b, err)
	name := makeCgroup(b, h, uniqueName())
	id := inodeOf(b, h.Mount+name)
	c := openCgroups(b, h)
	b.ReportAllocs()
	for b.Loop() {
		c.Forget(id)
		if c.Resolve(id).Path != name {
			b.Fatal("not found")
		}
	}
}
