// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// What a test tells of its environment is of that test, and not of the next.
func TestParserHolds(t *testing.T) {
	const printed = `=== RUN   TestKernelWithoutTracefs
=== RUN   TestKernelWithoutTracefs/needed
--- PASS: TestKernelWithoutTracefs (7.30s)
    --- PASS: TestKernelWithoutTracefs/needed (3.10s)
=== RUN   TestKernelLockdown
=== ATTR  TestKernelLockdown holds works but for a, b
=== ATTR  TestKernelLockdown other works
--- PASS: TestKernelLockdown (5.80s)
=== RUN   TestKernelUserNamespace
    rig_test.go:38: runs in another
--- SKIP: TestKernelUserNamespace (0.00s)
PASS
`
	var tests []outcome.Test
	p := &parser{pkg: "a", tell: func(line outcome.Line) { tests = append(tests, *line.Test) }}
	require.NoError(t, p.read(strings.NewReader(printed)))
	assert.Equal(t, []outcome.Test{
		{Package: "a", Name: "TestKernelWithoutTracefs", Result: outcome.Passed, Seconds: 7.3},
		{Package: "a", Name: "TestKernelLockdown", Result: outcome.Passed, Seconds: 5.8, Holds: outcome.WorksBut + "a, b"},
		{Package: "a", Name: "TestKernelUserNamespace", Result: outcome.Skipped, Output: "rig_test.go:38: runs in another"},
	}, tests)
}
