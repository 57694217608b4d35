// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/packet"
	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// descriptors is the number of open files of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

var objectID = regexp.MustCompile(`(?m)^(prog_id|map_id|link_id):\s+(\d+)$`)

// objects are the ids of programs, maps or links that this process holds, from the kernel's own account.
func objects(t *testing.T, kind string) []uint32 {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fdinfo")
	require.NoError(t, err)
	var ids []uint32
	for _, entry := range entries {
		text, err := os.ReadFile("/proc/self/fdinfo/" + entry.Name())
		if errors.Is(err, os.ErrNotExist) {
			continue // the directory's own
		}
		require.NoError(t, err)
		for _, match := range objectID.FindAllStringSubmatch(string(text), -1) {
			if id, err := strconv.ParseUint(match[2], 10, 32); err == nil && match[1] == kind {
				ids = append(ids, uint32(id))
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func TestKernelNothingStays(t *testing.T) {
	needs.Root(t)
	spec := fixtureSpec(t)
	everything := choice{
		metrics: map[string][]string{"ebpf.fixture.execs": nil, "ebpf.fixture.tasks": nil, "ebpf.fixture.classic": nil, "ebpf.fixture.forks": nil},
		events:  []string{"ebpf.fixture.exec"},
	}.settings(t, spec)
	// Swapped maps and perf events cost grace periods; most cycles do without.
	little := choice{metrics: map[string][]string{"ebpf.fixture.tasks": nil}}.settings(t, spec)
	env := testEnvironment()
	before := -1
	for cycle := range 100 {
		settings, want := little, []string{"count_tasks"}
		if cycle%10 == 0 {
			settings, want = everything, []string{"count_tasks", "exec", "exec_classic"}
		}
		p, err := Load(spec, settings, env)
		require.NoError(t, err)
		require.NoError(t, p.Attach())
		assert.Equal(t, want, taken(p))
		programs, maps := objects(t, "prog_id"), objects(t, "map_id")
		assert.Len(t, programs, len(want))
		assert.NotEmpty(t, maps)
		require.Error(t, p.Attach(), "twice")
		if cycle%2 == 0 {
			require.NoError(t, p.Detach())
			require.NoError(t, p.Detach())
		}
		require.NoError(t, p.Close())
		require.NoError(t, p.Close())
		require.NoError(t, p.Detach())
		_, err = p.EventStats()
		require.ErrorIs(t, err, os.ErrClosed)
		require.Empty(t, objects(t, "prog_id"))
		require.Empty(t, objects(t, "map_id"))
		require.Empty(t, objects(t, "link_id"))
		if cycle > 0 { // the first opens what Go itself keeps, such as its poller
			require.Equal(t, before, descriptors(t), "cycle %d", cycle)
		}
		before = descriptors(t)
		if cycle%10 != 0 {
			continue
		}
		// Ours were the last references: the kernel forgets them after a grace period.
		assert.Eventually(t, func() bool {
			return !slices.ContainsFunc(programs, func(id uint32) bool {
				program, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
				if err == nil {
					program.Close()
				}
				return !errors.Is(err, os.ErrNotExist)
			})
		}, 10*time.Second, 10*time.Millisecond)
	}
}

// Two instances share nothing: each counts everything, and one that ends leaves the other alone.
func TestKernelTwoInstances(t *testing.T) {
	needs.Root(t)
	spec := fixtureSpec(t)
	settings := choice{metrics: map[string][]string{"ebpf.fixture.execs": {"command"}}}.settings(t, spec)
	a, b := load(t, spec, settings), load(t, spec, settings)
	require.NoError(t, a.Attach())
	require.NoError(t, b.Attach())
	total := func(p *Probe) (n uint64) {
		for _, row := range readRows(t, tableOf(t, p, "execs")) {
			if row.comm() == command("two") {
				n += row.value[0]
			}
		}
		return n
	}
	runAs(t, command("two"), 5)
	assert.EqualValues(t, 5, total(a))
	require.NoError(t, a.Close())
	runAs(t, command("two"), 5)
	assert.EqualValues(t, 10, total(b))
}

// One follows the interfaces, and would be forgotten for the other.
func TestTwoSocketFilters(t *testing.T) {
	p := &Probe{follower: new(packet.Follower)}
	require.ErrorIs(t, p.follow(&loadedProgram{name: "other"}), errTwoSocketFilters)
}
