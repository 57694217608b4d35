// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// A kernel or an environment that was taken out of the matrix is missed on its pages, also when nothing of it was run.
func TestUnplanned(t *testing.T) {
	pins := []pin{{Name: "6.1", Arch: "amd64"}, {Name: userland, Arch: "arm64"}}
	passed := test("TestKernelA", outcome.Passed)
	noBTF := passed
	noBTF.Holds = outcome.Refuses
	needs := func(column string) *result {
		return &result{Column: column, Environment: privileges, Privileges: []outcome.Privileges{{Probe: "cpu", What: outcome.Defaults}}}
	}
	there := []*result{runWith("6.1 amd64", "", passed), runWith("6.1 amd64", "no-btf", noBTF)}
	for _, tt := range []struct {
		name string
		more *result
		want []string
	}{
		{"nothing", runWith("6.1 amd64", "no-tracefs", noBTF), nil},
		{"a kernel", runWith("5.4 amd64", "", passed), []string{"5.4 amd64, whole: it was there and is no part of the matrix"}},
		{"an environment", runWith("6.1 amd64", "no-proc", noBTF), []string{"6.1 amd64, no-proc: it was there and is no part of the matrix"}},
		{"an environment's kernel", runWith("6.1 amd64", "cgroup-v1", noBTF), []string{"6.1 amd64, cgroup-v1: it was there and is no part of the matrix"}},
		{"a userland is no kernel", runWith("userland arm64", "", passed), []string{"userland arm64, whole: it was there and is no part of the matrix"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, unplanned(readCells(document(append(there[:2:2], tt.more))), pins))
		})
	}
	assert.Empty(t, unplanned(readCells(privilegesDocument([]*result{needs("6.1 amd64")})), pins))
	assert.Equal(t, []string{"5.4 amd64, privileges: it was there and is no part of the matrix"},
		unplanned(readCells(privilegesDocument([]*result{needs("6.1 amd64"), needs("5.4 amd64")})), pins))
}

// Each reduced environment says what holds there, and once on a kernel.
func TestEnvironments(t *testing.T) {
	pins, err := loadPins("kernels.txt")
	require.NoError(t, err)
	for _, e := range environments {
		if e.name != "" && e.name != privileges {
			assert.NotEmpty(t, e.holds, e.name)
		}
		made := false
		for _, p := range pins {
			if p.Name == userland || !e.on(p.String()) {
				continue
			}
			made = true
			found, ok := environmentOn(p.String(), e.name)
			assert.True(t, ok)
			assert.Equal(t, e, found, "%s is there twice on %s", e.name, p)
		}
		assert.True(t, made, e.name)
	}
}

// What the tests of an environment find is what is declared.
func TestUnexpected(t *testing.T) {
	holding := func(holds string) outcome.Test {
		found := test("TestKernelA", outcome.Passed)
		found.Holds = holds
		return found
	}
	assert.Empty(t, runWith("6.1 amd64", "no-btf", holding(outcome.Refuses)).failures())
	assert.Len(t, runWith("6.1 amd64", "no-btf", holding(outcome.Works)).failures(), 1)
	assert.Len(t, runWith("6.1 amd64", "no-btf", holding("")).failures(), 1, "it says nothing")
	assert.Empty(t, runWith("6.1 amd64", "no-tracefs", holding(butTracepoints)).failures())
	assert.Len(t, runWith("6.1 amd64", "no-tracefs", holding(outcome.Works)).failures(), 1)
	assert.Equal(t, []string{"no test ran"}, runWith("6.1 amd64", "no-btf", test("TestKernelA", outcome.Skipped)).failures())
}

func TestComplete(t *testing.T) {
	r := runWith("6.1 amd64", "", test("TestKernelA", outcome.Passed))
	assert.True(t, r.complete([]string{"bpf/cpu", "receiver"}), "the receiver's are for some kernels only")
	assert.False(t, r.complete([]string{"bpf/cpu", "bpf/tcp"}))
	assert.True(t, runWith("6.1 amd64", "no-btf").complete([]string{"bpf/cpu"}))
}
