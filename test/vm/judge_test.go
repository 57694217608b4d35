// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// onePin is a matrix of one kernel, beside the one that is running.
const onePin = "6.12 arm64 trixie linux-image-6.12.* linux-image-6.12.1 6.12.1-1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"

// matrixOf is a whole run of it.
func matrixOf(change func(guest, host *result)) []*result {
	passed := outcome.Test{Package: "bpf/cpu", Name: "TestKernelA", Result: outcome.Passed}
	program := outcome.Program{Probe: "cpu", Name: "switch", Hook: "tp_btf/sched_switch", Taken: true, Instructions: 1000}
	guest := &result{
		Column: "6.12 arm64", Suite: "trixie", Release: "6.12.1", Tests: []outcome.Test{passed}, Programs: []outcome.Program{program},
	}
	host := &result{Column: "host " + hostArch, Tests: []outcome.Test{passed}, Programs: []outcome.Program{program}}
	if change != nil {
		change(guest, host)
	}
	return []*result{guest, host}
}

// inModule makes an empty module's root the current directory.
func inModule(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	for file, text := range map[string]string{pinsFile: onePin, docsFile: "", privilegesFile: "", passedFile: ""} {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
}

// Each thing that has to end in a failure does, and what is as it was does not.
func TestJudge(t *testing.T) {
	all := options{run: allTests}
	skipped := outcome.Test{Package: "bpf/cpu", Name: "TestKernelB", Result: outcome.Skipped, Output: "a_test.go:1: why"}
	passed := outcome.Test{Package: "bpf/cpu", Name: "TestKernelB", Result: outcome.Passed}
	lost := func(r *result, unsupported bool) {
		r.Programs[0].Taken, r.Programs[0].Why, r.Programs[0].Unsupported = false, "no such map", unsupported
	}
	for _, tt := range []struct {
		name   string
		change func(guest, host *result)
		want   string // empty: passes
	}{
		{name: "as it was"},
		{"a test fails", func(_, h *result) { h.Tests[0].Result = outcome.Failed }, "host amd64, whole: bpf/cpu TestKernelA"},
		{"a machine does not end", func(g, _ *result) { g.Errs = []string{"it hangs"} }, "6.12 arm64, whole: it hangs"},
		{"a program does not load", func(g, _ *result) { lost(g, false) }, "cpu switch: no such map"},
		{"a program is not supported any more", func(g, _ *result) { lost(g, true) }, "worse than before"},
		{"a program is taken nowhere", func(g, h *result) { lost(g, true); lost(h, true) }, "cpu switch is taken on no kernel"},
		{"a program is gone", func(g, _ *result) { g.Programs = nil }, "worse than before"},
		{"a probe is missing", func(_, h *result) { h.Missing = []outcome.Missing{{Probe: "flow", Why: "broken"}} }, "flow : broken"},
		{"the verifier has twice as much to do", func(g, _ *result) { g.Programs[0].Instructions *= 2 }, `it was "✓ 1000" and is "✓ 2000"`},
		{"the verifier has as much to do", func(g, _ *result) { g.Programs[0].Instructions += 100 }, ""},
		{"a test is gone", func(g, _ *result) { g.Tests = nil }, "worse than before"},
		{"a test is replaced by another", func(g, h *result) {
			g.Tests, h.Tests = []outcome.Test{passed}, []outcome.Test{passed}
		}, "bpf/cpu TestKernelA, 6.12 arm64: it passed, and is gone"},
		{"a test passes at the second attempt", func(g, _ *result) { g.Tests[0].Again = true }, ""},
		{"a test passes at the second attempt everywhere", func(g, h *result) {
			g.Tests[0].Again, h.Tests[0].Again = true, true
		}, "passes at its second attempt only"},
		{"a test is skipped everywhere", func(g, h *result) {
			g.Tests, h.Tests = append(g.Tests, skipped), append(h.Tests, skipped)
		}, "bpf/cpu TestKernelB is skipped on every kernel"},
		{"a test runs on the host only", func(_, h *result) { h.Tests = append(h.Tests, passed) }, ""},
		{"a new test is skipped on a kernel", func(g, h *result) {
			g.Tests, h.Tests = append(g.Tests, skipped), append(h.Tests, passed)
		}, "1 skipped"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inModule(t)
			docs := all
			docs.docs = true
			require.NoError(t, judge(docs, matrixOf(nil), io.Discard))
			before, err := os.ReadFile(docsFile)
			require.NoError(t, err)
			require.Contains(t, string(before), "✓ 1000")
			err = judge(docs, matrixOf(tt.change), io.Discard)
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, strings.ReplaceAll(tt.want, "amd64", hostArch))
			after, err := os.ReadFile(docsFile)
			require.NoError(t, err)
			assert.Equal(t, string(before), string(after), "a page is not written when the run is no success")
		})
	}
}

