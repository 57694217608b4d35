// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/internal/snapshot"
	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

func TestKernelCountsByCommand(t *testing.T) {
	needs.Root(t)
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
	runAs(t, command("before"), 3) // loaded is not attached
	require.NoError(t, p.Attach())
	assert.WithinRange(t, p.Started, before, time.Now())
	pids := runAs(t, command("during"), 20)
	require.NoError(t, p.Detach())
	runAs(t, command("after"), 3)
	require.NoError(t, p.Collect(t.Context()))

	table := tableOf(t, p, "execs")
	assert.Equal(t, []string{"ebpf.fixture.execs", "ebpf.fixture.weight"}, table.Metrics)
	assert.Equal(t, 32, table.KeySize)
	assert.Equal(t, snapshot.Swapped, table.Kind())
	var counted []uint32
	for _, row := range readRows(t, table) {
		require.Len(t, row.key, 32)
		assert.NotContains(t, []string{command("before"), command("after")}, row.comm())
		if row.comm() != command("during") {
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
		if row.comm() == command("during") {
			total += row.value[0]
		}
	}
	assert.EqualValues(t, 20, total)
}

// A constant is the running kernel's number, or what the object has where the kernel has none.
func TestKernelEnumeratorReachesProgram(t *testing.T) {
	needs.Root(t)
	for enumerator, want := range map[string]uint64{"BPF_MAP_TYPE_PERCPU_HASH": uint64(ebpf.PerCPUHash), "NO_SUCH_ENUMERATOR": 7} {
		t.Run(enumerator, func(t *testing.T) {
			spec := fixtureSpec(t)
			delete(spec.Options, "weight")
			spec.Enumerators = map[string]string{"weight": enumerator}
			p := load(t, spec, choice{metrics: map[string][]string{"ebpf.fixture.execs": {"command"}}}.settings(t, spec))
			require.NoError(t, p.Attach())
			runAs(t, command("numbered"), 1)
			require.NoError(t, p.Detach())
			var values [][]uint64
			for _, row := range readRows(t, tableOf(t, p, "execs")) {
				if row.comm() == command("numbered") {
					values = append(values, row.value)
				}
			}
			assert.Equal(t, [][]uint64{{1, want}}, values)
		})
	}
}

// A dimension that nobody selected is not in the key at all.
func TestKernelPrunedKey(t *testing.T) {
	needs.Root(t)
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
			runAs(t, command("pruned"), 5)
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

func TestProcessed(t *testing.T) {
	for log, want := range map[string]uint32{
		"": 0,
		"verification time 132 usec\nstack depth 40\nprocessed 1234 insns (limit 1000000) max_states_per_insn 4 total_states 83 peak_states 83 mark_read 8": 1234,
		"processed by nobody": 0,
	} {
		assert.Equal(t, want, processed(log), log)
	}
}

// The verifier's statistics are what the kernel keeps, where it does.
func TestKernelVerifierStatistics(t *testing.T) {
	needs.Root(t)
	spec := fixtureSpec(t)
	env := testEnvironment()
	env.VerifierStatistics = true
	p, err := Load(spec, choice{metrics: map[string][]string{"ebpf.fixture.execs": nil, "ebpf.fixture.forks": nil}}.settings(t, spec), env)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	assert.NotEmpty(t, taken(p))
	for _, info := range p.Programs {
		assert.Equal(t, info.Taken, info.Instructions > 0, info.Name)
	}
	for _, program := range p.programs {
		told := processed(program.VerifierLog)
		assert.Positive(t, told, program.name)
		info, err := program.Info()
		require.NoError(t, err)
		if n, ok := info.VerifiedInstructions(); ok {
			assert.Equal(t, n, told, program.name)
		}
	}
}

func TestKernelCandidates(t *testing.T) {
	needs.Root(t)
	spec := fixtureSpec(t)
	p := load(t, spec, choice{metrics: map[string][]string{
		"ebpf.fixture.execs": nil, "ebpf.fixture.forks": nil, "ebpf.fixture.classic": nil,
	}}.settings(t, spec))

	assert.Equal(t, []string{"exec", "exec_classic"}, taken(p))
	why := make(map[string]error)
	told := slices.ContainsFunc(p.Programs, func(info ProgramInfo) bool { return info.Instructions > 0 }) // since Linux 5.16
	for _, info := range p.Programs {
		why[info.Name] = info.Err
		assert.Equal(t, info.Taken && told, info.Instructions > 0, info.Name)
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
	runAs(t, command("old"), 4)
	require.NoError(t, p.Detach())
	assert.GreaterOrEqual(t, readRows(t, tableOf(t, p, "tasks"))[1].value[0], uint64(4), "by the classic tracepoint")
}

// A role for a dimension is asked for by who selects it. What is optional is told of where it is missing, and costs no metric.
func TestKernelOptionalRole(t *testing.T) {
	needs.Root(t)
	spec := fixtureSpec(t)
	role := spec.Programs["forks"]
	role.For, role.Optional = []string{"command"}, "the name of forks"
	spec.Programs["forks"] = role
	execs := func(attributes ...string) *Probe {
		return load(t, spec, choice{metrics: map[string][]string{"ebpf.fixture.execs": attributes}}.settings(t, spec))
	}

	p := execs("command")
	assert.Equal(t, []string{"exec"}, taken(p))
	assert.Empty(t, p.Missing)
	require.Len(t, p.Without, 1)
	require.ErrorIs(t, p.Without["the name of forks"], kernel.ErrNotSupported)
	assert.Empty(t, execs("process.pid").Without)

	role.Optional = ""
	spec.Programs["forks"] = role
	settings := choice{metrics: map[string][]string{"ebpf.fixture.execs": {"command"}, "ebpf.fixture.plain": nil}}.settings(t, spec)
	assert.Equal(t, []string{"ebpf.fixture.execs"}, slices.Collect(maps.Keys(load(t, spec, settings).Missing)), "not only the dimension")
}

func TestKernelNothingLeft(t *testing.T) {
	needs.Root(t)
	spec := fixtureSpec(t)
	before := descriptors(t)
	_, err := Load(spec, choice{metrics: map[string][]string{"ebpf.fixture.forks": nil}}.settings(t, spec), testEnvironment())
	require.ErrorIs(t, err, kernel.ErrNotSupported)
	require.EqualError(t, err, "probe fixture: ebpf.fixture.forks is not available: role forks: nowhere: this kernel has no tracepoint no_such_tracepoint; "+
		`or packet: hooks of the type "xdp" are not supported yet`)

	_, err = Load(spec, choice{}.settings(t, spec), testEnvironment())
	require.ErrorIs(t, err, ErrNothingEnabled)
	assert.Equal(t, before, descriptors(t))
}

// The bound of a map is the largest of its metrics' bounds.
func TestKernelMaxSeries(t *testing.T) {
	needs.Root(t)
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
	needs.Root(t)
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

func TestKernelStats(t *testing.T) {
	needs.Root(t)
	spec := fixtureSpec(t)
	p := load(t, spec, choice{metrics: map[string][]string{"ebpf.fixture.execs": {"process.pid"}}}.settings(t, spec))
	require.NoError(t, p.Attach())
	enabled, err := ebpf.EnableStats(0) // BPF_STATS_RUN_TIME
	require.NoError(t, err)
	runAs(t, command("stats"), 6)
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
	needs.Root(t)
	spec := fixtureSpec(t)
	settings := choice{metrics: map[string][]string{"ebpf.fixture.execs": {"process.pid"}}}.settings(t, spec)
	settings.MaxSeries = 2
	p := load(t, spec, settings)
	require.NoError(t, p.Attach())
	runAs(t, command("over"), 10)
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
