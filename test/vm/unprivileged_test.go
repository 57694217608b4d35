// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// The probes' packages are all those below bpf that have tests which attach programs.
func TestProbePackages(t *testing.T) {
	t.Chdir("../..")
	all, err := kernelPackages(".")
	require.NoError(t, err)
	var want []string
	for _, pkg := range all {
		if strings.HasPrefix(pkg, "bpf/") {
			want = append(want, pkg)
		}
	}
	assert.Equal(t, want, probePackages())
	p := plan(environment{name: privileges}, nil, allTests)
	assert.True(t, p.Privileges)
	assert.Len(t, p.Suites, len(want))
}

// What failed unprivileged is tried again unprivileged.
func TestAgainUnprivileged(t *testing.T) {
	r := &result{Environment: privileges, Tests: []outcome.Test{{Package: "bpf/cpu", Name: "TestKernelA", Result: outcome.Failed}}}
	p, ok := again(r, plan(environment{name: privileges}, nil, allTests))
	require.True(t, ok)
	assert.True(t, p.Privileges)
	require.Len(t, p.Suites, 1)
	assert.Equal(t, "bpf/cpu", p.Suites[0].Package)
}

func TestPrivilegesDocument(t *testing.T) {
	r := &result{
		Column: "6.1 amd64", Environment: privileges,
		Privileges: []outcome.Privileges{{
			Probe: "tcp", What: outcome.Everything, Capabilities: []string{"CAP_BPF"}, Warned: []string{"old sockets need CAP_SYS_ADMIN"},
		}},
		OnTop: []outcome.OnTop{
			{What: "old sockets", Package: "bpf/tcp", Test: "TestKernelA", Capabilities: []string{"CAP_SYS_PTRACE"}},
			{What: "old sockets", Package: "bpf/tcp", Test: "TestKernelB", Capabilities: []string{"CAP_SYS_ADMIN", "CAP_SYS_PTRACE"}},
		},
		Tests: []outcome.Test{
			{Package: "bpf/tcp", Name: "TestKernelA", Result: outcome.Passed},
			{Package: "bpf/tcp", Name: "TestKernelB", Result: outcome.Passed},
			{Package: "bpf/tcp", Name: "TestKernelC", Result: outcome.Skipped, Output: "c_test.go:1: it can not"},
		},
	}
	text := privilegesDocument([]*result{r})
	found := readCells(text)
	assert.Equal(t, "CAP_BPF [1]", found[[3]string{privilegesTitle, "`tcp` with everything", "6.1 amd64"}])
	assert.Equal(t, "CAP_SYS_ADMIN CAP_SYS_PTRACE", found[[3]string{onTopTitle, "`tcp`: old sockets", "6.1 amd64"}])
	assert.Equal(t, "2, 1 skipped [2]", found[[3]string{suitesTitle, "`bpf/tcp`", "6.1 amd64"}])
	assert.Contains(t, text, "- [1] with these it warns: old sockets need CAP_SYS_ADMIN\n")
	assert.Contains(t, text, "- [2] it can not: TestKernelC\n")
	assert.True(t, isWorse(onTopTitle, "CAP_SYS_PTRACE", "CAP_SYS_ADMIN CAP_SYS_PTRACE"))
	for _, title := range []string{privilegesTitle, onTopTitle, suitesTitle} {
		kernel, name := runOf([3]string{title, "a row", "6.1 amd64"})
		assert.Equal(t, "6.1 amd64", kernel)
		assert.Equal(t, privileges, name)
	}
}
