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

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

func TestOverSockets(t *testing.T) {
	for hook, want := range map[string]bool{"tcp": true, "udp": true, "task": false, "bpf_sk_storage_map": false} {
		spec := &ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: hook}
		assert.Equal(t, want, overSockets(spec), hook)
		assert.Equal(t, hook == "bpf_sk_storage_map", overElements(spec), hook)
	}
	assert.False(t, overSockets(&ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "tcp"}))
}

// Whoever may not enter other namespaces is told so; that a process has ended is no reason.
func TestKernelNetworkNamespacesRefused(t *testing.T) {
	needs.Root(t)
	other := exec.Command("cat")
	other.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	stdin, err := other.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, other.Start())
	defer func() { stdin.Close(); assert.NoError(t, other.Wait()) }()
	root := t.TempDir()
	link := func(pid, ns string) {
		require.NoError(t, os.MkdirAll(filepath.Join(root, "proc", pid, "ns"), 0o755))
		require.NoError(t, os.Symlink(ns, filepath.Join(root, "proc", pid, "ns", "net")))
	}
	pid := strconv.Itoa(other.Process.Pid)
	link(pid, "/proc/"+pid+"/ns/net")
	link("1000000000", "/proc/1000000000/ns/net")
	for _, privileged := range []bool{true, false} {
		visits := 0
		done := make(chan *networkNamespaces)
		go func() {
			runtime.LockOSThread() // for good
			if !privileged {
				var none [2]unix.CapUserData
				assert.NoError(t, unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]))
			}
			n, err := openNetworkNamespaces(root)
			if assert.NoError(t, err) {
				assert.NoError(t, n.each(func(uint32) (bool, error) { visits++; return true, nil }, func(uint32) {}))
			}
			done <- n
		}()
		n := <-done
		if privileged {
			require.NoError(t, n.refused)
			assert.Equal(t, 2, visits)
		} else {
			require.ErrorIs(t, n.refused, os.ErrPermission)
			assert.Equal(t, 1, visits)
		}
		assert.NoError(t, n.close())
	}
}

// Sockets are looked for in the namespace that the probe was loaded in, whichever thread comes; and once in those of processes.
func TestKernelNetworkNamespaces(t *testing.T) {
	needs.Root(t)
	here := func() string {
		name, err := os.Readlink("/proc/thread-self/ns/net")
		require.NoError(t, err)
		return name
	}
	var n *networkNamespaces
	var own string
	loaded := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			own = here()
			n, err = openNetworkNamespaces("")
		}
		loaded <- err
	}()
	require.NoError(t, <-loaded)
	t.Cleanup(func() { assert.NoError(t, n.close()) })

	other := exec.Command("cat")
	other.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	stdin, err := other.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, other.Start())
	t.Cleanup(func() { stdin.Close(); assert.NoError(t, other.Wait()) })
	others, err := os.Readlink("/proc/" + strconv.Itoa(other.Process.Pid) + "/ns/net")
	require.NoError(t, err)

	before := here()
	visit := func() (seen map[string]int, first string) {
		seen = map[string]int{}
		require.NoError(t, n.each(func(uint32) (bool, error) {
			if len(seen) == 0 {
				first = here()
			}
			seen[here()]++
			return true, nil
		}, func(uint32) {}))
		return seen, first
	}
	seen, first := visit()
	assert.Equal(t, own, first)
	assert.Equal(t, 1, seen[own])
	assert.Equal(t, 1, seen[others])
	assert.Equal(t, 1, seen[before], "that of this process")
	seen, _ = visit()
	assert.Equal(t, map[string]int{own: 1}, seen)
	assert.Equal(t, before, here(), "no thread is left elsewhere")
}
