// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// overSockets tells whether the program is an iterator over the sockets of one network namespace: that of the thread that opens it
// (bpf_iter_init_seq_net in fs/proc/proc_net.c).
func overSockets(spec *ebpf.ProgramSpec) bool {
	return spec.Type == ebpf.Tracing && spec.AttachType == ebpf.AttachTraceIter && (spec.AttachTo == "tcp" || spec.AttachTo == "udp")
}

// networkNamespaces are where iterators over sockets go. At first, all namespaces of processes are visited, so that a probe gets to know
// the sockets that were there before it; later just its own, since what is new in the others it sees come.
type networkNamespaces struct {
	// own is the namespace that the probe was loaded in: an iterator may be opened by any thread, and the threads of a process may be in
	// several.
	own     *os.File
	inode   uint64
	proc    string
	visited bool
	// refused is why others could not be entered, where they could not.
	refused error
}

func openNetworkNamespaces(root string) (*networkNamespaces, error) {
	n := &networkNamespaces{proc: filepath.Join("/", root, "proc")}
	var err error
	if n.own, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return nil, fmt.Errorf("open the network namespace: %w", err)
	}
	if n.inode, err = inodeOf(n.own); err != nil {
		_ = n.own.Close()
		return nil, err
	}
	return n, nil
}

func (n *networkNamespaces) close() error {
	if n == nil {
		return nil
	}
	return n.own.Close()
}

// each calls fn on threads in one namespace after the other, the own one first, with its number. Others that can not be entered, for want
// of a right or because they have ended, are left out.
func (n *networkNamespaces) each(fn func(inode uint64) error) error {
	if err := within(n.own, n.inode, fn); err != nil {
		return err
	}
	if n.visited {
		return nil
	}
	n.visited = true
	for _, path := range n.others() {
		f, err := os.Open(path)
		if err != nil {
			n.note(err)
			continue
		}
		if inode, err := inodeOf(f); err == nil {
			n.note(within(f, inode, fn))
		}
		_ = f.Close()
	}
	return nil
}

// note remembers that the right to enter a namespace is wanting.
func (n *networkNamespaces) note(err error) {
	if n.refused == nil && errors.Is(err, fs.ErrPermission) {
		n.refused = err
	}
}

// others are the links of one process in each other namespace.
func (n *networkNamespaces) others() (paths []string) {
	entries, err := os.ReadDir(n.proc)
	if err != nil {
		return nil
	}
	known := map[string]bool{fmt.Sprintf("net:[%d]", n.inode): true}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		path := filepath.Join(n.proc, e.Name(), "ns", "net")
		name, err := os.Readlink(path)
		n.note(err)
		if err == nil && !known[name] {
			known[name] = true
			paths = append(paths, path)
		}
	}
	return paths
}

func inodeOf(f *os.File) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return 0, fmt.Errorf("identify a network namespace: %w", err)
	}
	return stat.Ino, nil
}

// within calls fn on a thread that is in a namespace.
func within(namespace *os.File, inode uint64, fn func(inode uint64) error) error {
	runtime.LockOSThread()
	var stat unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &stat); err == nil && stat.Ino == inode {
		defer runtime.UnlockOSThread()
		return fn(inode)
	}
	runtime.UnlockOSThread()
	result := make(chan error, 1)
	go func() {
		// It stays locked, so that its thread ends with it and nobody else is in that namespace by accident.
		runtime.LockOSThread()
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter a network namespace: %w", err)
			return
		}
		result <- fn(inode)
	}()
	return <-result
}

// iterator is one that is attached.
type iterator struct {
	*link.Iter
	// sockets tells that it goes over those of one network namespace.
	sockets bool
}
