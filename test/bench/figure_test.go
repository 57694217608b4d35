// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFigureCells(t *testing.T) {
	for name, test := range map[string]struct {
		figure figure
		want   []string
	}{
		"ratio of the values": {
			figure{area: "a", what: "w", ours: 150, beside: "peer", theirs: 400, unit: "ns", bar: 0.5},
			[]string{"a", "w", "150 ns", "400 (peer)", "0.38", "ratio ≤ 0.5", "yes"},
		},
		"median of ratios goes first": {
			figure{area: "a", what: "w", ours: 150, beside: "peer", theirs: 400, unit: "ns", ratio: 0.51, bar: 0.5},
			[]string{"a", "w", "150 ns", "400 (peer)", "0.51", "ratio ≤ 0.5", "NO"},
		},
		"limit": {
			figure{area: "a", what: "w", ours: 25.1, unit: "MB", limit: 25},
			[]string{"a", "w", "25.1 MB", "", "", "≤ 25 MB", "NO"},
		},
		"nothing to hold": {
			figure{area: "a", what: "w", ours: 0.1234, unit: "%"},
			[]string{"a", "w", "0.12 %", "", "", "", ""},
		},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, test.figure.cells()) })
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.004: "0.004", 0.5: "0.5", 9.94: "9.9", 25: "25", 43.21: "43.2", 999.6: "1000", 100009: "100009"} {
		assert.Equal(t, want, number(v))
	}
}

func TestMedian(t *testing.T) {
	assert.Zero(t, median(nil))
	assert.Equal(t, 2.0, median([]float64{3, 1, 2}))
	assert.Equal(t, 2.5, median([]float64{4, 3, 1, 2}))
}

func TestParseBench(t *testing.T) {
	got := parseBench("goos: linux\nBenchmarkX/delta/a/10-2 \t 15\t 0 ns/op\t 1.25 ratio\t 700 full-ns\nPASS\n")
	require.Len(t, got, 1)
	assert.Equal(t, result{"BenchmarkX/delta/a/10", map[string]float64{"ns/op": 0, "ratio": 1.25, "full-ns": 700}}, got[0])
}

func TestFdinfoField(t *testing.T) {
	const link = "pos:\t0\nlink_type:\traw_tracepoint\nprog_id:\t5641\n"
	assert.Equal(t, "5641", fdinfoField(link, "prog_id"))
	assert.Equal(t, "raw_tracepoint", fdinfoField(link, "link_type"))
	assert.Empty(t, fdinfoField("pos:\t0\nmap_id:\t3\n", "prog_id"))
}

func TestWriteReplacesTheFigures(t *testing.T) {
	file := filepath.Join(t.TempDir(), "benchmarks.md")
	r := &run{options: options{docs: file}, figures: []figure{{area: "a", what: "w", ours: 1, unit: "ns"}}, notes: []string{"so it is"}}
	require.NoError(t, os.WriteFile(file, []byte("# Head\n"+beginMark+"\nold\n"+endMark+"\n## Tail\n"), 0o600))
	for range 2 {
		require.NoError(t, r.write(time.Now()))
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Regexp(t, `(?s)^# Head\n<!-- figures[^\n]*-->\n\d{4}-\d\d-\d\d, Linux [^\n]*\n\n\|  \| what .*\| a \| w \| 1 ns \|.*- so it is\n<!-- end of figures -->\n## Tail\n$`, string(text))
	assert.NotContains(t, string(text), "old")

	require.NoError(t, os.WriteFile(file, []byte("# Head\n"), 0o600))
	assert.ErrorContains(t, r.write(time.Now()), "no place for figures")
}
