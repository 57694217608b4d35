// SPDX-License-Identifier: Apache-2.0

//go:build linux

package emit

import (
	"math"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"
)

// cost is what a function took of the processor, which on a busy machine says more than a clock. The garbage collector is off
// meanwhile: when it runs depends on what else is in memory. What it has to do is told by the allocations.
func cost(fn func()) (cpu time.Duration, allocations uint64) {
	var before, after runtime.MemStats
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.ReadMemStats(&before)
	start := processTime()
	fn()
	cpu = processTime() - start
	runtime.ReadMemStats(&after)
	return cpu, after.Mallocs - before.Mallocs
}

func processTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// beside measures a function that handles n rows and, right after it, one that does the least that can be done. It reports
// the best of either, which other programs disturbed the least.
func beside(b *testing.B, n int, full, floor func()) {
	b.Helper()
	best, least := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	var allocations, fewest uint64
	for b.Loop() {
		var t time.Duration
		t, allocations = cost(full)
		best = min(best, t)
		t, fewest = cost(floor)
		least = min(least, t)
	}
	rows := float64(n)
	b.ReportMetric(float64(best)/rows, "ns/row")
	b.ReportMetric(float64(least)/rows, "floor-ns/row")
	b.ReportMetric(float64(best)/float64(least), "ratio")
	b.ReportMetric(float64(allocations)/rows, "allocs/row")
	b.ReportMetric(float64(fewest)/rows, "floor-allocs/row")
	b.ReportMetric(0, "ns/op")
}
