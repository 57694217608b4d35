// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// fileidKernfs is the type of kernfs' file handles, the 64-bit node id: FILEID_KERNFS in the kernel's
// include/linux/exportfs.h, since Linux 5.5.
const fileidKernfs = 0xfe

// errNoHandles says that cgroups cannot be opened by their ids here.
var errNoHandles = errors.New("cgroups cannot be opened by id")

// handleTree opens the directories of one mounted kernfs by their ids.
type handleTree struct {
	mu    sync.RWMutex // held for reading while fd is used
	fd    int          // of the mount, -1 after close
	mount string       // as the kernel calls it
	root  uint64       // the mounted directory's id
}

// errOutside says that a directory is not below the mounted one: the kernel does not tell its path then.
var errOutside = errors.New("not in the part of the hierarchy that is mounted")

// openHandleTree opens the tree that is mounted at dir. Errors wrap errNoHandles when the file system or this process's
// privileges do not allow it.
func openHandleTree(dir string) (*handleTree, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	t := &handleTree{fd: fd}
	if err := t.probe(dir); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("%w: %w", errNoHandles, err)
	}
	return t, nil
}

// probe opens the tree's own directory by its id, and learns the name of the mount.
func (t *handleTree) probe(dir string) error {
	id, ok := handleID(dir)
	if !ok {
		return errors.New("not a kernfs")
	}
	link, err := t.link(id)
	if err != nil {
		return err
	}
	t.mount, t.root = link, id
	return nil
}

// path returns where the directory with an id is below the mount, as "/" or "/x/y", and whether it was removed just
// now. The error is ESTALE when there is no such directory, or errOutside.
func (t *handleTree) path(id uint64) (rel string, removed bool, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.fd < 0 {
		return "", false, os.ErrClosed
	}
	link, err := t.link(id)
	if err != nil {
		return "", false, err
	}
	if name, ok := strings.CutSuffix(link, " (deleted)"); ok {
		// A cgroup may really be called that.
		if _, err := os.Lstat(link); err != nil {
			link, removed = name, true
		}
	}
	rel, below := pathBelow(link, t.mount)
	if !below {
		// The kernel calls them all "/" (prepend_path in fs/d_path.c).
		return "", false, errOutside
	}
	return rel, removed, nil
}

func (t *handleTree) link(id uint64) (string, error) {
	var node [8]byte
	binary.NativeEndian.PutUint64(node[:], id)
	fd, err := unix.OpenByHandleAt(t.fd, unix.NewFileHandle(fileidKernfs, node[:]), unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return "", os.NewSyscallError("open_by_handle_at", err)
	}
	defer unix.Close(fd)
	return os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
}

func (t *handleTree) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd < 0 {
		return nil
	}
	err := unix.Close(t.fd)
	t.fd = -1
	return os.NewSyscallError("close", err)
}

// handleID returns the kernfs id of a directory.
func handleID(dir string) (uint64, bool) {
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, dir, 0)
	if err != nil || handle.Type() != fileidKernfs || handle.Size() != 8 {
		return 0, false
	}
	return binary.NativeEndian.Uint64(handle.Bytes()), true
}

// idOf returns the id of a cgroup's directory: that of its handle or, where it has none, its inode number,
// which is the same since Linux 5.5.
func idOf(dir string, info fs.FileInfo) (uint64, error) {
	if id, ok := handleID(dir); ok {
		return id, nil
	}
	if id, ok := inode(info); ok {
		return id, nil
	}
	return 0, errors.New("no inode number")
}

func inode(info fs.FileInfo) (uint64, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return stat.Ino, true
}

// infoOf returns the file info of a walk's entry; nil stands for the walk's own directory.
func infoOf(dir string, entry fs.DirEntry) (fs.FileInfo, error) {
	if entry == nil {
		return os.Stat(dir)
	}
	return entry.Info()
}
