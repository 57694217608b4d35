// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// writeTree makes files, and the directories that they are in; a name with a slash at its end is a directory.
func writeTree(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			require.NoError(t, os.MkdirAll(file, 0o755))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(content), 0o644))
	}
}

const (
	lineV2      = "34 25 0:29 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
	lineTmpfs   = "31 25 0:28 / /sys/fs/cgroup ro shared:8 - tmpfs tmpfs ro,mode=755\n"
	lineUnified = "35 31 0:29 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n"
	lineMemory  = "36 31 0:30 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory\n"
	lineCPU     = "37 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:11 - cgroup cgroup rw,cpu,cpuacct\n"
	lineSystemd = "38 31 0:32 / /sys/fs/cgroup/systemd rw shared:12 - cgroup cgroup rw,xattr,name=systemd\n"
)

func TestFindHierarchy(t *testing.T) {
	v2 := func(dir string) map[string]string {
		return map[string]string{dir + "/cgroup.procs": "", dir + "/cgroup.controllers": "cpu memory\n"}
	}
	v1 := func(dir string) map[string]string { return map[string]string{dir + "/cgroup.procs": ""} }
	type trees []map[string]string
	const (
		unified = "sys/fs/cgroup/unified"
		memory  = "sys/fs/cgroup/memory"
	)
	populatedV2 := map[string]string{unified + "/system.slice/cgroup.events": "populated 1\nfrozen 0\n"}
	hybridLines := lineTmpfs + lineUnified + lineCPU + lineMemory + lineSystemd

	for _, test := range []struct {
		name      string
		mountinfo string
		trees     trees
		want      string
		expect    string // VERSION CONTROLLER MOUNT ROOT
		err       string
	}{
		{name: "v2", mountinfo: lineV2, trees: trees{v2("sys/fs/cgroup")}, expect: "2  sys/fs/cgroup /"},
		{
			name: "v1", mountinfo: lineTmpfs + lineSystemd + lineCPU + lineMemory,
			trees: trees{v1(memory), v1("sys/fs/cgroup/cpu,cpuacct"), v1("sys/fs/cgroup/systemd")}, expect: "1 memory sys/fs/cgroup/memory /",
		},
		{
			name: "v1 without memory", mountinfo: lineTmpfs + lineSystemd + lineCPU,
			trees: trees{v1("sys/fs/cgroup/cpu,cpuacct"), v1("sys/fs/cgroup/systemd")}, expect: "1 cpuacct sys/fs/cgroup/cpu,cpuacct /",
		},
		{name: "only systemd's own", mountinfo: lineSystemd, trees: trees{v1("sys/fs/cgroup/systemd")}, err: "neither"},
		{name: "none", mountinfo: lineTmpfs, err: "no cgroup mount is visible"},
		{name: "hybrid, v2 empty", mountinfo: hybridLines, trees: trees{v2(unified), v1(memory)}, expect: "1 memory sys/fs/cgroup/memory /"},
		{
			name: "hybrid, v2 without processes", mountinfo: hybridLines,
			trees:  trees{v2(unified), v1(memory), {unified + "/x/cgroup.events": "populated 0\nfrozen 0\n", unified + "/x/cgroup.procs": ""}},
			expect: "1 memory sys/fs/cgroup/memory /",
		},
		{name: "hybrid, v2 in use", mountinfo: hybridLines, trees: trees{v2(unified), v1(memory), populatedV2}, expect: "2  sys/fs/cgroup/unified /"},
		{
			name: "hybrid, v2 in use, containers in v1 only", mountinfo: hybridLines,
			trees:  trees{v2(unified), v1(memory), populatedV2, {memory + "/docker/" + idA + "/": ""}},
			expect: "1 memory sys/fs/cgroup/memory /",
		},
		{
			name: "hybrid, containers in both", mountinfo: hybridLines,
			trees: trees{v2(unified), v1(memory), populatedV2, {
				memory + "/docker/" + idA + "/": "", unified + "/system.slice/docker-" + idA + ".scope/": "",
			}},
			expect: "2  sys/fs/cgroup/unified /",
		},
		{name: "hybrid, v2 wanted", mountinfo: hybridLines, want: "v2", trees: trees{v2(unified), v1(memory)}, expect: "2  sys/fs/cgroup/unified /"},
		{name: "hybrid, v1 wanted", mountinfo: hybridLines, want: "v1", trees: trees{v2(unified), v1(memory), populatedV2}, expect: "1 memory sys/fs/cgroup/memory /"},
		{
			name: "controller wanted", mountinfo: hybridLines, want: "cpu",
			trees: trees{v2(unified), v1(memory), v1("sys/fs/cgroup/cpu,cpuacct")}, expect: "1 cpu sys/fs/cgroup/cpu,cpuacct /",
		},
		{name: "v2 wanted, absent", mountinfo: lineMemory, want: "v2", trees: trees{v1(memory)}, err: "v2 is not mounted"},
		{name: "controller wanted, absent", mountinfo: lineMemory, want: "pids", trees: trees{v1(memory)}, err: "no cgroup v1 mount of pids"},
		{name: "nonsense wanted", mountinfo: lineMemory, want: "v3", trees: trees{v1(memory)}, err: `unknown cgroup hierarchy "v3"`},
		{
			name: "covered by another mount", mountinfo: lineV2 + lineTmpfs, trees: trees{v2("sys/fs/cgroup")}, err: "no cgroup mount is visible",
		},
		{
			name:      "whole before part",
			mountinfo: "40 25 0:29 /a /mnt/part rw - cgroup2 cgroup2 rw\n" + lineV2, trees: trees{v2("sys/fs/cgroup"), v2("mnt/part")},
			expect: "2  sys/fs/cgroup /",
		},
		{
			name:      "part, blanks",
			mountinfo: `40 25 0:30 /docker/a\040b /mnt/c\040d rw - cgroup cgroup rw,memory` + "\n", trees: trees{v1("mnt/c d")},
			expect: "1 memory mnt/c d /docker/a b",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			writeTree(t, root, map[string]string{"proc/1/mountinfo": test.mountinfo})
			for _, tree := range test.trees {
				writeTree(t, root, tree)
			}
			h, err := findHierarchy(root, filepath.Join(root, "no/mountinfo"), test.want)
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				if test.want != "v3" {
					assert.ErrorIs(t, err, ErrNoHierarchy)
				}
				return
			}
			require.NoError(t, err)
			mount, err := filepath.Rel(root, h.Mount)
			require.NoError(t, err)
			assert.Equal(t, test.expect, fmt.Sprintf("%d %s %s %s", h.Version, h.Controller, mount, h.Root))
			assert.NotEmpty(t, h.Reason)
		})
	}
}

