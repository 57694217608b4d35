// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/bench/storm"
)

const (
	// stormRate is how many records a second have to go through.
	stormRate = 100_000
	// stormBurst records come at once, once in a millisecond.
	stormBurst   = 100
	stormSeconds = 10
)

// events first takes records to payloads beside the floors, in the benchmark of package emit, and then sends a storm through
// a whole receiver.
func events(ctx context.Context, r *run) error {
	bare, err := r.emitEvents(ctx)
	if err != nil {
		return err
	}
	return r.storm(ctx, bare)
}

// storm sends records through a receiver in this process, from a generator in another one. bare is the floor of the work for a record in
// ns, 0 where it is not known.
func (r *run) storm(ctx context.Context, bare float64) (err error) {
	seconds := stormSeconds
	if r.quick {
		seconds = 2
	}
	dir, err := os.MkdirTemp("", "ebpfreceiver-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, storm.Files); err != nil {
		return fmt.Errorf("write the probe's folder: %w", err)
	}
	generator, err := r.startChild(ctx, "generate", fmt.Sprint(stormRate), fmt.Sprint(stormBurst), fmt.Sprint(seconds))
	if err != nil {
		return err
	}
	rec, err := receive(ctx, fmt.Sprintf("probes: { storm: { path: %q, pid: %d, burst: %d } }", dir, generator.cmd.Process.Pid, stormBurst))
	if err != nil {
		return err
	}
	closed := false
	defer func() {
		if !closed {
			_ = rec.close() // the other error is why
		}
	}()
	before := cpuTime()
	if _, err := io.WriteString(generator.stdin, "go\n"); err != nil {
		return err
	}
	var made, took int64
	if _, err := fmt.Fscan(generator.stdout, &made, &took); err != nil {
		return fmt.Errorf("the generator said nothing: %w", err)
	}
	if _, err := generator.end(); err != nil {
		return err
	}
	for deadline := time.Now().Add(5 * time.Second); rec.logs.records.Load() < made && time.Now().Before(deadline); {
		pause(ctx, 10*time.Millisecond)
	}
	used := cpuTime() - before
	closed = true
	if err := rec.close(); err != nil {
		return err
	}
	c := rec.logs
	lost := made - c.records.Load()
	if n := c.wrong.Load(); n > 0 && lost == 0 {
		return fmt.Errorf("%d payloads did not begin where the one before ended, and yet the number of records is right", n)
	}
	rate := float64(made) / (float64(took) / 1e9)
	r.add(figure{area: "events", what: fmt.Sprintf("lost of %d records in %d s", made, seconds), ours: float64(lost), unit: "records", limit: 0.5})
	r.add(figure{area: "events", what: "rate that was kept", ours: rate, unit: "records/s", beside: "asked for", theirs: stormRate})
	r.add(figure{area: "events", what: "CPU at that rate, kernel's side not counted", ours: 100 * used.Seconds() / (float64(took) / 1e9), unit: "% of a core"})
	f := figure{area: "events", what: "CPU for a record, ring to consumer", ours: float64(used.Nanoseconds()) / float64(made), unit: "ns"}
	if bare > 0 {
		f.beside, f.theirs = "floors", bare
	}
	r.add(f)
	if n := c.other.Load(); n > 0 {
		r.note("the logs told of losses in %d records", n)
	}
	return nil
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		panic(err) // the clock is every process's
	}
	return time.Duration(t.Nano())
}
