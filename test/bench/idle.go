// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// idleConfig is a Collector that does nothing but wait for OTLP on a port of its own; %[1]s is what is added to the receivers,
// %[2]s to the pipelines.
const idleConfig = `
receivers:
  otlp: { protocols: { grpc: { endpoint: "127.0.0.1:%[3]d" } } }
%[1]s
exporters:
  debug: { verbosity: basic }
service:
  telemetry:
    metrics: { level: none }
  pipelines:
    metrics: { receivers: [otlp%[2]s], exporters: [debug] }
    logs: { receivers: [otlp%[2]s], exporters: [debug] }
`

const (
	idleSettle  = 5 * time.Second
	idleSeconds = 30
)

// idle runs two Collectors side by side, of which one has the receiver with both probes, and measures the difference.
func idle(ctx context.Context, r *run) error {
	if _, err := os.Stat(r.collector); err != nil {
		r.note("no Collector was built: run make collector first, for what the receiver adds to one")
		return nil
	}
	dir, err := os.MkdirTemp("", "ebpfreceiver-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	without, err := r.startCollector(ctx, dir, "without", "", "")
	if err != nil {
		return err
	}
	defer without.stop()
	with, err := r.startCollector(ctx, dir, "with", "  ebpf:\n    probes: { cpu: , process: }\n", ", ebpf")
	if err != nil {
		return err
	}
	defer with.stop()

	seconds := idleSeconds
	if r.quick {
		seconds = 5
	}
	pause(ctx, idleSettle)
	start := time.Now()
	before, err := cpuTimes(without, with)
	if err != nil {
		return err
	}
	pause(ctx, time.Duration(seconds)*time.Second)
	passed := time.Since(start)
	after, err := cpuTimes(without, with)
	if err != nil {
		return err
	}
	memory := [2]map[string]float64{without.memory(), with.memory()}
	if err := errors.Join(ctx.Err(), with.attached()); err != nil {
		return err
	}
	percent := func(i int) float64 { return 100 * (after[i] - before[i]).Seconds() / passed.Seconds() }
	added := func(key string) float64 { return memory[1][key] - memory[0][key] }
	r.add(figure{
		area: "idle", what: "memory that the receiver adds to a Collector", ours: added("VmRSS"), unit: "MB",
		beside: "the Collector without", theirs: memory[0]["VmRSS"], limit: 25,
	})
	r.add(figure{
		area: "idle", what: "CPU that it adds", ours: percent(1) - percent(0), unit: "% of a core",
		beside: "the Collector without", theirs: percent(0), limit: 0.5,
	})
	r.note("of the memory added, anonymous: %.1f MB, of files: %.1f MB, shared (rings and maps): %.1f MB; the peak was %.1f MB above that of the Collector without it",
		added("RssAnon"), added("RssFile"), added("RssShmem"), added("VmHWM"))
	return nil
}

// collector is a running Collector.
type collector struct {
	cmd *exec.Cmd
	log string
}

func (r *run) startCollector(ctx context.Context, dir, name, receivers, pipelines string) (*collector, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, name+".yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, idleConfig, receivers, pipelines, port), 0o600); err != nil {
		return nil, err
	}
	c := &collector{log: filepath.Join(dir, name+".log")}
	log, err := os.Create(c.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c.cmd = exec.CommandContext(ctx, r.collector, "--config", config)
	c.cmd.Stderr, c.cmd.Stdout = log, io.Discard
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the Collector: %w", err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		text, err := os.ReadFile(c.log)
		if err == nil && strings.Contains(string(text), "Everything is ready") {
			return c, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			c.stop()
			return nil, fmt.Errorf("the Collector did not become ready:\n%s", text)
		}
		pause(ctx, 50*time.Millisecond)
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (c *collector) stop() {
	_ = c.cmd.Process.Signal(unix.SIGTERM) // gone already, if that fails
	_ = c.cmd.Wait()
}

// attached tells whether the receiver found everything that it was asked for.
func (c *collector) attached() error {
	programs, err := programsOf(c.cmd.Process.Pid)
	if err != nil {
		return err
	}
	defer closePrograms(maps.Values(programs))
	if len(programs) == 0 {
		text, _ := os.ReadFile(c.log) // for the message only
		return fmt.Errorf("the receiver attached nothing:\n%s", text)
	}
	return nil
}

// cpuTimes are what processes have used, to the ns: the clocks of all their threads (CPUCLOCK_SCHED of a pid, see
// clock_getcpuclockid(3)).
func cpuTimes(collectors ...*collector) ([]time.Duration, error) {
	used := make([]time.Duration, len(collectors))
	for i, c := range collectors {
		var t unix.Timespec
		if err := unix.ClockGettime(int32(^c.cmd.Process.Pid<<3|2), &t); err != nil {
			return nil, fmt.Errorf("read the Collector's CPU clock: %w", err)
		}
		used[i] = time.Duration(t.Nano())
	}
	return used, nil
}

// memory are the sizes in /proc/PID/status, in MB of 10^6 bytes.
func (c *collector) memory() map[string]float64 {
	sizes := make(map[string]float64)
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid)) // empty when it has ended
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[2] == "kB" {
			if n, err := strconv.ParseFloat(fields[1], 64); err == nil {
				sizes[strings.TrimSuffix(fields[0], ":")] = n * 1024 / 1e6
			}
		}
	}
	return sizes
}