func TestFindHierarchyOfTheContainer(t *testing.T) {
	// The host's root is mounted without its submounts: what this process sees itself has to do, and of that, the
	// host's first.
	host, own := filepath.Join(t.TempDir(), "hostfs"), t.TempDir()
	line := func(root, dir string) string {
		return fmt.Sprintf("34 25 0:29 %s %s rw - cgroup2 cgroup2 rw\n", root, dir)
	}
	writeTree(t, own, map[string]string{
		"cgroup/cgroup.procs":       "",
		"cgroup/cgroup.controllers": "",
		"mountinfo":                 line("/", own+"/cgroup") + line("/", host+"/elsewhere"),
	})
	writeTree(t, host, map[string]string{"proc/1/mountinfo": lineV2, "sys/fs/cgroup/": ""})

	h, err := findHierarchy(host, own+"/mountinfo", "")
	require.NoError(t, err)
	assert.Equal(t, own+"/cgroup", h.Mount)

	writeTree(t, host, map[string]string{"elsewhere/cgroup.procs": "", "elsewhere/cgroup.controllers": ""})
	h, err = findHierarchy(host, own+"/mountinfo", "")
	require.NoError(t, err)
	assert.Equal(t, host+"/elsewhere", h.Mount)
}

func FuzzParseMountinfo(f *testing.F) {
	f.Add(lineV2 + lineTmpfs + lineUnified + lineMemory)
	f.Add(`40 25 0:30 /docker/a\040b /mnt/c\0 rw - cgroup cgroup rw,memory`)
	f.Add(" - \n - cgroup")
	f.Fuzz(func(t *testing.T, data string) {
		mounts, _ := parseMountinfo(strings.NewReader(data))
		for _, m := range mounts {
			if m.version != 1 && m.version != 2 || m.dir == "" || m.root == "" {
				t.Fatalf("mount %+v", m)
			}
		}
	})
}

// In a container with a cgroup namespace of its own, the kernel tells of the host's mounts and of processes as seen from the namespace's root.
func TestHierarchyAboveTheNamespace(t *testing.T) {
	root, own := t.TempDir(), t.TempDir()
	const inside = "/kubepods/pod/mine"
	writeTree(t, root, map[string]string{
		"proc/1/mountinfo": strings.Replace(lineV2, " / /sys", " /../../.. /sys", 1), "sys/fs/cgroup/cgroup.procs": "", "sys/fs/cgroup/cgroup.controllers": "",
		"sys/fs/cgroup" + inside + "/": "", "sys/fs/cgroup/kubepods/other/": "",
	})
	mounted := filepath.Join(root, "sys/fs/cgroup", inside)
	for _, test := range []struct{ name, self string }{
		{"mounted", strings.Replace(lineV2, "/sys/fs/cgroup", mounted, 1)}, {"not mounted", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			self := filepath.Join(own, "mountinfo")
			require.NoError(t, os.WriteFile(self, []byte(test.self), 0o600))
			h, err := findHierarchy(root, self, "")
			require.NoError(t, err)
			assert.Equal(t, "/", h.Root)
			c, err := NewCgroups(CgroupOptions{Root: root, Hierarchy: h})
			require.NoError(t, err)
			_, err = c.IDOf("/kubepods/other")
			require.NoError(t, err, "as in a filter")
			for name, want := range map[string]string{"/": inside, "/x": inside + "/x", "/../../other": "/kubepods/other", "/../../..": "/"} {
				got, ok := c.fromNamespace(name)
				assert.Equal(t, test.self != "", ok)
				if ok {
					assert.Equal(t, want, got)
				}
			}
		})
	}
}

func TestWalkCgroupsIsBounded(t *testing.T) {
	root := t.TempDir()
	writeTree(t, root, map[string]string{"a/b/c/": "", "d/": "", "e/file": ""})
	var seen []string
	visit := func(rel string, _ os.DirEntry) bool { seen = append(seen, rel); return true }
	require.NoError(t, walkCgroups(root, 5, visit))
	assert.Equal(t, []string{"/", "/a", "/d", "/e", "/a/b", "/a/b/c"}, seen)

	seen = nil
	require.ErrorIs(t, walkCgroups(root, 3, visit), errWalkLimit)
	assert.Equal(t, []string{"/", "/a", "/d", "/e"}, seen)
	require.ErrorIs(t, walkCgroups(filepath.Join(root, "none"), 3, visit), os.ErrNotExist)
}
