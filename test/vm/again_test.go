// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// What fails once is run again, with all of its package; what fails twice has failed.
func TestAgain(t *testing.T) {
	done := outcome.Plan{Report: true, Suites: []outcome.Suite{{Package: "bpf/a", Run: "^TestKernel"}, {Package: "bpf/b", Run: "^TestKernel", Short: true}, {Package: "test/reliability", Run: "^TestKernel"}}}
	r := &result{Tests: []outcome.Test{
		{Package: "bpf/a", Name: "TestKernelA", Result: outcome.Passed},
		{Package: "bpf/b", Name: "TestKernelA", Result: outcome.Failed, Output: "why"},
		{Package: "bpf/b", Name: "TestKernelB", Result: outcome.Failed},
	}}
	todo, ok := again(r, done)
	assert.True(t, ok)
	assert.Equal(t, outcome.Plan{Suites: []outcome.Suite{{Package: "bpf/b", Run: "^TestKernel", Short: true}}}, todo)

	r.amend(&result{Tests: []outcome.Test{
		{Package: "bpf/b", Name: "TestKernelA", Result: outcome.Passed},
		{Package: "bpf/b", Name: "TestKernelB", Result: outcome.Failed},
	}})
	assert.Equal(t, []string{"bpf/b TestKernelB\n"}, r.failures())
	assert.True(t, r.Tests[1].Again)
	var text strings.Builder
	testTable([]*result{r}, &notes{}).markdown(&text)
	assert.Contains(t, text.String(), "1 [1], 1 failed")

	broken := &result{Tests: []outcome.Test{{Package: "bpf/b", Name: "TestKernelB", Result: outcome.Failed}}}
	broken.amend(&result{Errs: []string{"it hangs"}, Tests: []outcome.Test{{Package: "bpf/b", Name: "TestKernelB", Result: outcome.Passed}}})
	assert.Equal(t, []string{"it hangs", "bpf/b TestKernelB\n"}, broken.failures())

	for name, r := range map[string]*result{
		"nothing failed": {Tests: []outcome.Test{{Package: "bpf/a", Name: "TestKernelA", Result: outcome.Passed}}},
		"the machine":    {Errs: []string{"it hangs"}},
		"the suite":      {Tests: []outcome.Test{{Package: "bpf/a", Result: outcome.Failed}}},
		"an account": {Tests: []outcome.Test{
			{Package: "bpf/b", Name: "TestKernelA", Result: outcome.Failed},
			{Package: "test/reliability", Name: "TestKernelStorm", Result: outcome.Failed},
		}},
		"too many": {Tests: []outcome.Test{
			{Package: "bpf/a", Name: "TestKernelA", Result: outcome.Failed},
			{Package: "bpf/a", Name: "TestKernelB", Result: outcome.Failed},
			{Package: "bpf/a", Name: "TestKernelC", Result: outcome.Failed},
			{Package: "bpf/a", Name: "TestKernelD", Result: outcome.Failed},
		}},
	} {
		_, ok := again(r, done)
		assert.False(t, ok, name)
	}
}
