// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

func TestKernelEvents(t *testing.T) {
	needs.Root(t)
	const event = "ebpf.fixture.exec"
	spec := fixtureSpec(t)
	settings := choice{events: []string{event}}.settings(t, spec)
	settings.RingSize = 1 << 20
	settings.Events[event] = EventSettings{Filter: Filter{Commands: []string{command("event")}}}
	p := load(t, spec, settings)
	require.NotNil(t, p.Ring)
	assert.Equal(t, 1<<20, p.Ring.Size())
	assert.Equal(t, map[string]uint32{event: 3}, p.EventIDs)
	require.Contains(t, p.EventTypes, event)
	assert.Equal(t, "exec_event", p.EventTypes[event].Name)
	assert.Empty(t, p.Tables)

	require.NoError(t, p.Attach())
	runAs(t, command("other"), 2)
	pids := runAs(t, command("event"), 10)
	require.NoError(t, p.Detach())

	var got []uint32
	_, err := p.Ring.Drain(func(record []byte) bool {
		assert.EqualValues(t, 3, binary.NativeEndian.Uint32(record[8:]))
		assert.Equal(t, command("event"), strings.TrimRight(string(record[24:40]), "\x00"))
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
	needs.Root(t)
	const event = "ebpf.fixture.exec"
	spec := fixtureSpec(t)
	settings := choice{events: []string{event}}.settings(t, spec)
	settings.Events[event] = EventSettings{RateLimit: 3, Filter: Filter{Commands: []string{command("rate")}}}
	p := load(t, spec, settings)
	require.NoError(t, p.Attach())
	begin := time.Now()
	runAs(t, command("rate"), 12)
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
	needs.Root(t)
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
