// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ClockSource reads the two clocks, in ns. It stands in for the kernel's in tests.
type ClockSource interface {
	Boot() (int64, error) // CLOCK_BOOTTIME: since boot, suspended time included
	Real() (int64, error) // CLOCK_REALTIME: since 1970
}

// clockTries is how often the clocks are compared in one measurement: being interrupted in all of them is unlikely.
const clockTries = 5

// What a change of the offset has to exceed to be a step and not the clock's being steered: adjtimex(2) slews by
// at most 500 ppm, of which twice is allowed for, and a measurement is less exact than this.
const (
	stepFloor = time.Millisecond
	slewShare = 1000 // 1/1000 is 1000 ppm
)

// Clock turns times of the kernel's boot clock, which kernel programs report, into dates. It is safe for concurrent use.
type Clock struct {
	source ClockSource
	offset atomic.Int64 // CLOCK_REALTIME - CLOCK_BOOTTIME, ns

	mu       sync.Mutex // held while measuring
	measured int64      // when, boot clock
}

// NewClock measures the clocks' offset. A nil source takes the kernel's clocks.
func NewClock(source ClockSource) (*Clock, error) {
	if source == nil {
		shift, err := namespaceShift()
		if err != nil {
			return nil, err
		}
		source = kernelClocks{shift}
	}
	c := &Clock{source: source}
	m, err := c.measure()
	if err != nil {
		return nil, err
	}
	c.offset.Store(m.offset)
	c.measured = m.at
	return c, nil
}

// Wall returns the date of a time of the boot clock, in ns.
func (c *Clock) Wall(boot uint64) time.Time {
	return time.Unix(0, int64(boot)+c.offset.Load())
}

// Boot returns what the boot clock shows now, in ns; 0 if it cannot be read.
func (c *Clock) Boot() uint64 {
	now, err := c.source.Boot()
	if err != nil {
		return 0
	}
	return uint64(now)
}

// Remeasure measures the offset again, which follows the wall clock's being set or steered. It returns by how much
// the wall clock was set (forwards is positive), 0 when it was not. On an error the old offset stays.
func (c *Clock) Remeasure() (time.Duration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, err := c.measure()
	if err != nil {
		return 0, err
	}
	change := time.Duration(m.offset - c.offset.Load())
	steered := stepFloor + time.Duration(m.window) + time.Duration(m.at-c.measured)/slewShare
	c.offset.Store(m.offset)
	c.measured = m.at
	if change.Abs() <= steered {
		return 0, nil
	}
	return change, nil
}

type measurement struct {
	offset int64
	at     int64 // boot clock
	window int64 // between the readings of the boot clock: the error is at most half of it
}

// measure reads the wall clock between two readings of the boot clock, several times, and takes the try
// in which those were closest.
func (c *Clock) measure() (measurement, error) {
	var best measurement
	for try := range clockTries {
		before, err := c.source.Boot()
		if err != nil {
			return best, fmt.Errorf("reading the boot clock: %w", err)
		}
		wall, err := c.source.Real()
		if err != nil {
			return best, fmt.Errorf("reading the wall clock: %w", err)
		}
		after, err := c.source.Boot()
		if err != nil {
			return best, fmt.Errorf("reading the boot clock: %w", err)
		}
		if window := after - before; try == 0 || window < best.window {
			middle := before + window/2
			best = measurement{offset: wall - middle, at: middle, window: window}
		}
	}
	return best, nil
}

// kernelClocks are those of the kernel. Programs in it know no time namespace: what this process's shows too much is taken off.
type kernelClocks struct{ shift int64 }

func (k kernelClocks) Boot() (int64, error) {
	now, err := readClock(unix.CLOCK_BOOTTIME)
	return now - k.shift, err
}

func (kernelClocks) Real() (int64, error) { return readClock(unix.CLOCK_REALTIME) }

func readClock(id int32) (int64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0, err
	}
	return ts.Nano(), nil
}
