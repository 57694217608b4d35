// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Defaults of [CgroupOptions].
const (
	DefaultMaxCgroups  = 16_384
	DefaultGoneTTL     = 5 * time.Minute
	DefaultNegativeTTL = 5 * time.Second
)

// CgroupOptions are the settings of [NewCgroups]. The zero value serves.
type CgroupOptions struct {
	// Root is where the host's root directory is mounted, such as "/hostfs"; empty for here.
	Root string
	// Hierarchy to resolve ids in; the zero value takes that of [DetectHierarchy].
	Hierarchy Hierarchy
	// Max bounds how many cgroups are remembered.
	Max int
	// GoneTTL is how long a cgroup is remembered after it was removed.
	GoneTTL time.Duration
	// NegativeTTL is how long an id that could not be resolved is not tried again.
	NegativeTTL time.Duration
	// Now is the clock; nil takes time.Now.
	Now func() time.Time
}

// Cgroup is what is known of a control group. It never changes once it was handed out.
type Cgroup struct {
	// ID is the kernel's: the kernfs node's, which is also the directory's inode number.
	ID uint64
	// Path in the hierarchy, "/" for the root, "" when unknown.
	Path string
	// Of the container and the pod that it belongs to; see [Container] for each.
	ContainerID, ContainerName, PodUID, Runtime string
}

// Cgroups resolves cgroup ids to paths and containers. It is safe for concurrent use.
type Cgroups struct {
	hierarchy   Hierarchy
	plainMount  string // Mount as the host has it, without the root path before it
	proc        string // the host's /proc
	tree        *handleTree
	whole       bool
	namespace   string // the path of the root of this process's cgroup namespace, "" when unknown
	cache       *cache[uint64, Cgroup]
	goneTTL     time.Duration
	negativeTTL time.Duration
	now         func() time.Time

	walkMu   sync.Mutex
	walkNext time.Time // no walk before it
}

// What walking through the whole tree to find an id may cost: at most maxWalkDirs directories, and at most
// 1/walkShare of the time.
const (
	maxWalkDirs = 100_000
	walkShare   = 20
	walkPause   = time.Second
)

// rootID is the id of every hierarchy's root: the first that kernfs gives, in kernfs_create_root.
const rootID = 1

// NewCgroups opens the cgroup hierarchy. Errors wrap [ErrNoHierarchy] when none is mounted. The caller must Close it.
//
// Ids are resolved by opening the kernfs file handle that they are, which takes CAP_DAC_READ_SEARCH; without
// it, by walks through the tree, which are limited.
func NewCgroups(opts CgroupOptions) (*Cgroups, error) {
	h := opts.Hierarchy
	if h.Mount == "" {
		var err error
		if h, err = DetectHierarchy(opts.Root); err != nil {
			return nil, fmt.Errorf("finding the cgroup hierarchy: %w", err)
		}
	}
	if h.Root == "" {
		h.Root = "/"
	}
	h.Mount = filepath.Clean(h.Mount)
	tree, err := openHandleTree(h.Mount)
	if err != nil && !errors.Is(err, errNoHandles) {
		return nil, fmt.Errorf("opening the cgroup hierarchy: %w", err)
	}
	root := uint64(rootID)
	if tree != nil {
		root = tree.root
	}
	c := &Cgroups{
		hierarchy:   h,
		plainMount:  h.Mount,
		proc:        under(opts.Root, "/proc"),
		tree:        tree,
		whole:       h.Root == "/" && root == rootID,
		goneTTL:     orDefault(opts.GoneTTL, DefaultGoneTTL),
		negativeTTL: orDefault(opts.NegativeTTL, DefaultNegativeTTL),
		cache:       newCache[uint64, Cgroup](orDefault(opts.Max, DefaultMaxCgroups)),
		now:         opts.Now,
	}
	if rel, ok := pathBelow(h.Mount, filepath.Clean(opts.Root)); ok && opts.Root != "" {
		c.plainMount = rel
	}
	if c.now == nil {
		c.now = time.Now
	}
	c.namespace = c.findNamespace()
	return c, nil
}

