// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/internal/netns"
)

// overSockets tells whether the program is an iterator over the sockets of one network namespace: that of the thread that opens it
// (bpf_iter_init_seq_net in fs/proc/proc_net.c).
func overSockets(spec *ebpf.ProgramSpec) bool {
	return spec.Type == ebpf.Tracing && spec.AttachType == ebpf.AttachTraceIter && (spec.AttachTo == "tcp" || spec.AttachTo == "udp")
}

// lookEvery is at which visit the namespaces of processes are looked for again. To read the links of 1,000 processes takes some 30 ms on a busy host.
const lookEvery = 10

// networkNamespaces are where iterators over sockets go. At first, all namespaces of processes are visited, so that a probe gets to know
// the sockets that were there before it; later just its own, since what is new in the others it sees come, and once each of those that have come since.
type networkNamespaces struct {
	// own is the namespace that the probe was loaded in: an iterator may be opened by any thread, and the threads of a process may be in
	// several.
	own    int
	inode  uint32
	proc   string
	visits int
	// known are those of the last look that need no visit, by what their links say: with their numbers, or 0 where they can not be entered.
	known map[string]uint32
	// refused is why others could not be entered, where they could not.
	refused error
}

func openNetworkNamespaces(root string) (*networkNamespaces, error) {
	n := &networkNamespaces{proc: filepath.Join("/", root, "proc"), known: make(map[string]uint32)}
	var err error
	if n.own, n.inode, err = netns.Open(netns.Thread); err != nil {
		return nil, err
	}
	return n, nil
}

func (n *networkNamespaces) close() error {
	if n == nil {
		return nil
	}
	return unix.Close(n.own)
}

// each calls visit on threads in one namespace after the other, the own one first, with its number. It tells whether that namespace is now known; if not, it is
// visited again at a later look. Others that can not be entered, for want of a right or because they have ended, are left out. Gone is called with the numbers
// of others that have no process any more.
func (n *networkNamespaces) each(visit func(inode uint32) (known bool, err error), gone func(inode uint32)) error {
	err := netns.Within(n.own, n.inode, func() error {
		_, err := visit(n.inode)
		return err
	})
	if err != nil {
		return err
	}
	n.visits++
	if n.visits%lookEvery != 1 {
		return nil
	}
	links, err := n.links()
	if err != nil {
		return nil //nolint:nilerr // without /proc there are no others
	}
	for name, inode := range n.known {
		if links[name] == "" {
			delete(n.known, name)
			if inode != n.inode { // from which others may go
				gone(inode)
			}
		}
	}
	for _, name := range sortedKeys(links) {
		if _, ok := n.known[name]; ok {
			continue
		}
		inode, known, err := n.enter(name, links[name], visit)
		if known || n.refuses(links[name], err) {
			n.known[name] = inode
		}
	}
	return nil
}

// enter visits the namespace of a process, unless it is the own one. Since its name was read, the process may have gone to another one.
func (n *networkNamespaces) enter(name, link string, visit func(inode uint32) (bool, error)) (inode uint32, known bool, err error) {
	fd, inode, err := netns.Open(link)
	if err != nil {
		return 0, false, err
	}
	defer unix.Close(fd)
	if now, err := os.Readlink(link); err != nil || now != name {
		return inode, false, err
	}
	if inode == n.inode {
		return inode, true, nil
	}
	err = netns.Within(fd, inode, func() (err error) {
		known, err = visit(inode)
		return err
	})
	return inode, known, err
}

// refuses tells whether an error is for want of the right to enter the namespace of a process, and remembers it. To read the link of one that has just ended is
// refused as well (proc_ns_readlink in fs/proc/namespaces.c).
func (n *networkNamespaces) refuses(link string, err error) bool {
	if !errors.Is(err, fs.ErrPermission) {
		return false
	}
	if _, err := os.Stat(filepath.Dir(link)); err != nil {
		return false
	}
	if n.refused == nil {
		n.refused = err
	}
	return true
}

// links are those of one process in each namespace, by what they say. The own process is none of them: its link is that of its first thread, which may be
// in any of them for a moment.
func (n *networkNamespaces) links() (map[string]string, error) {
	entries, err := os.ReadDir(n.proc)
	if err != nil {
		return nil, err
	}
	links := make(map[string]string)
	self, _ := os.Readlink(filepath.Join(n.proc, "self"))
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil || e.Name() == self {
			continue
		}
		link := filepath.Join(n.proc, e.Name(), "ns", "net")
		name, err := os.Readlink(link)
		if err != nil {
			n.refuses(link, err)
		} else if links[name] == "" {
			links[name] = link
		}
	}
	return links, nil
}

// iterator is one that is attached.
type iterator struct {
	*link.Iter
	// sockets tells that it goes over those of one network namespace.
	sockets bool
}
