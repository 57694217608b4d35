// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// Package emit may be imported only below receiver/: its benchmarks run in a process of their own, and what they report is read.

// result is one line of a benchmark: values by unit.
type result struct {
	name   string
	values map[string]float64
}

var errNoEmit = errors.New("no test binary of receiver/internal/emit was given")

func (r *run) emit(ctx context.Context, pattern string, times int) ([]result, error) {
	if r.emitBench == "" {
		return nil, errNoEmit
	}
	if r.quick {
		times = 2
	}
	cmd := exec.CommandContext(ctx, r.emitBench, "-test.run", "^$", "-test.bench", pattern, "-test.benchtime", fmt.Sprintf("%dx", times), "-test.timeout", "10m")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run the benchmarks of package emit: %w\n%s", err, out)
	}
	return parseBench(string(out)), nil
}

// parseBench reads lines such as "BenchmarkX/a-2  5  123 ns/op  1.2 ratio".
func parseBench(text string) []result {
	var results []result
	in := bufio.NewScanner(strings.NewReader(text))
	for in.Scan() {
		fields := strings.Fields(in.Text())
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := fields[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i] // the number of CPUs
		}
		values := make(map[string]float64)
		for i := 2; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				values[fields[i+1]] = v
			}
		}
		results = append(results, result{name, values})
	}
	return results
}

// snapshots takes full maps to finished payloads.
func snapshots(ctx context.Context, r *run) error {
	// The large ones take seconds an iteration.
	small, err := r.emit(ctx, "^BenchmarkKernelSnapshot$/^(delta|cumulative)$/^(numbers|addresses)$/^100000$", 15)
	if errors.Is(err, errNoEmit) {
		r.note("%v: no snapshots", err)
		return nil
	}
	if err != nil {
		return err
	}
	large, err := r.emit(ctx, "^BenchmarkKernelSnapshot$/^(delta|cumulative)$/^addresses$/^1000000$", 5)
	if err != nil {
		return err
	}
	perRow := make(map[string]float64)
	for _, v := range append(small, large...) {
		parts := strings.Split(v.name, "/")
		if len(parts) != 4 {
			continue
		}
		attributes := "five numbers"
		if parts[2] == "addresses" {
			attributes = "two addresses, three numbers"
		}
		r.add(figure{
			area: "snapshot", what: fmt.Sprintf("%s rows to a payload, %s, %s", parts[3], parts[1], attributes),
			ours: v.values["full-ns"], unit: "ns/row", beside: "batch read + bare pdata", theirs: v.values["read-ns"] + v.values["build-ns"],
			ratio: v.values["ratio"], bar: 1.5,
		})
		if parts[2] == "addresses" {
			perRow[parts[1]+parts[3]] = v.values["full-ns"]
		}
	}
	for _, temporality := range []string{"delta", "cumulative"} {
		r.add(figure{
			area: "snapshot", what: "1000000 rows, " + temporality, ours: perRow[temporality+"1000000"], unit: "ns/row",
			beside: "100000 rows", theirs: perRow[temporality+"100000"],
		})
	}
	return nil
}

// emitEvents takes records to payloads, and returns the floor in ns a record.
func (r *run) emitEvents(ctx context.Context) (float64, error) {
	results, err := r.emit(ctx, "^BenchmarkKernelEvents$", 60)
	if errors.Is(err, errNoEmit) {
		r.note("%v: records are not held against their floors", err)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, v := range results {
		bare := v.values["read-ns"] + v.values["build-ns"]
		r.add(figure{
			area: "events", what: fmt.Sprintf("record of %.0f bytes to a log record of %.0f attributes", v.values["bytes/record"], v.values["attributes/record"]),
			ours: v.values["full-ns"], unit: "ns", beside: "ring read + bare pdata", theirs: bare, ratio: v.values["ratio"], bar: 1.5,
		})
		return bare, nil
	}
	return 0, errors.New("the benchmark said nothing")
}