// findNamespace is where in the hierarchy this process's cgroup namespace begins. The kernel does not say that in a namespace, but what is mounted there has an id.
func (c *Cgroups) findNamespace() string {
	if !c.hierarchy.above {
		return "/"
	}
	info, err := os.Stat(c.hierarchy.namespace)
	if err != nil {
		return ""
	}
	id, err := idOf(c.hierarchy.namespace, info)
	if err != nil {
		return ""
	}
	return c.Resolve(id).Path
}

// fromNamespace turns a cgroup's name in /proc/PID/cgroup, which is as seen from the root of this process's cgroup namespace, into its path in the hierarchy.
// What is outside of the namespace ("/../x") has one only where the hierarchy is mounted from above it.
func (c *Cgroups) fromNamespace(name string) (string, bool) {
	switch c.namespace {
	case "":
		return "", false
	case "/":
		return name, !strings.HasPrefix(name, "/..")
	}
	return path.Join(c.namespace, name), true
}

// NoCgroups is for a host whose cgroups are not to be seen: no id has a name, but for those that [Cgroups.Learn] is told of.
func NoCgroups() *Cgroups {
	return &Cgroups{
		hierarchy: Hierarchy{Version: 2, Root: "/", Mount: "/nonexistent"}, plainMount: "/nonexistent", proc: "/nonexistent",
		goneTTL: DefaultGoneTTL, negativeTTL: DefaultNegativeTTL,
		cache: newCache[uint64, Cgroup](DefaultMaxCgroups), now: time.Now,
	}
}

// Hierarchy returns the hierarchy that ids are resolved in.
func (c *Cgroups) Hierarchy() Hierarchy { return c.hierarchy }

// Whole tells whether the whole hierarchy is mounted and not only a part of it, as in a container that has its own
// cgroup namespace. Cgroups outside of the part have no names unless [Cgroups.Learn] is told them.
func (c *Cgroups) Whole() bool { return c.whole }

// Exact tells whether any id can be resolved at once. It is false without CAP_DAC_READ_SEARCH.
func (c *Cgroups) Exact() bool { return c.tree != nil }

// Len returns how many ids are remembered, those that could not be resolved among them.
func (c *Cgroups) Len() int { return c.cache.len() }

// Close releases the hierarchy. Ids that are not yet known then remain so.
func (c *Cgroups) Close() error {
	if c.tree == nil {
		return nil
	}
	return c.tree.close()
}

// Resolve returns what is known of a cgroup, never nil: when nothing is, only the ID is set.
func (c *Cgroups) Resolve(id uint64) *Cgroup {
	cg, expires := c.cache.get(id)
	// A removed cgroup serves for as long as it is remembered: ids are not used again.
	if cg != nil && (cg.Path != "" || c.now().UnixNano() < expires) {
		return cg
	}
	return c.find(id, cg)
}

// find resolves an id that is not known, or was not when it was last tried.
func (c *Cgroups) find(id uint64, old *Cgroup) *Cgroup {
	found, gone := "", false
	switch {
	case id == 0: // no cgroup
	case c.tree != nil:
		if rel, removed, err := c.tree.path(id); err == nil {
			found, gone = path.Join(c.hierarchy.Root, rel), removed
		}
	default:
		found = c.walk(id)
	}
	now := c.now()
	if found == "" {
		return c.cache.replace(id, old, &Cgroup{ID: id}, rankUnknown, now.Add(c.negativeTTL).UnixNano(), now.UnixNano())
	}
	r, expires := rankLive, int64(0)
	if gone {
		r, expires = rankGone, now.Add(c.goneTTL).UnixNano()
	}
	return c.cache.replace(id, old, newCgroup(id, found), r, expires, now.UnixNano())
}

// Learn is told of a new cgroup, from the kernel's own events, so that it has a name even if it is gone
// before anybody asks. The path is the one in the hierarchy. The caller leaves out other hierarchies' events.
func (c *Cgroups) Learn(id uint64, name string) {
	if id == 0 || !strings.HasPrefix(name, "/") {
		return
	}
	c.cache.put(id, newCgroup(id, name), rankLive, 0, c.now().UnixNano())
}

