// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/internal/snapshot"
)

// runAs executes a program n times under a name of at most 15 bytes that nobody else uses, and returns the processes' ids.
func runAs(t *testing.T, name string, n int) []uint32 {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	from, err := os.Open("/bin/true")
	require.NoError(t, err)
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(to, from)
	require.NoError(t, err)
	require.NoError(t, to.Close())
	var pids []uint32
	for range n {
		cmd := exec.Command(path)
		require.NoError(t, cmd.Run())
		pids = append(pids, uint32(cmd.Process.Pid))
	}
	return pids
}

type fixtureRow struct {
	key   []byte
	value []uint64
}

// comm is the command in the key of the fixture, "" when the key was cut before it.
func (r fixtureRow) comm() string {
	if len(r.key) < 32 {
		return ""
	}
	return strings.TrimRight(string(r.key[16:32]), "\x00")
}

func readRows(t *testing.T, table *Table) []fixtureRow {
	t.Helper()
	var all []fixtureRow
	require.NoError(t, table.Read(t.Context(), func(rows snapshot.Rows) error {
		for i := range rows.N {
			row := fixtureRow{key: slices.Clone(rows.Key(i))}
			for v := rows.Value(i); len(v) >= 8; v = v[8:] {
				row.value = append(row.value, binary.NativeEndian.Uint64(v))
			}
			all = append(all, row)
		}
		return nil
	}))
	return all
}

func TestKernelCountsByCommand(t *testing.T) {
	needsRoot(t)
	spec := fixtureSpec(t)
	settings := choice{metrics: map[string][]string{
		"ebpf.fixture.execs":  {"command"},
		"ebpf.fixture.weight": {"command", "process.pid"},
		"ebpf.fixture.plain":  {"command"},
	}}.settings(t, spec)
	settings.Options["weight"] = int64(3)
	settings.Options["doubled"] = true
	p := load(t, spec, settings)
	assert.Empty(t, p.Missing)
	assert.Nil(t, p.Ring)

	before := time.Now()
	runAs(t, "fx-before", 3) // loaded is not attached
	require.NoError(t, p.Attach())
	assert.WithinRange(t, p.Started, before, time.Now())
	pids := runAs(t, "fx-while", 20)
	require.NoError(t, p.Detach())
	runAs(t, "fx-after", 3)
	require.NoError(t, p.Collect(t.Context()))

	table := tableOf(t, p, "execs")
	assert.Equal(t, []string{"ebpf.fixture.execs", "ebpf.fixture.weight"}, table.Metrics)
	assert.Equal(t, 32, table.KeySize)
	assert.Equal(t, snapshot.Swapped, table.Kind())
	var counted []uint32
	for _, row := range readRows(t, table) {
		require.Len(t, row.key, 32)
		assert.NotContains(t, []string{"fx-before", "fx-after"}, row.comm())
		if row.comm() != "fx-while" {
			continue
		}
		assert.Zero(t, binary.NativeEndian.Uint64(row.key), "nobody selected the cgroup")
		assert.Equal(t, []uint64{2, 3}, row.value, "the options reached the program")
		counted = append(counted, binary.NativeEndian.Uint32(row.key[8:]))
	}
	assert.ElementsMatch(t, pids, counted)

	plain := tableOf(t, p, "plain")
	assert.Equal(t, snapshot.Plain, plain.Kind())
	total := uint64(0)
	for _, row := range readRows(t, plain) {
		if row.comm() == "fx-while" {
			total += row.value[0]
		}
	}
	assert.EqualValues(t, 20, total)
}

// A dimension that nobody selected is not in the key at all.
func TestKernelPrunedKey(t *testing.T) {
	needsRoot(t)
	tests := []struct {
		attributes []string
		want       int
	}{
		{nil, 4},
		{[]string{"process.linux.cgroup"}, 8},
		{[]string{"process.pid"}, 12},
		{[]string{"process.pid", "command"}, 32},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.want), func(t *testing.T) {
			spec := fixtureSpec(t)
			p := load(t, spec, choice{metrics: map[string][]string{"ebpf.fixture.execs": tt.attributes}}.settings(t, spec))
			table := tableOf(t, p, "execs")
			assert.Equal(t, tt.want, table.KeySize)
			require.NoError(t, p.Attach())
			runAs(t, "fx-pruned", 5)
			require.NoError(t, p.Detach())
			rows, total := readRows(t, table), uint64(0)
			for _, row := range rows {
				assert.Len(t, row.key, tt.want)
				total += row.value[0]
			}
			assert.GreaterOrEqual(t, total, uint64(5))
			if tt.attributes == nil {
				require.Len(t, rows, 1)
				assert.Equal(t, make([]byte, 4), rows[0].key)
			}
			// The whole key's type is kept for whoever decodes it.
			assert.Equal(t, "fixture_key", table.Key.TypeName())
		})
	}
}

