// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/internal/snapshot"
)

// A row of a plain map that goes over to another series takes along only what it grew since.
func TestPlainRowsChangeTheirSeries(t *testing.T) {
	for _, delta := range []bool{true, false} {
		r := newRig(t, rigOptions{kind: snapshot.Plain, metric: probe.Counter, dimension: "interface", delta: delta, ttl: 2 * interval})
		r.host.interfaces = map[uint32]string{1: "eth0", 2: "eth1"}
		r.add(key(1), 5)
		r.add(key(2), 1)
		assert.Equal(t, []string{"/eth0=5 0..10", "/eth1=1 0..10"}, r.tick())
		r.host.interfaces[1] = "lan0"
		r.add(key(1), 3)
		if delta {
			assert.Equal(t, []string{"/lan0=3 10..20"}, r.tick())
			assert.Empty(t, r.tick())
			continue
		}
		assert.Equal(t, []string{"/eth0=5 0..20", "/eth1=1 0..20", "/lan0=3 10..20"}, r.tick())
		r.host.interfaces[1] = "eth1" // and two are one
		r.add(key(1), 10)
		assert.Equal(t, []string{"/eth0=5 0..30", "/eth1=11 0..30", "/lan0=3 10..30"}, r.tick())
		// A row keeps its series, grown or not. What no row tells of ends.
		assert.Equal(t, []string{"/eth1=11 0..40", "/lan0=3 10..40"}, r.tick())
		assert.Equal(t, []string{"/eth1=11 0..50"}, r.tick())
		for range 5 {
			assert.Len(t, r.tick(), 1)
		}
	}
}

// A cgroup that turns out to be a container's: the host's counter does not go back.
func TestCgroupBecomesContainer(t *testing.T) {
	for _, kind := range []snapshot.Kind{snapshot.Plain, snapshot.Swapped} {
		r := newRig(t, rigOptions{kind: kind, metric: probe.Counter, dimension: "container"})
		r.add(key(1), 5)
		r.add(key(2), 1)
		assert.Equal(t, []string{"/=6 0..10"}, r.tick())
		r.host.containers[1] = "c1"
		r.add(key(1), 7)
		r.add(key(2), 1)
		assert.Equal(t, []string{"/=7 0..20", "c1/=7 10..20"}, r.tick())
	}
}

// Of a count, a row that is not there any more is 0; of a gauge it is nothing.
func TestLevels(t *testing.T) {
	for _, kind := range []snapshot.Kind{snapshot.Plain, snapshot.Swapped} {
		count := newRig(t, rigOptions{kind: kind, metric: probe.UpDownCounter, dimension: "id", ttl: 2 * interval, delta: true})
		gauge := newRig(t, rigOptions{kind: kind, metric: probe.Gauge, dimension: "id", ttl: 2 * interval})
		for _, r := range []*rig{count, gauge} {
			r.set(key(1), 5)
			r.set(key(2), 3)
		}
		assert.Equal(t, []string{"/1=5 0..10", "/2=3 0..10"}, count.tick())
		assert.Equal(t, []string{"/1=5 -..10", "/2=3 -..10"}, gauge.tick())
		if kind == snapshot.Plain {
			continue
		}
		for _, r := range []*rig{count, gauge} {
			r.set(key(2), 0)
		}
		assert.Equal(t, []string{"/1=0 0..20", "/2=0 0..20"}, count.tick())
		assert.Equal(t, []string{"/2=0 -..20"}, gauge.tick())
		assert.Equal(t, []string{"/1=0 0..30", "/2=0 0..30"}, count.tick())
		assert.Equal(t, []string{"/2=0 0..40"}, count.tick(), "the other one had its time")
		assert.Empty(t, gauge.tick())
	}
}

// A cell that was never used is no level; one that was is, when it is 0 again.
func TestLevelsOfUnusedCells(t *testing.T) {
	r := newRig(t, rigOptions{kind: snapshot.Plain, metric: probe.Gauge, dimension: "id"})
	r.set(key(1), 0)
	r.set(key(2), 2)
	assert.Equal(t, []string{"/2=2 -..10"}, r.tick())
	r.set(key(2), 0)
	assert.Equal(t, []string{"/2=0 -..20"}, r.tick())
}

