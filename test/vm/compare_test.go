// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// resultOf is a run of one kernel in which one program was taken, or why it was not.
func resultOf(instructions uint32, why string, tests ...outcome.Test) *result {
	return &result{Column: "6.1 amd64", Suite: "bookworm", Release: "6.1.0", Tests: tests, Programs: []outcome.Program{{
		Probe: "cpu", Name: "switch", Hook: "tp_btf/sched_switch", Taken: why == "", Instructions: instructions, Why: why, Unsupported: true,
	}}}
}

func test(name, result string) outcome.Test {
	return outcome.Test{Package: "bpf/cpu", Name: name, Result: result, Output: "a_test.go:1: why"}
}

func TestWorse(t *testing.T) {
	withoutMetric := func(r *result) *result {
		r.Missing = append(r.Missing, outcome.Missing{Probe: r.Programs[0].Probe, Name: "ebpf.a", Why: "this kernel has no map", Unsupported: true})
		return r
	}
	withoutProbe := func() *result {
		missing := outcome.Missing{Probe: "cpu", Why: "this kernel has no iterators", Unsupported: true}
		return &result{Column: "6.1 amd64", Suite: "bookworm", Missing: []outcome.Missing{missing}}
	}
	passed, skipped := test("TestKernelA", outcome.Passed), test("TestKernelB", outcome.Skipped)
	for _, tt := range []struct {
		name          string
		before, after *result
		want          string // empty: nothing is worse
	}{
		{"the same", resultOf(100, "", passed), resultOf(100, "", passed), ""},
		{"a little more", resultOf(100, ""), resultOf(149, ""), ""},
		{"much more", resultOf(100, ""), resultOf(151, ""), "✓ 151"},
		{"less", resultOf(100, ""), resultOf(10, ""), ""},
		{"a number where there was none", resultOf(0, ""), resultOf(100, ""), ""},
		{"not taken any more", resultOf(100, ""), resultOf(0, "this kernel has no map"), cellNo + " [1]"},
		{"taken now", resultOf(0, "this kernel has no map"), resultOf(100, ""), ""},
		{"a program is gone", resultOf(100, ""), &result{Column: "6.1 amd64"}, "nothing"},
		{"fewer pass, which their names tell", resultOf(1, "", passed, passed), resultOf(1, "", passed), ""},
		{"none of a package is there", resultOf(1, "", passed), resultOf(1, ""), `it was "1" and is "nothing"`},
		{"one is skipped", resultOf(1, "", passed), resultOf(1, "", passed, skipped), "1 skipped"},
		{"one more is skipped", resultOf(1, "", passed, skipped), resultOf(1, "", passed, skipped, skipped), "2 skipped"},
		{"one less is skipped", resultOf(1, "", passed, skipped, skipped), resultOf(1, "", passed, skipped), ""},
		{"one that was skipped passes", resultOf(1, "", passed, skipped), resultOf(1, "", passed, passed), ""},
		{"one fails", resultOf(1, "", passed), resultOf(1, "", passed, test("TestKernelB", outcome.Failed)), "1 failed"},
		{"a metric is not there any more", resultOf(100, ""), withoutMetric(resultOf(100, "")), "`ebpf.a`"},
		{"a metric is there now", withoutMetric(resultOf(100, "")), resultOf(100, ""), ""},
		{"a probe is not there any more", resultOf(100, ""), withoutProbe(), "all of it"},
		{"a probe never was there", withoutProbe(), withoutProbe(), ""},
		{"a probe is there now", withoutProbe(), resultOf(100, ""), ""},
		{"a metric never was there", withoutMetric(resultOf(100, "")), withoutMetric(resultOf(100, "")), ""},
		{"another kernel was run", resultOf(100, ""), &result{Column: "5.10 amd64"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list := options{}.worse(document([]*result{tt.before}), document([]*result{tt.after}), []*result{tt.after})
			if tt.want == "" {
				assert.Empty(t, list)
				return
			}
			require.NotEmpty(t, list)
			assert.Contains(t, strings.Join(list, "\n"), tt.want)
		})
	}
}