func TestKernelCandidates(t *testing.T) {
	needsRoot(t)
	spec := fixtureSpec(t)
	p := load(t, spec, choice{metrics: map[string][]string{
		"ebpf.fixture.execs": nil, "ebpf.fixture.forks": nil, "ebpf.fixture.classic": nil,
	}}.settings(t, spec))

	assert.Equal(t, []string{"exec", "exec_classic"}, taken(p))
	why := make(map[string]error)
	for _, info := range p.Programs {
		why[info.Name] = info.Err
		assert.Equal(t, info.Taken, info.Instructions > 0, info.Name)
	}
	require.ErrorIs(t, why["exec_future"], kernel.ErrNotSupported)
	assert.ErrorContains(t, why["exec_future"], "this kernel has no function no_kernel_has_this_function")
	var rejected *ProgramError
	require.ErrorAs(t, why["exec_rejected"], &rejected)
	assert.Equal(t, "exec_rejected", rejected.Program)
	var verifier *ebpf.VerifierError
	require.ErrorAs(t, why["exec_rejected"], &verifier)
	var permission *kernel.PermissionError
	assert.NotErrorAs(t, why["exec_rejected"], &permission, "the verifier's EACCES is not a missing right")
	assert.NoError(t, why["exec"])
	assert.NoError(t, why["count_tasks"], "not needed is not a failure")
	var hook *HookError
	require.ErrorAs(t, why["packet"], &hook)
	assert.Equal(t, "xdp", hook.Hook)

	// One metric is missing; the others work.
	require.Len(t, p.Missing, 1)
	var role *RoleError
	require.ErrorAs(t, p.Missing["ebpf.fixture.forks"], &role)
	assert.ErrorIs(t, role, kernel.ErrNotSupported)
	assert.EqualError(t, role, "role forks: nowhere: this kernel has no tracepoint no_such_tracepoint; "+
		`or packet: hooks of the type "xdp" are not supported yet`)

	// Maps that only programs use that are not taken are not created.
	assert.Contains(t, p.maps, "execs")
	assert.NotContains(t, p.maps, "never")
	assert.NotContains(t, p.maps, "forks")
	assert.Contains(t, p.maps, "events", "the program names it")
	assert.EqualValues(t, os.Getpagesize(), p.maps["events"].MaxEntries(), "but no event is enabled")
	assert.EqualValues(t, 1, p.maps["plain"].MaxEntries(), "no metric that is enabled reads it")
	assert.EqualValues(t, 10_000, p.inner["execs"][0].MaxEntries())

	require.NoError(t, p.Attach())
	runAs(t, "fx-classic", 4)
	require.NoError(t, p.Detach())
	assert.GreaterOrEqual(t, readRows(t, tableOf(t, p, "tasks"))[1].value[0], uint64(4), "by the classic tracepoint")
}

func TestKernelNothingLeft(t *testing.T) {
	needsRoot(t)
	spec := fixtureSpec(t)
	before := descriptors(t)
	_, err := Load(spec, choice{metrics: map[string][]string{"ebpf.fixture.forks": nil}}.settings(t, spec), testEnvironment())
	var unavailable *UnavailableError
	require.ErrorAs(t, err, &unavailable)
	require.ErrorIs(t, err, kernel.ErrNotSupported)
	assert.Len(t, unavailable.Errs, 1)
	assert.NotContains(t, err.Error(), "\n")

	_, err = Load(spec, choice{}.settings(t, spec), testEnvironment())
	require.ErrorIs(t, err, ErrNothingEnabled)
	assert.Equal(t, before, descriptors(t))
}