// A level is not told in parts, nor with what an earlier read left.
func TestLevelsOfFailedReads(t *testing.T) {
	for _, kind := range []snapshot.Kind{snapshot.Plain, snapshot.Swapped} {
		r := newRig(t, rigOptions{kind: kind, metric: probe.UpDownCounter, dimension: "container"})
		counted := func() {
			r.set(key(1), 5)
			r.set(key(2), 3)
		}
		counted()
		assert.Equal(t, []string{"/=8 0..10"}, r.tick())
		counted()
		r.failAfter = 1
		assert.Empty(t, r.tick())
		r.failAfter = -1
		counted()
		if kind == snapshot.Swapped {
			assert.Empty(t, r.tick())
			counted()
			assert.Equal(t, []string{"/=8 0..40"}, r.tick())
			continue
		}
		assert.Equal(t, []string{"/=8 0..30"}, r.tick())
	}
}

// Growths begin where those that were told before end.
func TestGrowthsBeginWhereOthersEnd(t *testing.T) {
	r := newRig(t, rigOptions{kind: snapshot.Swapped, metric: probe.Counter, dimension: "id", delta: true})
	assert.Empty(t, r.tick())
	r.add(key(1), 1)
	assert.Equal(t, []string{"/1=1 10..20"}, r.tick())
	r.add(key(1), 2)
	r.add(key(2), 2)
	r.failAfter = 0
	assert.Empty(t, r.tick())
	r.add(key(1), 4)
	r.failAfter = 1
	assert.Equal(t, []string{"/1=6 20..40"}, r.tick(), "nothing came before")
	r.failAfter = -1
	r.add(key(2), 8)
	assert.Equal(t, []string{"/2=10 40..50"}, r.tick(), "what was left and what is new are one")
}

// Series of earlier payloads take no room in delta temporality.
func TestDeltaLimit(t *testing.T) {
	for _, dimension := range []string{"id", "interface"} { // streamed, and merged
		r := newRig(t, rigOptions{kind: snapshot.Swapped, metric: probe.Counter, dimension: dimension, delta: true, limit: 3})
		require.Equal(t, dimension == "id", r.table.views[0].unique)
		for i := range uint64(5) {
			for j := range uint64(3) {
				r.add(key(10*i+j+10), 1)
			}
			points := r.tick()
			assert.Len(t, points, 3)
			assert.False(t, r.table.Overflowed(), "%v", points)
		}
		for j := range uint64(5) {
			r.add(key(j), 1)
		}
		points := r.tick()
		assert.Len(t, points, 4)
		assert.Contains(t, points, "/overflow=2 50..60")
		assert.True(t, r.table.Overflowed())
	}
}

// A metric may have fewer series than its map has rows: they are not streamed past the limit.
func TestLimitBelowTheMaps(t *testing.T) {
	r := newRig(t, rigOptions{kind: snapshot.Swapped, metric: probe.Counter, dimension: "id", delta: true, limit: 2, mayOverrun: true})
	for id := range uint64(200) {
		r.add(key(id), 1)
	}
	assert.Equal(t, []string{"/0=1 0..10", "/1=1 0..10", "/overflow=198 0..10"}, r.tick())
	assert.True(t, r.table.Overflowed())
	assert.Empty(t, r.tick())
	assert.False(t, r.table.Overflowed())
}

