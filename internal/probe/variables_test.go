// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSetVariables(t *testing.T) {
	spec := fixtureSpec(t)
	o, err := openObject(spec)
	require.NoError(t, err)
	settings, err := spec.Resolve(Config{})
	require.NoError(t, err)
	settings.Options = map[string]any{"weight": int64(11), "delay": int64(2_500_000_000), "doubled": true}
	settings.RingSize = 1 << 20
	p := &plan{
		metrics: map[string]MetricSettings{"ebpf.fixture.execs": {Attributes: []string{"process.pid"}}},
		events:  map[string]EventSettings{"ebpf.fixture.exec": {RateLimit: 100, Filter: Filter{PIDs: []uint32{1}, Commands: []string{"x"}}}},
	}
	require.NoError(t, setVariables(spec, o, p, settings, Environment{CgroupController: 3}))

	integer := func(name string) uint64 {
		v := make([]byte, 8)
		copy(v, o.Variables[name].Value) // little-endian, as all that we support
		return binary.LittleEndian.Uint64(v)
	}
	assert.EqualValues(t, 11, integer("weight"))
	assert.EqualValues(t, 2_500_000_000, integer("delay_ns"))
	assert.EqualValues(t, 1, integer("doubled"))
	assert.EqualValues(t, 0, integer("by_cgroup"))
	assert.EqualValues(t, 1, integer("by_pid"))
	assert.EqualValues(t, 0, integer("by_command"))
	assert.EqualValues(t, 1, integer("with_execs"))
	assert.EqualValues(t, 0, integer("with_forks"))
	assert.EqualValues(t, 3, integer("cgroup_controller"))
	assert.EqualValues(t, 128<<10, integer("event_wakeup_bytes"))

	configs := o.Variables["event_config"].Value
	for id := range maxEventTypes {
		c := configs[id*eventConfigSize:][:eventConfigSize]
		if id != 3 { // EVENT_EXEC
			assert.Equal(t, make([]byte, eventConfigSize), c, id)
			continue
		}
		assert.EqualValues(t, 10_000_000, binary.LittleEndian.Uint64(c[0:]), "interval")
		assert.EqualValues(t, 990_000_000, binary.LittleEndian.Uint64(c[8:]), "burst")
		assert.EqualValues(t, 1, binary.LittleEndian.Uint32(c[16:]), "enabled")
		assert.EqualValues(t, eventFilterPID|eventFilterComm, binary.LittleEndian.Uint32(c[20:]), "filters")
	}
}

func TestSetVariablesWithoutController(t *testing.T) {
	spec := fixtureSpec(t)
	o, err := openObject(spec)
	require.NoError(t, err)
	settings, err := spec.Resolve(Config{})
	require.NoError(t, err)
	require.NoError(t, setVariables(spec, o, &plan{}, settings, Environment{CgroupController: -1}))
	assert.Equal(t, []byte{255, 255, 255, 255}, o.Variables["cgroup_controller"].Value)
}

func TestSetInteger(t *testing.T) {
	tests := []struct {
		size int
		n    int64
		ok   bool
	}{
		{1, 255, true},
		{1, 256, false},
		{1, -128, true},
		{1, -129, false},
		{2, 65535, true},
		{2, 65536, false},
		{4, 1<<32 - 1, true},
		{4, 1 << 32, false},
		{4, -1, true},
		{8, 1<<63 - 1, true},
		{8, -1 << 63, true},
		{3, 1, false},
		{0, 1, false},
	}
	for _, tt := range tests {
		err := setInteger(&ebpf.VariableSpec{Name: "v", Value: make([]byte, tt.size)}, tt.n)
		assert.Equal(t, tt.ok, err == nil, "%d in %d bytes: %v", tt.n, tt.size, err)
	}
	assert.Error(t, setInteger(nil, 1))
}

// A second's worth may come at once: the n-th event of a burst arrives n-1 intervals ahead of its time.
func TestPace(t *testing.T) {
	for _, rate := range []float64{0.001, 0.5, 1, 3, 7, 100, 1e6, 1e9} {
		interval, burst := pace(rate)
		passed := 0
		for at := uint64(0); at <= burst && passed < 2e6; at += interval {
			passed++
		}
		assert.InDelta(t, min(max(rate, 1), 2e6), passed, 1+rate/1e3, "rate %v", rate)
		assert.InEpsilon(t, 1e9/rate, interval, 1e-6, "rate %v", rate)
	}
	for _, rate := range []float64{0, -1, 2e9} {
		interval, burst := pace(rate)
		assert.Zero(t, interval)
		assert.Zero(t, burst)
	}
}

func TestFilterKeys(t *testing.T) {
	spec := fixtureSpec(t)
	o, err := openObject(spec)
	require.NoError(t, err)
	keys := filterKeys(spec, o, map[string]EventSettings{"ebpf.fixture.exec": {Filter: Filter{
		PIDs: []uint32{0x01020304}, UIDs: []uint32{7}, Cgroups: []uint64{0x1122334455667788}, Commands: []string{"fifteen_bytes__"},
	}}})
	want := []filterKey{
		{3, 0, 0, 0, 1, 0, 0, 0, 4, 3, 2, 1},
		{3, 0, 0, 0, 2, 0, 0, 0, 7},
		{3, 0, 0, 0, 4, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11},
		{3, 0, 0, 0, 8, 0, 0, 0, 'f', 'i', 'f', 't', 'e', 'e', 'n', '_', 'b', 'y', 't', 'e', 's', '_', '_'},
	}
	assert.Equal(t, want, keys)
	assert.Empty(t, filterKeys(spec, o, map[string]EventSettings{"ebpf.fixture.exec": {}}))
}
