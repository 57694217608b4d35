// SPDX-License-Identifier: Apache-2.0

// Package probes_test runs the example probes as a user does: from a folder, by its path.
package probes_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	hostkernel "github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// folders are the example probes.
func folders(t *testing.T) []string {
	t.Helper()
	specs, err := filepath.Glob("*/" + probe.SpecFile)
	require.NoError(t, err)
	require.NotEmpty(t, specs)
	for i := range specs {
		specs[i] = filepath.Dir(specs[i])
	}
	return specs
}

// parse reads the specification in a folder.
func parse(t *testing.T, folder string) *probe.Spec {
	t.Helper()
	spec, err := probe.Parse(os.DirFS(folder), filepath.Join(folder, probe.SpecFile))
	require.NoError(t, err)
	return spec
}

// user is the configuration that loads a probe from its folder; more is what else stands below the probe's name.
func user(t *testing.T, name, more string) string {
	t.Helper()
	folder, err := filepath.Abs(name)
	require.NoError(t, err)
	return fmt.Sprintf("probes:\n  %s:\n    path: %s\n%s", name, folder, more)
}

func TestObjectsFitSpecs(t *testing.T) {
	for _, folder := range folders(t) {
		spec := parse(t, folder)
		assert.Equal(t, folder, spec.Name)
		assert.Equal(t, folder+".bpf.o", spec.Object)
		require.NoError(t, probe.CheckObject(spec))
	}
}

// The committed objects are what `make objects` makes of the sources, to the byte: it runs in a copy of the tree.
func TestObjectsAreUpToDate(t *testing.T) {
	for _, tool := range []string{"make", "clang-19", "llvm-strip-19"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	root := t.TempDir()
	for _, dir := range []string{"bpf/include", "examples/probes"} {
		require.NoError(t, os.CopyFS(filepath.Join(root, dir), os.DirFS(filepath.Join("../..", dir))))
	}
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, "Makefile"), makefile, 0o600))
	names := folders(t)
	for _, name := range names {
		require.NoError(t, os.Remove(object(filepath.Join(root, "examples/probes"), name)))
	}
	out, err := exec.Command("make", "-C", root, "objects").CombinedOutput()
	require.NoError(t, err, string(out))
	for _, name := range names {
		made, err := os.ReadFile(object(filepath.Join(root, "examples/probes"), name))
		require.NoError(t, err)
		committed, err := os.ReadFile(object(".", name))
		require.NoError(t, err)
		assert.True(t, slices.Equal(made, committed), "%s is not up to date: run make objects", object(".", name))
	}
}

func object(folder, name string) string { return filepath.Join(folder, name, name+".bpf.o") }

// softirqs are the kernel's own counts, by vector, summed over the CPUs.
func softirqs(t *testing.T) map[string]uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/softirqs")
	require.NoError(t, err)
	counts := make(map[string]uint64)
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n")[1:] {
		vector, numbers, ok := strings.Cut(strings.TrimSpace(line), ":")
		require.True(t, ok, line)
		for _, number := range strings.Fields(numbers) {
			n, err := strconv.ParseUint(number, 10, 64)
			require.NoError(t, err)
			counts[vector] += n
		}
	}
	return counts
}

// finishSoftirqs waits until every softirq that has begun is over: the kernel counts one just before its tracepoint,
// and a grace period of RCU ends no earlier than each softirq handler that ran when it began.
func finishSoftirqs(t *testing.T) {
	t.Helper()
	const global = 1 << 0 // MEMBARRIER_CMD_GLOBAL
	_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0)
	require.Zero(t, errno)
}