// Of a part of the matrix nothing is said that only the whole can tell, and no page is written.
func TestJudgeAPart(t *testing.T) {
	inModule(t)
	all := options{run: allTests, docs: true}
	require.NoError(t, judge(all, matrixOf(nil), io.Discard))
	part := matrixOf(func(g, _ *result) { g.Tests[0].Result = outcome.Skipped })
	require.ErrorContains(t, judge(options{run: allTests}, part[:1], io.Discard), "worse than before")
	require.NoError(t, judge(options{run: allTests}, matrixOf(nil)[1:], io.Discard))
	require.ErrorContains(t, judge(all, matrixOf(nil)[:1], io.Discard), "is written after a run of all")
	require.ErrorContains(t, judge(all, nil, io.Discard), "no kernel")
	few := options{run: "TestKernelA", docs: true}
	require.NoError(t, judge(few, matrixOf(func(g, _ *result) { g.Programs[0].Instructions *= 2 }), io.Discard))
	accept := all
	accept.accept = true
	require.NoError(t, judge(accept, matrixOf(func(g, _ *result) { g.Programs[0].Instructions *= 2 }), io.Discard))
	page, err := os.ReadFile(docsFile)
	require.NoError(t, err)
	require.Contains(t, string(page), "✓ 2000")
}

// What passed at the second attempt in the run before has no third.
func TestJudgeAgain(t *testing.T) {
	inModule(t)
	all := options{run: allTests, docs: true}
	again := func(g, _ *result) { g.Tests[0].Again = true }
	require.NoError(t, judge(all, matrixOf(again), io.Discard))
	require.ErrorContains(t, judge(all, matrixOf(again), io.Discard), "passes at its second attempt only")
	require.NoError(t, judge(all, matrixOf(nil), io.Discard))
	require.NoError(t, judge(all, matrixOf(again), io.Discard))
}

// What was taken out of the matrix is missed in every run, unless it is accepted.
func TestJudgeTakenOut(t *testing.T) {
	inModule(t)
	all := options{run: allTests, docs: true}
	require.NoError(t, judge(all, matrixOf(nil), io.Discard))
	page, err := os.ReadFile(docsFile)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(docsFile, bytes.ReplaceAll(page, []byte("6.12 arm64"), []byte("6.11 arm64")), 0o644))
	require.ErrorContains(t, judge(all, matrixOf(nil), io.Discard), "6.11 arm64, whole: it was there")
	require.ErrorContains(t, judge(options{run: allTests}, matrixOf(nil)[1:], io.Discard), "6.11 arm64, whole: it was there")
	all.accept = true
	require.NoError(t, judge(all, matrixOf(nil), io.Discard))
	require.NoError(t, judge(options{run: allTests}, matrixOf(nil), io.Discard))

	require.NoError(t, os.Remove(passedFile))
	require.ErrorIs(t, judge(options{run: allTests}, matrixOf(nil), io.Discard), os.ErrNotExist)
}

func TestRunJobs(t *testing.T) {
	var mu sync.Mutex
	var begun []string
	var running, most atomic.Int32
	note := func(j *job) error {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		mu.Lock()
		defer mu.Unlock()
		begun = append(begun, j.title)
		return nil
	}
	jobs := []*job{{title: "a"}, {title: "b", long: true}, {title: "c"}, {title: "d", long: true}}
	require.NoError(t, runJobs(t.Context(), jobs, 1, note))
	assert.Equal(t, []string{"b", "d", "a", "c"}, begun)
	assert.EqualValues(t, 1, most.Load())

	begun = nil
	require.NoError(t, runJobs(t.Context(), jobs, 3, note))
	assert.Len(t, begun, len(jobs))

	begun = nil
	broken := errors.New("broken")
	err := runJobs(t.Context(), jobs, 1, func(j *job) error { return errors.Join(note(j), broken) })
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "b: ")
	assert.Len(t, begun, 1, "the others are left")

	begun = nil
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, runJobs(ended, jobs, 2, note))
	assert.Empty(t, begun)
}

// A run of some packages takes the place of those in what was kept, and of nothing else.
func TestKeepOfSomePackages(t *testing.T) {
	test := func(pkg, name, r string) outcome.Test {
		return outcome.Test{Package: pkg, Name: name, Result: r}
	}
	m := &matrix{packages: []string{"bpf/cpu", "bpf/flow"}}
	m.keep = filepath.Join(t.TempDir(), "keep.json")
	note := func(tests ...outcome.Test) map[string]*result {
		require.NoError(t, m.note(&result{Column: "6.12 arm64", Tests: tests}))
		kept, err := m.kept()
		require.NoError(t, err)
		return kept
	}
	cpu, flow := test("bpf/cpu", "TestKernelA", outcome.Failed), test("bpf/flow", "TestKernelB", outcome.Passed)
	assert.Equal(t, []outcome.Test{cpu, flow}, note(cpu, flow)["6.12 arm64, "].Tests)

	m.options.packages, m.packages = "cpu", []string{"bpf/cpu"}
	cpu = test("bpf/cpu", "TestKernelC", outcome.Passed)
	assert.Equal(t, []outcome.Test{cpu, flow}, note(cpu)["6.12 arm64, "].Tests)

	m.options.packages, m.packages = "", []string{"bpf/cpu", "bpf/flow"}
	assert.Equal(t, []outcome.Test{cpu}, note(cpu)["6.12 arm64, "].Tests)
}