// The bound of a map is the largest of its metrics' bounds.
func TestKernelMaxSeries(t *testing.T) {
	needsRoot(t)
	spec := fixtureSpec(t)
	settings := choice{metrics: map[string][]string{"ebpf.fixture.execs": nil, "ebpf.fixture.weight": nil, "ebpf.fixture.plain": nil}}.settings(t, spec)
	settings.MaxSeries = 100
	settings.Metrics["ebpf.fixture.execs"] = MetricSettings{MaxSeries: 30}
	settings.Metrics["ebpf.fixture.weight"] = MetricSettings{MaxSeries: 200}
	p := load(t, spec, settings)
	assert.Equal(t, 200, tableOf(t, p, "execs").Capacity())
	assert.Equal(t, 100, tableOf(t, p, "plain").Capacity())
	for _, inner := range p.inner["execs"] {
		assert.EqualValues(t, 200, inner.MaxEntries())
		assert.Equal(t, p.inner["execs"][0].Flags(), inner.Flags())
	}
}

func TestKernelIterator(t *testing.T) {
	needsRoot(t)
	spec := fixtureSpec(t)
	p := load(t, spec, choice{metrics: map[string][]string{"ebpf.fixture.tasks": nil}}.settings(t, spec))
	table := tableOf(t, p, "tasks")
	count := func() uint64 { return readRows(t, table)[0].value[0] }

	require.ErrorIs(t, p.Collect(t.Context()), errNotAttached)
	assert.Zero(t, count())
	require.NoError(t, p.Attach())
	first := count()
	assert.Positive(t, first, "Attach visits all tasks once")
	require.NoError(t, p.Collect(t.Context()))
	second := count()
	assert.Greater(t, second, first)
	require.NoError(t, p.Detach())
	require.NoError(t, p.Collect(t.Context()))
	assert.Greater(t, count(), second, "a last visit after Detach")

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.Collect(cancelled), context.Canceled)
	require.NoError(t, p.Close())
	require.ErrorIs(t, p.Collect(t.Context()), os.ErrClosed)
}

func TestKernelEvents(t *testing.T) {
	needsRoot(t)
	const event = "ebpf.fixture.exec"
	spec := fixtureSpec(t)
	settings := choice{events: []string{event}}.settings(t, spec)
	settings.RingSize = 1 << 20
	settings.Events[event] = EventSettings{Filter: Filter{Commands: []string{"fx-event"}}}
	p := load(t, spec, settings)
	require.NotNil(t, p.Ring)
	assert.Equal(t, 1<<20, p.Ring.Size())
	assert.Equal(t, map[string]uint32{event: 3}, p.EventIDs)
	require.Contains(t, p.EventTypes, event)
	assert.Equal(t, "exec_event", p.EventTypes[event].Name)
	assert.Empty(t, p.Tables)

	require.NoError(t, p.Attach())
	runAs(t, "fx-other", 2)
	pids := runAs(t, "fx-event", 10)
	require.NoError(t, p.Detach())

	var got []uint32
	_, err := p.Ring.Drain(func(record []byte) bool {
		assert.EqualValues(t, 3, binary.NativeEndian.Uint32(record[8:]))
		assert.Equal(t, "fx-event", strings.TrimRight(string(record[24:40]), "\x00"))
		got = append(got, binary.NativeEndian.Uint32(record[16:]))
		return true
	})
	require.NoError(t, err)
	assert.Equal(t, pids, got, "in order")
	stats, err := p.EventStats()
	require.NoError(t, err)
	s := stats[event]
	assert.EqualValues(t, 10, s.Submitted)
	assert.GreaterOrEqual(t, s.Filtered, uint64(2))
	assert.Equal(t, s.Produced, s.Submitted+s.Dropped+s.Filtered+s.Limited)
}

// The first event passes at once, and a burst of one second's worth.
func TestKernelRateLimit(t *testing.T) {
	needsRoot(t)
	const event = "ebpf.fixture.exec"
	spec := fixtureSpec(t)
	settings := choice{events: []string{event}}.settings(t, spec)
	settings.Events[event] = EventSettings{RateLimit: 3, Filter: Filter{Commands: []string{"fx-rate"}}}
	p := load(t, spec, settings)
	require.NoError(t, p.Attach())
	begin := time.Now()
	runAs(t, "fx-rate", 12)
	took := time.Since(begin)
	require.NoError(t, p.Detach())
	stats, err := p.EventStats()
	require.NoError(t, err)
	s := stats[event]
	assert.EqualValues(t, 12, s.Submitted+s.Limited)
	assert.GreaterOrEqual(t, s.Submitted, uint64(3))
	assert.LessOrEqual(t, float64(s.Submitted), 3+3*took.Seconds()+1)
}