func TestKernelSoftirqs(t *testing.T) {
	kernel.NeedRoot(t)
	before := softirqs(t)
	r := kernel.Start(t, user(t, "softirqs", ""))
	attached := softirqs(t)
	// Packets to oneself are NET_RX; timers, the scheduler and RCU need no help.
	receive, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	require.NoError(t, err)
	defer unix.Close(receive)
	require.NoError(t, unix.Bind(receive, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	address, err := unix.Getsockname(receive)
	require.NoError(t, err)
	const packets = 1000
	for range packets {
		require.NoError(t, unix.Sendto(receive, []byte("x"), 0, address))
		_, _, err := unix.Recvfrom(receive, make([]byte, 1), 0)
		require.NoError(t, err)
	}
	stopping := softirqs(t)
	finishSoftirqs(t)
	r.Stop()
	after := softirqs(t)

	got := make(map[string]uint64)
	for _, p := range r.Last("ebpf.example.softirqs") {
		vector, ok := p.Attributes["ebpf.example.softirq.vector"].(string)
		require.True(t, ok, "%v", p.Attributes)
		require.Len(t, p.Attributes, 1)
		require.NotContains(t, got, vector)
		got[vector] = uint64(p.Value)
	}
	t.Log(got)
	for vector := range got {
		assert.Contains(t, after, vector, "a vector that the kernel does not have")
	}
	for vector := range after {
		assert.GreaterOrEqual(t, got[vector], stopping[vector]-attached[vector], "%s: while the program was attached for sure", vector)
		assert.LessOrEqual(t, got[vector], after[vector]-before[vector], "%s: from before to after", vector)
	}
	assert.GreaterOrEqual(t, got["NET_RX"], uint64(packets))
}

// cgroupRecord is a log record of the cgroups probe.
type cgroupRecord struct {
	event, path string
	id          uint64
	level       int64
}

// cgroupRecords are the records about cgroups below one, in order.
func cgroupRecords(t *testing.T, r *kernel.Run, below string) []cgroupRecord {
	t.Helper()
	var records []cgroupRecord
	for _, logs := range r.Logs.AllLogs() {
		for _, rl := range logs.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, l := range sl.LogRecords().All() {
					attributes := l.Attributes().AsRaw()
					path, _ := attributes["ebpf.example.cgroup.path"].(string)
					if !strings.HasPrefix(path, below+"/") {
						continue
					}
					require.Len(t, attributes, 4)
					require.EqualValues(t, 0, attributes["ebpf.example.cgroup.hierarchy"], "v2")
					verb := strings.TrimPrefix(l.EventName(), "ebpf.example.cgroup.")
					require.Equal(t, verb+" "+path, l.Body().Str())
					records = append(records, cgroupRecord{
						event: verb, path: path,
						id:    uint64(attributes["ebpf.example.cgroup.id"].(int64)),
						level: attributes["ebpf.example.cgroup.level"].(int64),
					})
				}
			}
		}
	}
	return records
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Sys().(*syscall.Stat_t).Ino
}

// needTaskHelper skips tests of the probe cgroups where the kernel lacks what event.h needs of a program that is not given a task: before Linux 5.11.
func needTaskHelper(t *testing.T) {
	t.Helper()
	kernel.NeedRoot(t)
	if err := hostkernel.New(hostkernel.Options{}).Require("func/bpf_get_current_task_btf"); err != nil {
		require.ErrorIs(t, err, hostkernel.ErrNotSupported)
		t.Skip(err)
	}
}

func TestKernelCgroups(t *testing.T) {
	needTaskHelper(t)
	parent := kernel.NewCgroup(t)
	r := kernel.Start(t, user(t, "cgroups", ""))
	const n = 100
	var want []cgroupRecord
	record := func(event, name string, id uint64, level int64) {
		want = append(want, cgroupRecord{event: event, path: parent.Path + "/" + name, id: id, level: level})
	}
	ids := make(map[string]uint64)
	var names []string
	for i := range n {
		// Half of them are in each other, down to some depth; one name is as long as a name can be.
		name := fmt.Sprintf("c%d", i)
		switch {
		case i == 0:
			name = strings.Repeat("n", 255)
		case i%10 != 0 && i >= n/2:
			name = names[i-1] + "/" + name
		}
		dir := filepath.Join(parent.Dir, name)
		require.NoError(t, os.Mkdir(dir, 0o755))
		names = append(names, name)
		ids[name] = inode(t, dir)
		record("created", name, ids[name], int64(2+strings.Count(name, "/")))
	}
	// One that exists is not created again, and one that has others in it is not removed.
	require.Error(t, os.Mkdir(filepath.Join(parent.Dir, names[0]), 0o755))
	require.Error(t, os.Remove(filepath.Join(parent.Dir, names[n/2])))
	for _, name := range slices.Backward(names) {
		require.NoError(t, os.Remove(filepath.Join(parent.Dir, name)))
		record("removed", name, ids[name], int64(2+strings.Count(name, "/")))
	}
	r.Stop()
	assert.Equal(t, want, cgroupRecords(t, r, parent.Path))
}

