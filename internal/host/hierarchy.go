// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// ErrNoHierarchy is returned when no cgroup hierarchy, or not the wanted one, is mounted where it can be seen.
var ErrNoHierarchy = errors.New("no usable cgroup hierarchy")

// Hierarchy is the tree of cgroups that names containers.
type Hierarchy struct {
	// Version is 1 or 2.
	Version int
	// Mount is the directory by which this process reaches it, with the root path, if any, before it.
	Mount string
	// Root is which of its cgroups is mounted there: "/", or another where only a part of the tree was
	// mounted into the Collector's container.
	Root string
	// Controller says which of the v1 hierarchies it is, by the kernel's name of a controller in it: memory, cpuacct, cpu,
	// pids or cpuset. Empty for v2.
	Controller string
	// Reason says in a few words why it was chosen.
	Reason string
	// above tells that what is mounted is above this process's cgroup namespace, and namespace is where the root of that is mounted, if anywhere.
	above     bool
	namespace string
}

// v1Controllers that can stand for their hierarchy, in order of preference: the ones that runtimes always
// use first. Their order says nothing else.
var v1Controllers = []string{"memory", "cpuacct", "pids", "cpu", "cpuset"}

// What a walk through a tree that is searched for containers may cost.
const maxDetectDirs = 10_000

// DetectHierarchy finds the hierarchy that names containers. It is [FindHierarchy] without a wish.
func DetectHierarchy(root string) (Hierarchy, error) {
	return FindHierarchy(root, "")
}

// FindHierarchy finds the cgroup hierarchy that names containers, or the one that is wanted: "v2", "v1" (whichever of
// its controllers is preferred) or the name of a v1 controller; "" or "auto" for what the host uses:
//
//   - Only one version is mounted: that.
//   - Both are (a hybrid host): v1, when no process is in any v2 cgroup but the root, so nobody manages
//     that tree; v1 too when v1 has cgroups of containers and v2 has none, since some runtimes on hosts with a
//     systemd in hybrid mode use v1 alone; else v2.
//
// With a root path the host's mounts are read from <root>/proc/1/mountinfo; those that are not to be
// seen below the root path are left out, and where none is, this process's own mounts are taken. Errors
// wrap [ErrNoHierarchy] when there is none.
func FindHierarchy(root, want string) (Hierarchy, error) {
	return findHierarchy(root, "/proc/self/mountinfo", want)
}

func findHierarchy(root, self, want string) (Hierarchy, error) {
	h, err := chooseHierarchy(root, self, want)
	if err != nil || !h.above {
		return h, err
	}
	own, err := readMountinfo(self)
	if err != nil {
		return h, nil //nolint:nilerr // what is lost is the cgroups of processes that are read from /proc
	}
	for _, m := range own {
		if m.version == h.Version && m.root == "/" && !m.above && (h.Version == 2 || slices.Contains(m.controllers, h.Controller)) {
			h.namespace = m.dir
		}
	}
	return h, nil
}

func chooseHierarchy(root, self, want string) (Hierarchy, error) {
	mounts, err := visibleMounts(root, self)
	if err != nil {
		return Hierarchy{}, err
	}
	v2, hasV2 := pickV2(mounts)
	switch want {
	case "", "auto":
		v1, hasV1 := pickV1(mounts, v1Controllers)
		switch {
		case hasV1 && hasV2:
			return chooseHybrid(v1, v2), nil
		case hasV2:
			v2.Reason = "only cgroup v2 is mounted"
			return v2, nil
		case hasV1:
			v1.Reason = "only cgroup v1 is mounted"
			return v1, nil
		}
		return Hierarchy{}, fmt.Errorf("%w: neither cgroup v2 nor a v1 controller is mounted", ErrNoHierarchy)
	case "v2":
		if !hasV2 {
			return Hierarchy{}, fmt.Errorf("%w: cgroup v2 is not mounted", ErrNoHierarchy)
		}
		v2.Reason = "configured"
		return v2, nil
	}
	wanted := v1Controllers
	if want != "v1" {
		if !slices.Contains(v1Controllers, want) {
			return Hierarchy{}, fmt.Errorf("unknown cgroup hierarchy %q: want auto, v1, v2 or one of %s",
				want, strings.Join(v1Controllers, ", "))
		}
		wanted = []string{want}
	}
	v1, ok := pickV1(mounts, wanted)
	if !ok {
		return Hierarchy{}, fmt.Errorf("%w: no cgroup v1 mount of %s", ErrNoHierarchy, strings.Join(wanted, ", "))
	}
	v1.Reason = "configured"
	return v1, nil
}