// MarkGone is told that a cgroup was removed: it is remembered for a while yet.
func (c *Cgroups) MarkGone(id uint64) {
	now := c.now()
	c.cache.retire(id, rankGone, now.Add(c.goneTTL).UnixNano(), now.UnixNano())
}

// Forget drops what is known of a cgroup.
func (c *Cgroups) Forget(id uint64) { c.cache.remove(id) }

// IDOf returns the id of a cgroup that is named by its path in the hierarchy ("/system.slice/x.service") or in the file
// system ("/sys/fs/cgroup/system.slice/x.service", with or without the root path). Errors wrap [fs.ErrNotExist]
// when there is no such cgroup.
func (c *Cgroups) IDOf(name string) (uint64, error) {
	name = path.Clean("/" + name)
	h := c.hierarchy
	rel, ok := pathBelow(name, h.Mount)
	if !ok {
		rel, ok = pathBelow(name, c.plainMount)
	}
	if !ok {
		if rel, ok = pathBelow(name, h.Root); !ok {
			return 0, fmt.Errorf("cgroup %q: %w: only %q and what is below it is mounted", name, fs.ErrNotExist, h.Root)
		}
	}
	dir := filepath.Join(h.Mount, rel)
	info, err := os.Stat(dir)
	if err != nil {
		return 0, fmt.Errorf("cgroup %q: %w", name, err)
	}
	if !info.IsDir() {
		return 0, fmt.Errorf("cgroup %q: %w: %s is a file", name, fs.ErrNotExist, dir)
	}
	id, err := idOf(dir, info)
	if err != nil {
		return 0, fmt.Errorf("cgroup %q: %w", name, err)
	}
	return id, nil
}

// walk looks an id up as an inode number in the whole tree, and remembers all that it comes across.
func (c *Cgroups) walk(id uint64) string {
	c.walkMu.Lock()
	defer c.walkMu.Unlock()
	// Another walk may have found it while this one waited.
	if cg, _ := c.cache.get(id); cg != nil && cg.Path != "" {
		return cg.Path
	}
	start := c.now()
	if start.Before(c.walkNext) {
		return ""
	}
	found := ""
	_ = walkCgroups(c.hierarchy.Mount, maxWalkDirs, func(rel string, entry fs.DirEntry) bool {
		info, err := infoOf(c.hierarchy.Mount, entry)
		if err != nil {
			return true // removed since
		}
		ino, ok := inode(info)
		if !ok {
			return true
		}
		p := path.Join(c.hierarchy.Root, rel)
		if ino == id {
			found = p
		} else if c.cache.len() < c.cache.max {
			// Room is left for what was asked for.
			c.cache.replace(ino, nil, newCgroup(ino, p), rankLive, 0, start.UnixNano())
		}
		return true
	})
	end := c.now()
	c.walkNext = end.Add(max(walkPause, walkShare*end.Sub(start)))
	return found
}

func newCgroup(id uint64, name string) *Cgroup {
	// The caller's string may be part of a larger one, or of a buffer.
	name = strings.Clone(name)
	c, _ := ParseContainer(name)
	return &Cgroup{
		ID:            id,
		Path:          name,
		ContainerID:   c.ID,
		ContainerName: c.Name,
		PodUID:        c.PodUID,
		Runtime:       c.Runtime,
	}
}

// pathBelow returns name relative to dir, as "/" or "/x/y", if it is dir or below it.
func pathBelow(name, dir string) (string, bool) {
	if dir == "/" {
		return name, true
	}
	rel, ok := strings.CutPrefix(name, dir)
	switch {
	case !ok || rel != "" && rel[0] != '/':
		return "", false
	case rel == "":
		return "/", true
	}
	return rel, true
}

func orDefault[T int | time.Duration](v, or T) T {
	if v <= 0 {
		return or
	}
	return v
}