// Filters and rates need nothing from the probe but event.h.
func TestKernelCgroupsFiltered(t *testing.T) {
	needTaskHelper(t)
	parent := kernel.NewCgroup(t)
	r := kernel.Start(t, user(t, "cgroups", fmt.Sprintf(`    events:
      ebpf.example.cgroup.created: { filter: { pids: [%d] } }
      ebpf.example.cgroup.removed: { filter: { pids: [%d] }, rate_limit: 0.001 }
`, os.Getpid(), os.Getpid())))
	make2 := func(name string) []cgroupRecord {
		dir := filepath.Join(parent.Dir, name)
		// Another process, whose cgroup is filtered out.
		require.NoError(t, exec.Command("mkdir", dir+"-other").Run())
		require.NoError(t, os.Mkdir(dir, 0o755))
		ours := cgroupRecord{path: parent.Path + "/" + name, id: inode(t, dir), level: 2}
		require.NoError(t, exec.Command("rmdir", dir+"-other").Run())
		require.NoError(t, os.Remove(dir))
		created, removed := ours, ours
		created.event, removed.event = "created", "removed"
		return []cgroupRecord{created, removed}
	}
	first := make2("first")
	second := make2("second")
	r.Stop()
	// The second removal is over the rate.
	assert.Equal(t, []cgroupRecord{first[0], first[1], second[0]}, cgroupRecords(t, r, parent.Path))
}

// resourcesOf are the container ids, empty for the host, to which the records about a path went, with their hierarchies.
func resourcesOf(r *kernel.Run, path string) (containers []string, hierarchies []int64) {
	for _, logs := range r.Logs.AllLogs() {
		for _, rl := range logs.ResourceLogs().All() {
			container, _ := rl.Resource().Attributes().AsRaw()["container.id"].(string)
			for _, sl := range rl.ScopeLogs().All() {
				for _, l := range sl.LogRecords().All() {
					attributes := l.Attributes().AsRaw()
					if attributes["ebpf.example.cgroup.path"] == path {
						containers = append(containers, container)
						hierarchies = append(hierarchies, attributes["ebpf.example.cgroup.hierarchy"].(int64))
					}
				}
			}
		}
	}
	return containers, hierarchies
}

// The records of a container's cgroup are the container's, also when nothing of it is left.
func TestKernelCgroupsContainer(t *testing.T) {
	needTaskHelper(t)
	parent := kernel.NewCgroup(t)
	r := kernel.Start(t, user(t, "cgroups", ""))
	id := strings.Repeat("0123456789abcdef", 4)
	name := "/docker-" + id + ".scope"
	require.NoError(t, os.Mkdir(parent.Dir+name, 0o755))
	require.NoError(t, os.Remove(parent.Dir+name))
	r.Stop()
	containers, _ := resourcesOf(r, parent.Path+name)
	assert.Equal(t, []string{id, id}, containers)
}

// Ids of another hierarchy are not looked up in the one that names containers: they would be somebody else's.
func TestKernelCgroupsOtherHierarchy(t *testing.T) {
	kernel.NeedRoot(t)
	self, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	var hierarchy int64
	for line := range strings.Lines(string(self)) {
		if fields := strings.SplitN(line, ":", 3); fields[1] == "pids" {
			hierarchy, err = strconv.ParseInt(fields[0], 10, 64)
			require.NoError(t, err)
		}
	}
	const mount = "/sys/fs/cgroup/pids"
	if _, err := os.Stat(mount); err != nil || hierarchy == 0 {
		t.Skip("needs a cgroup v1 hierarchy")
	}
	r := kernel.Start(t, user(t, "cgroups", ""))
	name := fmt.Sprintf("/docker-%064x.scope", os.Getpid())
	require.NoError(t, os.Mkdir(mount+name, 0o755))
	require.NoError(t, os.Remove(mount+name))
	r.Stop()
	containers, hierarchies := resourcesOf(r, name)
	assert.Equal(t, []string{"", ""}, containers)
	assert.Equal(t, []int64{hierarchy, hierarchy}, hierarchies)

	// There, where its ids are the containers'.
	r = kernel.Start(t, user(t, "cgroups", "")+"cgroup_hierarchy: pids\n")
	require.NoError(t, os.Mkdir(mount+name, 0o755))
	require.NoError(t, os.Remove(mount+name))
	r.Stop()
	containers, _ = resourcesOf(r, name)
	assert.Equal(t, []string{fmt.Sprintf("%064x", os.Getpid()), fmt.Sprintf("%064x", os.Getpid())}, containers)
}
