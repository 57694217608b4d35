// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// The table says what holds, and which tests needed a second attempt.
func TestEnvironmentTable(t *testing.T) {
	works := test("TestKernelA", outcome.Passed)
	works.Holds = outcome.Works
	but := works
	but.Holds = butExecFailures
	n := new(notes)
	table := environmentTable([]*result{
		runWith("5.10 amd64", "cgroup-v1", works, works),
		runWith("5.10 amd64", "no-tracefs", but),
		runWith("6.1 amd64", "cgroup-v1", onSecondAttempt(works)),
		runWith("6.1 amd64", "no-tracefs", but, test("TestKernelB", outcome.Failed)),
		{Column: "6.1 amd64", Environment: "no-btf", Errs: []string{"it hangs"}, Tests: []outcome.Test{works}},
	}, n)
	for place, want := range map[[2]string]string{
		{"cgroup-v1", "5.10 amd64"}:  "✓ works",
		{"no-tracefs", "5.10 amd64"}: "✓ works but for ebpf.process.exec.failures",
		{"cgroup-v1", "6.1 amd64"}:   "✓ works [1]",
		{"no-tracefs", "6.1 amd64"}:  "1 failed",
		{"no-btf", "6.1 amd64"}:      "1 failed",
	} {
		assert.Equal(t, want, table.cells[place], place)
	}
	var text strings.Builder
	n.markdown(&text)
	assert.Contains(t, text.String(), "- [1] failed once, and passed when it was run again: TestKernelA\n")
}
