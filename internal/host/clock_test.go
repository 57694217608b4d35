// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tickingClocks go on by delays[i] with the i-th reading of either, and are offset from each other.
type tickingClocks struct {
	boot, offset int64
	delays       []int64
	readings     int
	err          error
}

func (c *tickingClocks) pass() {
	if len(c.delays) > 0 {
		c.boot += c.delays[c.readings%len(c.delays)]
	}
	c.readings++
}

func (c *tickingClocks) Boot() (int64, error) { c.pass(); return c.boot, c.err }
func (c *tickingClocks) Real() (int64, error) { c.pass(); return c.boot + c.offset, c.err }

const someOffset = int64(1_700_000_000_123_456_789)

func TestClockWall(t *testing.T) {
	clock, err := NewClock(&tickingClocks{boot: 5e9, offset: someOffset})
	require.NoError(t, err)
	assert.Equal(t, time.Unix(0, someOffset+42), clock.Wall(42))
	assert.Equal(t, uint64(5e9), clock.Boot())
}

func TestClockTakesTheSmallestWindow(t *testing.T) {
	// Interrupted in all tries but one, in which both halves take as long.
	source := &tickingClocks{offset: someOffset, delays: []int64{
		0, 5e6, 10, 0, 10, 8e6, 0, 100, 100, 0, 1e9, 10, 0, 3e6, 3e5,
	}}
	clock, err := NewClock(source)
	require.NoError(t, err)
	assert.Equal(t, time.Unix(0, someOffset), clock.Wall(0))
}

func TestClockRemeasure(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  time.Duration
		elapsed time.Duration
		want    time.Duration
	}{
		{"nothing", 0, 10 * time.Second, 0},
		{"steered", 5 * time.Millisecond, 10 * time.Second, 0},
		{"steered backwards", -5 * time.Millisecond, 10 * time.Second, 0},
		{"steered for long", time.Second, time.Hour, 0},
		{"set", time.Second, 10 * time.Second, time.Second},
		{"set backwards", -time.Hour, 10 * time.Second, -time.Hour},
		{"set by little, soon", 3 * time.Millisecond, time.Second, 3 * time.Millisecond},
		// A suspended machine's clocks both go on.
		{"suspended", 0, 8 * time.Hour, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			source := &tickingClocks{boot: 1e9, offset: someOffset}
			clock, err := NewClock(source)
			require.NoError(t, err)
			source.boot += int64(test.elapsed)
			source.offset += int64(test.change)
			step, err := clock.Remeasure()
			require.NoError(t, err)
			assert.Equal(t, test.want, step)
			// Followed in any case, and reported once.
			assert.Equal(t, time.Unix(0, source.offset), clock.Wall(0))
			step, err = clock.Remeasure()
			require.NoError(t, err)
			assert.Zero(t, step)
		})
	}
}

func TestClockErrors(t *testing.T) {
	broken := errors.New("broken")
	_, err := NewClock(&tickingClocks{err: broken})
	require.ErrorIs(t, err, broken)

	source := &tickingClocks{offset: someOffset}
	clock, err := NewClock(source)
	require.NoError(t, err)
	source.err = broken
	source.offset = 0
	_, err = clock.Remeasure()
	require.ErrorIs(t, err, broken)
	assert.Equal(t, time.Unix(0, someOffset), clock.Wall(0))
	assert.Zero(t, clock.Boot())
}

func TestClockOfTheKernel(t *testing.T) {
	clock, err := NewClock(nil)
	require.NoError(t, err)
	before := time.Now().Round(0)
	now := clock.Wall(clock.Boot())
	after := time.Now().Round(0)
	// Off by no more than the measurement's window, for which a millisecond is plenty, unless the clock was set meanwhile.
	assert.False(t, now.Before(before.Add(-time.Millisecond)), "%v is before %v", now, before)
	assert.False(t, now.After(after.Add(time.Millisecond)), "%v is after %v", now, after)
}

func BenchmarkClockWall(b *testing.B) {
	clock, err := NewClock(nil)
	require.NoError(b, err)
	b.ReportAllocs()
	for boot := uint64(0); b.Loop(); boot++ {
		clock.Wall(boot)
	}
}