// visibleMounts returns the cgroup mounts that are what they say when reached from here.
func visibleMounts(root, self string) ([]cgroupMount, error) {
	type source struct{ file, prefix string }
	sources := []source{{file: self}}
	if root != "" {
		sources = []source{{file: filepath.Join(root, "proc/1/mountinfo"), prefix: root}, {file: self}}
	}
	var errs []error
	for _, s := range sources {
		mounts, err := readMountinfo(s.file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for i := range mounts {
			mounts[i].dir = under(s.prefix, mounts[i].dir)
		}
		mounts = slices.DeleteFunc(mounts, func(m cgroupMount) bool { return !m.visible() })
		// The host's own mounts, seen from a container, come before those of the container.
		slices.SortStableFunc(mounts, func(a, b cgroupMount) int { return a.distance(root) - b.distance(root) })
		if len(mounts) > 0 {
			return mounts, nil
		}
	}
	return nil, errors.Join(append([]error{fmt.Errorf("%w: no cgroup mount is visible", ErrNoHierarchy)}, errs...)...)
}

func readMountinfo(name string) ([]cgroupMount, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading mounts: %w", err)
	}
	defer f.Close()
	mounts, err := parseMountinfo(f)
	if err != nil {
		return nil, fmt.Errorf("reading mounts from %s: %w", name, err)
	}
	return mounts, nil
}

// visible tells whether there is a cgroup file system where the mount should be: a bind mount of the
// host's root need not have brought its submounts with it.
func (m cgroupMount) visible() bool {
	names := []string{"cgroup.procs"}
	if m.version == 2 {
		names = append(names, "cgroup.controllers")
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(m.dir, name)); err != nil {
			return false
		}
	}
	return true
}

// distance is smaller for mounts that show more of the host: 0 for a whole hierarchy below the root path.
func (m cgroupMount) distance(root string) int {
	d := 0
	if m.root != "/" {
		d++
	}
	if root != "" && !strings.HasPrefix(m.dir, strings.TrimSuffix(root, "/")+"/") {
		d += 2
	}
	return d
}

func pickV2(mounts []cgroupMount) (Hierarchy, bool) {
	for _, m := range mounts {
		if m.version == 2 {
			return Hierarchy{Version: 2, Mount: m.dir, Root: m.root, above: m.above}, true
		}
	}
	return Hierarchy{}, false
}

func pickV1(mounts []cgroupMount, controllers []string) (Hierarchy, bool) {
	for _, controller := range controllers {
		for _, m := range mounts {
			if m.version == 1 && slices.Contains(m.controllers, controller) {
				return Hierarchy{Version: 1, Mount: m.dir, Root: m.root, Controller: controller, above: m.above}, true
			}
		}
	}
	return Hierarchy{}, false
}

func chooseHybrid(v1, v2 Hierarchy) Hierarchy {
	switch {
	case !populated(v2.Mount):
		v1.Reason = "both versions are mounted, and no process is in a v2 cgroup below the root"
		return v1
	case !hasContainers(v2) && hasContainers(v1):
		v1.Reason = "both versions are mounted, and only v1 has containers"
		return v1
	}
	v2.Reason = "both versions are mounted, and processes are in v2 cgroups"
	return v2
}

// populated tells whether a process is in a v2 cgroup below the root. The cgroup.events of the top ones say so
// for all that is below them.
func populated(mount string) bool {
	entries, err := os.ReadDir(mount)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		events, err := os.ReadFile(filepath.Join(mount, e.Name(), "cgroup.events"))
		if err == nil && slices.ContainsFunc(bytes.Split(events, []byte("\n")), func(line []byte) bool {
			return string(line) == "populated 1"
		}) {
			return true
		}
	}
	return false
}

// hasContainers tells whether a hierarchy has a cgroup that looks like a container's or a pod's.
func hasContainers(h Hierarchy) bool {
	found := false
	_ = walkCgroups(h.Mount, maxDetectDirs, func(rel string, _ fs.DirEntry) bool {
		_, found = ParseContainer(path.Join(h.Root, rel))
		return !found
	})
	return found
}

// errWalkLimit is returned when a tree had more directories than the walk was allowed.
var errWalkLimit = errors.New("too many cgroups")

// walkCgroups calls fn with each directory below dir and its path relative to it, parents first, until fn returns false
// or limit directories were seen. Cgroups that vanish on the way are skipped. entry is nil for dir itself.
func walkCgroups(dir string, limit int, fn func(rel string, entry fs.DirEntry) bool) error {
	if !fn("/", nil) {
		return nil
	}
	// Breadth first: the limit cuts the deep ends off and no whole branch.
	for queue, seen := []string{"/"}, 0; len(queue) > 0; {
		rel := queue[0]
		queue = queue[1:]
		entries, err := os.ReadDir(filepath.Join(dir, rel))
		if err != nil && rel == "/" {
			return fmt.Errorf("walking cgroups: %w", err)
		}
		for _, e := range entries {
			if !e.IsDir() {
				continue
			}
			if seen++; seen > limit {
				return fmt.Errorf("%w: more than %d below %s", errWalkLimit, limit, dir)
			}
			child := path.Join(rel, e.Name())
			if !fn(child, e) {
				return nil
			}
			queue = append(queue, child)
		}
	}
	return nil
}