// When the wall clock is set back, nothing begins after it ends, and nothing expires before its time.
func TestClockIsSetBack(t *testing.T) {
	r := newRig(t, rigOptions{kind: snapshot.Swapped, metric: probe.Counter, dimension: "id", ttl: 3 * interval})
	step := func(wall, passed time.Duration) []string {
		r.builder.begin(began.Add(wall), passed)
		_, err := r.table.Read(t.Context())
		require.NoError(t, err)
		return r.points(r.builder.End())
	}
	r.add(key(1), 1)
	assert.Equal(t, []string{"/1=1 0..10"}, step(10*time.Second, interval))
	r.add(key(2), 2)
	assert.Equal(t, []string{"/1=1 0..20", "/2=2 10..20"}, step(20*time.Second, interval))
	// An hour back, ten seconds later.
	assert.Equal(t, []string{"/1=1 -3600..-3570", "/2=2 -3590..-3570"}, step(-3570*time.Second, interval))
	r.add(key(3), 3)
	assert.Equal(t, []string{"/1=1 -3600..-3560", "/2=2 -3590..-3560", "/3=3 -3570..-3560"}, step(-3560*time.Second, interval))
	assert.Equal(t, []string{"/2=2 -3590..-3550", "/3=3 -3570..-3550"}, step(-3550*time.Second, interval))
	// And a day ahead: series end by what passed, not by what the clock shows.
	assert.Equal(t, []string{"/3=3 -3570..86400"}, step(24*time.Hour, interval))
}

// Resources are forgotten with their last series, and none is there twice.
func TestResourcesExpire(t *testing.T) {
	for _, kind := range []probe.MetricType{probe.Counter, probe.UpDownCounter, probe.Gauge} {
		r := newRig(t, rigOptions{kind: snapshot.Swapped, metric: kind, dimension: "container", ttl: 2 * interval})
		for id := range uint64(500) {
			r.host.containers[id] = fmt.Sprint("c", id)
		}
		for i := range uint64(100) {
			for j := range uint64(5) {
				r.add(key(5*i+j), 1)
			}
			r.add(key(7), 1) // comes and goes, and comes again
			if i%7 == 3 {
				r.failAfter = 3
			}
			r.tick()
			r.failAfter = -1
			assert.LessOrEqual(t, len(r.builder.resources.known), 45)
		}
		for range 8 {
			r.tick()
		}
		assert.Len(t, r.builder.resources.known, 1, "the host")
		assert.Empty(t, r.table.views[0].series.list)
		assert.Empty(t, r.builder.resources.byCgroup)
	}
}

// What a burst of series took is given back.
func TestRoomIsGivenBack(t *testing.T) {
	for _, delta := range []bool{true, false} {
		r := newRig(t, rigOptions{kind: snapshot.Swapped, metric: probe.Counter, dimension: "interface", delta: delta, ttl: interval, limit: 1 << 20})
		for id := range uint64(3000) {
			r.live = append(r.live, fakeRow{key(id), []uint64{1}})
		}
		assert.Len(t, r.tick(), 3000)
		for range 4 {
			r.add(key(1), 1)
			r.tick()
		}
		set := r.table.views[0].series
		assert.Less(t, cap(set.list), 100)
		assert.Less(t, cap(set.records), 10_000)
		assert.Less(t, len(set.index.slots), 100)
		assert.Less(t, cap(set.attributes.list), 100)
	}
}

// A payload is gone with its consumer: between two ticks, a builder holds its series only.
func TestPayloadsAreLetGo(t *testing.T) {
	for _, delta := range []bool{true, false} {
		r := newRig(t, rigOptions{kind: snapshot.Swapped, metric: probe.Counter, dimension: "interface", delta: delta, limit: 1 << 20})
		for id := range uint64(10_000) {
			r.live = append(r.live, fakeRow{key(id), []uint64{1}})
		}
		r.builder.Begin(began.Add(interval))
		_, err := r.table.Read(t.Context())
		require.NoError(t, err)
		payload := r.builder.End()
		require.Equal(t, 10_000, payload.DataPointCount())
		gone := make(chan struct{})
		text := strings.Repeat("x", 64)
		runtime.AddCleanup(unsafe.StringData(text), func(c chan struct{}) { close(c) }, gone)
		payload.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Sum().DataPoints().At(5000).Attributes().PutStr("text", text)
		require.Eventually(t, func() bool {
			runtime.GC()
			select {
			case <-gone:
				return true
			default:
				return false
			}
		}, 10*time.Second, time.Millisecond)
		runtime.KeepAlive(r)
	}
}
