// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// What is recalled is of the binaries that there are now.
func TestDropOthers(t *testing.T) {
	tcp := outcome.Test{Package: "bpf/tcp", Name: "TestKernelB", Result: outcome.Passed}
	cpu := test("TestKernelA", outcome.Passed)
	sums := made{guestPackage: "1", "bpf/cpu": "2", "bpf/tcp": "3"}
	with := func(pkg, sum string) made {
		other := maps.Clone(sums)
		other[pkg] = sum
		return other
	}
	for _, tt := range []struct {
		name, environment string
		now               made
		dropped           []string
		tests             []outcome.Test
		left              bool
	}{
		{"the same", "", sums, nil, []outcome.Test{cpu, tcp}, true},
		{"another test", "", with("bpf/tcp", "4"), []string{"bpf/tcp was tested with another binary"}, []outcome.Test{cpu}, true},
		{"no such package", "", with("bpf/tcp", ""), []string{"bpf/tcp was tested with another binary"}, []outcome.Test{cpu}, true},
		{"another guest", "", with(guestPackage, "4"), []string{"everything was made by another guest, kernel or environment"}, nil, false},
		{"another test, in an environment", "no-btf", with("bpf/tcp", "4"), []string{"bpf/tcp was tested with another binary"}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := runWith("6.1 amd64", tt.environment, cpu, tcp)
			r.Made = sums
			dropped, left := r.dropOthers(tt.now)
			assert.Equal(t, tt.dropped, dropped)
			assert.Equal(t, tt.left, left)
			if left {
				assert.Equal(t, tt.tests, r.Tests)
				assert.Equal(t, len(tt.dropped) == 0, options{}.selects(r, "bpf/tcp"), "what was left out is not missed")
			}
		})
	}
	r := runWith("6.1 amd64", "", cpu)
	_, left := r.dropOthers(sums)
	assert.False(t, left, "nobody knows of what it is")
}

// inTinyModule makes a module with a guest and a test the current directory.
func inTinyModule(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	for file, text := range map[string]string{
		"go.mod":                     "module example.com/tiny\n\ngo 1.25\n",
		guestPackage + "/main.go":    "package main\n\nfunc main() {}\n",
		"bpf/cpu/cpu_test.go":        "package cpu\n\nimport \"testing\"\n\nfunc TestKernelA(t *testing.T) {}\n",
		"bpf/cpu/testdata/a.bpf.o":   "a",
		"bpf/flow/flow_test.go":      "package flow\n\nimport \"testing\"\n\nfunc TestKernelA(t *testing.T) {}\n",
		environmentPackage + "/a.go": "package environment\n",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	}
}

// Sums are of what is built, which is the same from the same sources, and of the files that tests read.
func TestMade(t *testing.T) {
	inTinyModule(t)
	pins := []pin{{Name: "6.1", Arch: "amd64", SHA256: "1"}}
	m := &matrix{pins: pins}
	m.keep = "keep.json"
	sums := func() made {
		programs, err := build(t.Context(), hostArch, []string{"bpf/cpu", "bpf/flow"}, t.TempDir())
		require.NoError(t, err)
		sums, err := m.made(programs, "6.1 amd64", environment{}, []string{"bpf/cpu", "bpf/flow"})
		require.NoError(t, err)
		return sums
	}
	changed := func(before, after made) (list []string) {
		for name := range before {
			if before[name] != after[name] {
				list = append(list, name)
			}
		}
		return list
	}
	first := sums()
	require.Len(t, first, 3)
	assert.Equal(t, first, sums(), "another folder")

	require.NoError(t, os.WriteFile("bpf/cpu/testdata/a.bpf.o", []byte("b"), 0o644))
	data := sums()
	assert.Equal(t, []string{"bpf/cpu"}, changed(first, data))
	require.NoError(t, os.WriteFile("bpf/flow/flow_test.go", []byte("package flow\n\nimport \"testing\"\n\nfunc TestKernelB(t *testing.T) {}\n"), 0o644))
	code := sums()
	assert.Equal(t, []string{"bpf/flow"}, changed(data, code))
	pins[0].SHA256 = "2"
	assert.Equal(t, []string{guestPackage}, changed(code, sums()))
}
