// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// runWith is a run of a kernel in an environment, with tests.
func runWith(column, name string, tests ...outcome.Test) *result {
	return &result{Column: column, Environment: name, Suite: "bookworm", Tests: tests}
}

// onSecondAttempt is a test that passed at the second attempt.
func onSecondAttempt(t outcome.Test) outcome.Test {
	t.Again = true
	return t
}

func TestPassedText(t *testing.T) {
	a, b := test("TestKernelA", outcome.Passed), test("TestKernelB", outcome.Passed)
	text := passedText([]*result{
		runWith("5.10 amd64", "", b, a, test("TestKernelC", outcome.Skipped)),
		runWith("6.1 amd64", "", a, test("TestKernelB", outcome.Failed)),
		runWith("6.1 amd64", "no-btf", onSecondAttempt(b)),
	}, nil)
	assert.Equal(t, passedPreamble+"bpf/cpu TestKernelA: 5.10 amd64, 6.1 amd64\nbpf/cpu TestKernelB: 5.10 amd64, 6.1 amd64 no-btf (second attempt)\n", text)
	assert.Equal(t, history{
		{"bpf/cpu TestKernelA", "5.10 amd64"}: false, {"bpf/cpu TestKernelA", "6.1 amd64"}: false,
		{"bpf/cpu TestKernelB", "5.10 amd64"}: false, {"bpf/cpu TestKernelB", "6.1 amd64 no-btf"}: true,
	}, readPassed(text))
}

// What was not run stays known, but for what is no part of the matrix any more.
func TestElsewhere(t *testing.T) {
	a := test("TestKernelA", outcome.Passed)
	before := readPassed("bpf/cpu TestKernelA: 5.10 amd64, 6.1 amd64, 6.1 amd64 no-btf (second attempt), 4.19 amd64, 6.1 amd64 no-electricity\n")
	pins := []pin{{Name: "5.10", Arch: "amd64"}, {Name: "6.1", Arch: "amd64"}}
	results := []*result{runWith("6.1 amd64", "", a)}
	assert.Equal(t, passedPreamble+"bpf/cpu TestKernelA: 5.10 amd64, 6.1 amd64, 6.1 amd64 no-btf (second attempt)\n",
		passedText(results, before.elsewhere(results, pins)))
}

// A test that passes no more is missed by its name, in what was run.
func TestLost(t *testing.T) {
	a, b := test("TestKernelA", outcome.Passed), test("TestKernelB", outcome.Passed)
	before := readPassed(passedText([]*result{runWith("6.1 amd64", "", a, b), runWith("6.1 amd64", "no-btf", a)}, nil))
	for _, tt := range []struct {
		name     string
		packages string
		now      []*result
		want     []string
	}{
		{"the same", "", []*result{runWith("6.1 amd64", "", b, a), runWith("6.1 amd64", "no-btf", a)}, nil},
		{"at the second attempt", "", []*result{runWith("6.1 amd64", "", b, onSecondAttempt(a))}, nil},
		{"one more", "", []*result{runWith("6.1 amd64", "", b, a, test("TestKernelC", outcome.Passed))}, nil},
		{
			"skipped, while another came", "",
			[]*result{runWith("6.1 amd64", "", test("TestKernelA", outcome.Skipped), b, test("TestKernelC", outcome.Passed))},
			[]string{"bpf/cpu TestKernelA, 6.1 amd64: it passed, and was skipped: why"},
		},
		{
			"failed", "",
			[]*result{runWith("6.1 amd64", "", test("TestKernelA", outcome.Failed), b)},
			[]string{"bpf/cpu TestKernelA, 6.1 amd64: it passed, and failed"},
		},
		{"gone", "", []*result{runWith("6.1 amd64", "", b)}, []string{"bpf/cpu TestKernelA, 6.1 amd64: it passed, and is gone"}},
		{"all gone, of the selected package", "cpu$", []*result{runWith("6.1 amd64", "")}, []string{
			"bpf/cpu TestKernelA, 6.1 amd64: it passed, and is gone", "bpf/cpu TestKernelB, 6.1 amd64: it passed, and is gone",
		}},
		{"another package was run", "^bpf/tcp$", []*result{runWith("6.1 amd64", "")}, nil},
		{"another kernel was run", "", []*result{runWith("5.10 amd64", "")}, nil},
		{"another environment was run", "", []*result{runWith("6.1 amd64", "no-tracefs")}, nil},
		{
			"gone from an environment, which packages do not select", "^bpf/tcp$",
			[]*result{runWith("6.1 amd64", "no-btf")},
			[]string{"bpf/cpu TestKernelA, 6.1 amd64 no-btf: it passed, and is gone"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, options{packages: tt.packages}.lost(before, tt.now))
		})
	}
}

// That a test passes at its second attempt is an accident once, and no more.
func TestRepeated(t *testing.T) {
	a, b := test("TestKernelA", outcome.Passed), onSecondAttempt(test("TestKernelA", outcome.Passed))
	noted := readPassed(passedText([]*result{runWith("6.1 amd64", "", b), runWith("5.10 amd64", "", a), runWith("6.1 amd64", "no-btf", b)}, nil))
	const name = "bpf/cpu TestKernelA passes at its second attempt only, and not for the first time: "
	for _, tt := range []struct {
		name    string
		options options
		before  history
		now     []*result
		want    []string
	}{
		{"never", options{}, noted, []*result{runWith("6.1 amd64", "", a)}, nil},
		{"once", options{}, history{}, []*result{runWith("6.1 amd64", "", b), runWith("5.10 amd64", "", a)}, nil},
		{"once, and before on another kernel", options{}, noted, []*result{runWith("5.10 amd64", "", b)}, nil},
		{"on two kernels", options{}, history{}, []*result{runWith("6.1 amd64", "", b), runWith("5.10 amd64", "", b)}, []string{name + "6.1 amd64, 5.10 amd64"}},
		{"as before", options{}, noted, []*result{runWith("6.1 amd64", "", b)}, []string{name + "6.1 amd64"}},
		{"as before, in an environment", options{packages: "tcp"}, noted, []*result{runWith("6.1 amd64", "no-btf", b)}, []string{name + "6.1 amd64 no-btf"}},
		{"recalled, with other kernels", options{kernels: "^5.10"}, noted, []*result{runWith("6.1 amd64", "", b)}, nil},
		{"recalled, with other environments", options{environments: "no-btf"}, noted, []*result{runWith("6.1 amd64", "", b)}, nil},
		{"recalled, with other packages", options{packages: "tcp"}, noted, []*result{runWith("6.1 amd64", "", b)}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, tt.options.repeated(tt.before, tt.now))
		})
	}
}
