// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/capability"
	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// binary pretends to be a test binary: one of its tests says that it needs two capabilities, of which it misses one only, and the other passes with just
// those that it should have.
const binary = `#!/bin/sh
status=0
say() { echo "--- $2: $1 (0.50s)"; [ $2 = PASS ] || status=1; }
case "$*" in *TestKernelMore*|*-test.run=all*)
	echo "=== RUN   TestKernelMore"
	echo "=== ATTR  TestKernelMore/a needs CAP_SYS_ADMIN CAP_SYSLOG: more"
	echo "=== ATTR  TestKernelMore/b needs CAP_SYS_ADMIN CAP_SYSLOG: more"
	if [ "$EBPFRECEIVER_TEST_WITHOUT_CAPABILITY" = CAP_SYSLOG ]; then say TestKernelMore FAIL; else say TestKernelMore PASS; fi
esac
case "$*" in *-test.run=all*)
	echo "=== RUN   TestKernelPlain"
	if [ "$EBPFRECEIVER_TEST_CAPABILITIES" = CAP_PERFMON,CAP_BPF ]; then say TestKernelPlain PASS; else say TestKernelPlain FAIL; fi
esac
exit $status
`

func TestUnprivilegedSuites(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tests")
	require.NoError(t, os.WriteFile(file, []byte(binary), 0o755))
	plan := &outcome.Plan{Suites: []outcome.Suite{{Package: "bpf/cpu", Binary: file, Dir: dir, Run: "all"}, {Package: "bpf/new"}}}
	var tests []outcome.Test
	var more []outcome.OnTop
	err := unprivilegedSuites(plan, setting{}, map[string][]string{"cpu": {"CAP_PERFMON", "CAP_BPF"}}, func(line outcome.Line) {
		if line.Test != nil {
			tests = append(tests, *line.Test)
		}
		if line.OnTop != nil {
			more = append(more, *line.OnTop)
		}
	})
	require.EqualError(t, err, "bpf/new is not run, since it is not known what is enough for it")
	says := capability.Needs{What: "more", Capabilities: []string{"CAP_SYS_ADMIN", "CAP_SYSLOG"}}
	assert.Equal(t, []outcome.Test{
		{Package: "bpf/cpu", Name: "TestKernelMore", Result: outcome.Passed, Seconds: 0.5, OnTop: []capability.Needs{says, says}},
		{Package: "bpf/cpu", Name: "TestKernelPlain", Result: outcome.Passed, Seconds: 0.5},
	}, tests)
	assert.Equal(t, []outcome.OnTop{{What: "more", Package: "bpf/cpu", Test: "TestKernelMore", Capabilities: []string{"CAP_SYSLOG"}}}, more)
}