func TestKernelCgroupFilter(t *testing.T) {
	needsRoot(t)
	spec := fixtureSpec(t)
	settings := choice{events: []string{"ebpf.fixture.exec"}}.settings(t, spec)
	settings.Events["ebpf.fixture.exec"] = EventSettings{Filter: Filter{CgroupPaths: []string{"/here"}}}

	_, err := Load(spec, settings, testEnvironment())
	require.ErrorContains(t, err, "/here")
	env := testEnvironment()
	gone := errors.New("no such cgroup")
	env.CgroupID = func(string) (uint64, error) { return 0, gone }
	_, err = Load(spec, settings, env)
	require.ErrorIs(t, err, gone)

	env.CgroupID = func(path string) (uint64, error) {
		assert.Equal(t, "/here", path)
		return 42, nil
	}
	p, err := Load(spec, settings, env)
	require.NoError(t, err)
	defer p.Close()
	var value uint8
	require.NoError(t, p.maps[eventFiltersMap].Lookup(filterKey{3, 0, 0, 0, 4, 0, 0, 0, 42}, &value))
	assert.Empty(t, settings.Events["ebpf.fixture.exec"].Filter.Cgroups, "the caller's settings are as they were")
}

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
	needsRoot(t)
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
	needsRoot(t)
	spec := fixtureSpec(t)
	settings := choice{metrics: map[string][]string{"ebpf.fixture.execs": {"command"}}}.settings(t, spec)
	a, b := load(t, spec, settings), load(t, spec, settings)
	require.NoError(t, a.Attach())
	require.NoError(t, b.Attach())
	total := func(p *Probe) (n uint64) {
		for _, row := range readRows(t, tableOf(t, p, "execs")) {
			if row.comm() == "fx-two" {
				n += row.value[0]
			}
		}
		return n
	}
	runAs(t, "fx-two", 5)
	assert.EqualValues(t, 5, total(a))
	require.NoError(t, a.Close())
	runAs(t, "fx-two", 5)
	assert.EqualValues(t, 10, total(b))
}

func TestKernelStats(t *testing.T) {
	needsRoot(t)
	spec := fixtureSpec(t)
	p := load(t, spec, choice{metrics: map[string][]string{"ebpf.fixture.execs": {"process.pid"}}}.settings(t, spec))
	require.NoError(t, p.Attach())
	enabled, err := ebpf.EnableStats(0) // BPF_STATS_RUN_TIME
	require.NoError(t, err)
	runAs(t, "fx-stats", 6)
	require.NoError(t, enabled.Close())
	require.NoError(t, p.Detach())
	stats, err := p.ProgramStats()
	require.NoError(t, err)
	require.Len(t, stats, 1)
	assert.Equal(t, "exec", stats[0].Name)
	assert.Equal(t, "tp_btf/sched_process_exec", stats[0].Hook)
	assert.GreaterOrEqual(t, stats[0].Runs, uint64(6))
	assert.Positive(t, stats[0].Time)

	rows := readRows(t, tableOf(t, p, "execs"))
	assert.Equal(t, []MapStats{{Map: "execs", Entries: len(rows), Capacity: 10_000}}, p.MapStats())
}

// What does not fit into a map is counted in its overflow cell, and said.
func TestKernelOverflow(t *testing.T) {
	needsRoot(t)
	spec := fixtureSpec(t)
	settings := choice{metrics: map[string][]string{"ebpf.fixture.execs": {"process.pid"}}}.settings(t, spec)
	settings.MaxSeries = 2
	p := load(t, spec, settings)
	require.NoError(t, p.Attach())
	runAs(t, "fx-overflow", 10)
	require.NoError(t, p.Detach())
	var inside, outside uint64
	require.NoError(t, tableOf(t, p, "execs").Read(t.Context(), func(rows snapshot.Rows) error {
		for i := range rows.N {
			n := binary.NativeEndian.Uint64(rows.Value(i))
			if rows.Overflow {
				outside += n
			} else {
				inside += n
			}
		}
		return nil
	}))
	assert.Positive(t, inside)
	assert.Positive(t, outside)
	assert.GreaterOrEqual(t, inside+outside, uint64(10))
	assert.True(t, p.MapStats()[0].Overflow)
}
