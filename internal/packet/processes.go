// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// maxNamespaces bounds how many namespaces are followed.
	maxNamespaces = 4096
	// maxPids bounds how many processes are remembered for each.
	maxPids = 64
)

// scan is what a look at all processes found.
type scan struct {
	// pids are by the inode of the network namespace, the lowest first.
	pids map[uint32][]int
	// denied tells that some processes could not be looked at.
	denied bool
	// more tells that there are more namespaces than are followed.
	more bool
}

// scanProcesses looks at which network namespace each process is in. That of another user's process needs CAP_SYS_PTRACE; see
// proc_pid_ns(5). A thread that left its process's namespace is not looked for.
func scanProcesses(proc string) (*scan, error) {
	dir, err := os.Open(proc)
	if err != nil {
		return nil, fmt.Errorf("look for network namespaces: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("look for network namespaces: %w", err)
	}
	s := &scan{pids: make(map[uint32][]int)}
	at := int(dir.Fd())
	var buffer [64]byte
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		n, err := unix.Readlinkat(at, name+"/ns/net", buffer[:])
		if err != nil {
			// A process that ended says ENOENT or ESRCH, one that is about to be reaped has none.
			s.denied = s.denied || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
			continue
		}
		inode, ok := parseNamespace(string(buffer[:n]))
		if !ok {
			continue
		}
		pids, known := s.pids[inode]
		switch {
		case !known && len(s.pids) >= maxNamespaces:
			s.more = true
		case len(pids) < maxPids:
			s.pids[inode] = append(pids, pid)
		}
	}
	return s, nil
}

// parseNamespace reads "net:[4026531840]".
func parseNamespace(link string) (uint32, bool) {
	rest, ok := strings.CutPrefix(link, "net:[")
	if !ok {
		return 0, false
	}
	rest, ok = strings.CutSuffix(rest, "]")
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(rest, 10, 32)
	return uint32(inode), err == nil
}

// ours tells whether a proc file system numbers processes as this process does.
func ours(proc string) bool {
	link, err := os.Readlink(filepath.Join(proc, "self"))
	return err == nil && link == strconv.Itoa(os.Getpid())
}
