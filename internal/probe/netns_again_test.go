// SPDX-License-Identifier: Apache-2.0

//go:build linux

package probe

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/internal/netns"
	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// asleep is a process in a network namespace of its own.
func asleep(t *testing.T) (link string, inode uint32) {
	t.Helper()
	other := exec.Command("cat")
	other.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	stdin, err := other.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, other.Start())
	t.Cleanup(func() { stdin.Close(); assert.NoError(t, other.Wait()) })
	link = "/proc/" + strconv.Itoa(other.Process.Pid) + "/ns/net"
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(link, &stat))
	return link, uint32(stat.Ino)
}

// A namespace that has begun later is visited when others are looked for again, until it is known, and is gone with its last process. One that could not be entered
// since a process has just ended is entered by another's link. The own one stays, whoever goes.
func TestKernelNetworkNamespacesAgain(t *testing.T) {
	needs.Root(t)
	root := t.TempDir()
	begin := func(pid, link string) {
		require.NoError(t, os.MkdirAll(filepath.Join(root, "proc", pid, "ns"), 0o755))
		require.NoError(t, os.Symlink(link, filepath.Join(root, "proc", pid, "ns", "net")))
	}
	end := func(pid string) { require.NoError(t, os.RemoveAll(filepath.Join(root, "proc", pid))) }
	n, err := openNetworkNamespaces(root)
	require.NoError(t, err)
	defer func() { assert.NoError(t, n.close()) }()
	visits, gone, crowded := map[uint32]int{}, map[uint32]int{}, map[uint32]bool{}
	look := func() {
		for range lookEvery {
			require.NoError(t, n.each(func(inode uint32) (bool, error) {
				visits[inode]++
				return !crowded[inode], nil
			}, func(inode uint32) { gone[inode]++ }))
		}
	}
	first, a := asleep(t)
	second, b := asleep(t)
	begin("1", first)
	begin("2", netns.Thread)
	look()
	assert.Equal(t, map[uint32]int{n.inode: lookEvery, a: 1}, visits)

	begin("3", first)
	begin("4", second)
	crowded[b] = true
	look()
	look()
	assert.Equal(t, map[uint32]int{n.inode: 3 * lookEvery, a: 1, b: 2}, visits)
	crowded[b] = false
	look()
	look()
	assert.Equal(t, map[uint32]int{n.inode: 5 * lookEvery, a: 1, b: 3}, visits)

	// Between its name and its visit, a process may end.
	ended := filepath.Join(root, "ended")
	begin("5", ended)
	look()
	third, c := asleep(t)
	require.NoError(t, os.Symlink(third, ended))
	look()
	look()
	assert.Equal(t, map[uint32]int{n.inode: 8 * lookEvery, a: 1, b: 3, c: 1}, visits)

	end("1")
	end("2")
	end("4")
	assert.Empty(t, gone)
	look()
	look()
	assert.Equal(t, map[uint32]int{b: 1}, gone)
	assert.Equal(t, map[uint32]int{n.inode: 10 * lookEvery, a: 1, b: 3, c: 1}, visits)
	require.NoError(t, n.refused)
}

// A probe may have iterators over several kinds of sockets: each of them sees the sockets of all network namespaces.
func TestKernelIteratorsOverSockets(t *testing.T) {
	needs.Root(t)
	inode := make(chan uint32)
	go func() {
		runtime.LockOSThread() // for good
		var number uint32
		defer func() { inode <- number }()
		if !assert.NoError(t, unix.Unshare(unix.CLONE_NEWNET)) {
			return
		}
		for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
			fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
			if !assert.NoError(t, err) || !assert.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Port: 9})) {
				return
			}
			t.Cleanup(func() { unix.Close(fd) })
			if kind == unix.SOCK_STREAM {
				assert.NoError(t, unix.Listen(fd, 1))
			}
		}
		cat := exec.Command("cat") // namespaces are found by processes
		in, err := cat.StdinPipe()
		if !assert.NoError(t, err) || !assert.NoError(t, cat.Start()) {
			return
		}
		t.Cleanup(func() { in.Close(); assert.NoError(t, cat.Wait()) })
		var stat unix.Stat_t
		assert.NoError(t, unix.Stat("/proc/thread-self/ns/net", &stat))
		number = uint32(stat.Ino)
	}()
	number := <-inode
	require.NotZero(t, number)
	spec := fixtureSpec(t)
	p := load(t, spec, choice{metrics: map[string][]string{"ebpf.fixture.sockets": {"network_namespace"}}}.settings(t, spec))
	require.NoError(t, p.Attach())
	var seen uint64
	require.NoError(t, p.maps["sockets"].Lookup(number, &seen))
	assert.EqualValues(t, 3, seen)
	require.NoError(t, p.Detach())
}

// The own process's first thread, which its link tells of, may be in any namespace for a moment.
func TestKernelNetworkNamespacesOfOwnThreads(t *testing.T) {
	needs.Root(t)
	root := t.TempDir()
	link, _ := asleep(t)
	require.NoError(t, os.MkdirAll(filepath.Join(root, "proc", "7", "ns"), 0o755))
	require.NoError(t, os.Symlink("7", filepath.Join(root, "proc", "self")))
	require.NoError(t, os.Symlink(link, filepath.Join(root, "proc", "7", "ns", "net")))
	n, err := openNetworkNamespaces(root)
	require.NoError(t, err)
	defer func() { assert.NoError(t, n.close()) }()
	visits := map[uint32]int{}
	require.NoError(t, n.each(func(inode uint32) (bool, error) {
		visits[inode]++
		return true, nil
	}, func(uint32) {}))
	assert.Equal(t, map[uint32]int{n.inode: 1}, visits)
}
