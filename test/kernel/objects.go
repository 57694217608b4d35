// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Objects is what a process holds of the kernel's.
type Objects struct {
	// Descriptors are counted by what they are: "anon_inode:bpf-map", "socket", "/sys/fs/cgroup".
	Descriptors map[string]int
	// Mappings is the number of memory mappings of eBPF maps.
	Mappings int
	// Programs, Maps and Links are the kernel's ids, sorted.
	Programs, Maps, Links []uint32
}

var (
	objectID = regexp.MustCompile(`(?m)^(prog|map|link)_id:\s+(\d+)$`)
	inode    = regexp.MustCompile(`:?\[\d+\]`)
)

// Held lists what this process holds now.
func Held(t testing.TB) Objects {
	t.Helper()
	// The runtime makes its own descriptors with the first pipe.
	r, w, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoError(t, w.Close())
	return heldBy(t, "/proc/self")
}

// HeldBy lists what another process holds now.
func HeldBy(t testing.TB, pid int) Objects {
	t.Helper()
	return heldBy(t, fmt.Sprintf("/proc/%d", pid))
}

func heldBy(t testing.TB, proc string) Objects {
	t.Helper()
	o := Objects{Descriptors: map[string]int{}}
	ids := map[string]map[uint32]bool{"prog": {}, "map": {}, "link": {}}
	entries, err := os.ReadDir(proc + "/fd")
	require.NoError(t, err)
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(proc, "fd", e.Name()))
		if err != nil {
			continue // the descriptor of the listing itself, or closed meanwhile
		}
		o.Descriptors[inode.ReplaceAllString(target, "")]++
		if !strings.HasPrefix(target, "anon_inode:") {
			continue
		}
		info, err := os.ReadFile(filepath.Join(proc, "fdinfo", e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // closed meanwhile
		}
		require.NoError(t, err)
		for _, m := range objectID.FindAllStringSubmatch(string(info), -1) {
			var id uint32
			_, err := fmt.Sscan(m[2], &id)
			require.NoError(t, err)
			ids[m[1]][id] = true
		}
	}
	o.Programs, o.Maps, o.Links = keys(ids["prog"]), keys(ids["map"]), keys(ids["link"])
	maps, err := os.ReadFile(filepath.Join(proc, "maps"))
	require.NoError(t, err)
	o.Mappings = strings.Count(string(maps), "anon_inode:bpf")
	return o
}

func keys(set map[uint32]bool) []uint32 {
	list := make([]uint32, 0, len(set))
	for id := range set {
		list = append(list, id)
	}
	slices.Sort(list)
	return list
}

// RequireGone waits until the kernel has none of the programs, maps and links any more: it frees some of them after a grace period.
func (o Objects) RequireGone(t testing.TB) {
	t.Helper()
	alive := func() (left []string) {
		for _, id := range o.Programs {
			if p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id)); err == nil {
				left = append(left, p.String())
				p.Close()
			}
		}
		for _, id := range o.Maps {
			if m, err := ebpf.NewMapFromID(ebpf.MapID(id)); err == nil {
				left = append(left, m.String())
				m.Close()
			}
		}
		for _, id := range o.Links {
			if l, err := link.NewFromID(link.ID(id)); err == nil {
				left = append(left, fmt.Sprintf("link %d", id))
				l.Close()
			}
		}
		return left
	}
	if !assert.Eventually(t, func() bool { return len(alive()) == 0 }, patience, poll) {
		t.Fatalf("left in the kernel: %s", strings.Join(alive(), ", "))
	}
}

// PID is the number of the process that the receiver runs in.
func (r *Run) PID() int {
	if r.process != nil {
		return r.process.cmd.Process.Pid
	}
	return os.Getpid()
}

// Held lists what the receiver's process holds now.
func (r *Run) Held() Objects {
	r.t.Helper()
	if r.PID() != os.Getpid() {
		return HeldBy(r.t, r.PID())
	}
	return Held(r.t)
}

// Skipped is how many runs of the receiver's programs the kernel has left out, since one of the same program was not through on that CPU. Of those, a
// probe may have made up for some. Linux 7.2 lets tasks be preempted in the middle of a run.
func (r *Run) Skipped() (n int) {
	r.t.Helper()
	for _, id := range r.Held().Programs {
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
		require.NoError(r.t, err)
		s, err := p.Stats()
		require.NoError(r.t, err)
		n += int(s.RecursionMisses)
		require.NoError(r.t, p.Close())
	}
	return n
}