func TestWorsePrivileges(t *testing.T) {
	needs := func(capabilities ...string) *result {
		return &result{Column: "6.1 amd64", Environment: privileges, Privileges: []outcome.Privileges{{
			Probe: "cpu", What: outcome.Defaults, Capabilities: capabilities,
		}}}
	}
	none := needs()
	before, after := needs("CAP_BPF"), needs("CAP_NET_RAW", "CAP_BPF")
	assert.Len(t, options{}.worse(privilegesDocument([]*result{none}), privilegesDocument([]*result{before}), []*result{before}), 1)
	assert.Empty(t, options{}.worse(privilegesDocument([]*result{before}), privilegesDocument([]*result{none}), []*result{none}))
	assert.Len(t, options{}.worse(privilegesDocument([]*result{before}), privilegesDocument([]*result{after}), []*result{after}), 1)
	assert.Empty(t, options{}.worse(privilegesDocument([]*result{after}), privilegesDocument([]*result{before}), []*result{before}))
}

func TestWorseEnvironments(t *testing.T) {
	order := []string{outcome.Refuses, outcome.WorksBut + "ebpf.a", outcome.Works}
	page := func(r *result) string { return document([]*result{r}) }
	holding := func(holds string) *result {
		found := test("TestKernelA", outcome.Passed)
		found.Holds = holds
		return runWith("6.1 amd64", "no-btf", found)
	}
	for i, had := range order {
		for j, has := range order {
			list := options{}.worse(page(holding(had)), page(holding(has)), []*result{holding(has)})
			assert.Equal(t, j < i, len(list) > 0, "%s, %s: %v", had, has, list)
		}
	}
	failed := runWith("6.1 amd64", "no-btf", test("TestKernelA", outcome.Failed))
	assert.Len(t, options{}.worse(page(holding(outcome.Refuses)), page(failed), []*result{failed}), 1)
}

func TestReadPins(t *testing.T) {
	pins, err := readPins(strings.NewReader("# comment\n\n6.1 amd64 bookworm linux-image-6.1.0-*-cloud linux-image-6.1.0-50-cloud 6.1.176-1 abc # more\n"))
	require.NoError(t, err)
	assert.Equal(t, []pin{{"6.1", "amd64", "bookworm", "linux-image-6.1.0-*-cloud", "linux-image-6.1.0-50-cloud", "6.1.176-1", "abc"}}, pins)
	for _, text := range []string{"6.1 amd64 bookworm", "6.1 amd64 bookworm linux-image-6.1.0-* linux-image-5.10 5 abc"} {
		_, err := readPins(strings.NewReader(text))
		require.ErrorContains(t, err, "line 1", text)
	}
}

// The committed file is in order, and each kernel's architecture has a userland.
func TestPins(t *testing.T) {
	pins, err := loadPins("kernels.txt")
	require.NoError(t, err)
	for _, p := range pins {
		assert.Len(t, p.SHA256, 64, p.Package)
		assert.Contains(t, pins, pin{Name: userland, Arch: p.Arch}.firstOf(pins), p.Arch)
	}
}

// firstOf is the first pin of the same name and architecture.
func (p pin) firstOf(pins []pin) pin {
	for _, other := range pins {
		if p.isOf(other) {
			return other
		}
	}
	return p
}

func TestNowhere(t *testing.T) {
	skipped, passed := test("TestKernelA", outcome.Skipped), test("TestKernelA", outcome.Passed)
	assert.Len(t, nowhere([]*result{resultOf(0, "no", skipped), resultOf(0, "no", skipped)}), 2)
	assert.Empty(t, nowhere([]*result{resultOf(0, "no", skipped), resultOf(1, "", passed)}))
}
