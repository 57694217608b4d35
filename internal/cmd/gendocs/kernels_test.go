// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

// compareKernels puts "6.1" before "6.12", whatever stands behind them.
func compareKernels(a, b string) int {
	numbers := regexp.MustCompile(`\d+`)
	x, y := numbers.FindAllString(a, 2), numbers.FindAllString(b, 2)
	for i := range x {
		m, _ := strconv.Atoi(x[i])
		n, _ := strconv.Atoi(y[i])
		if m != n {
			return cmp.Compare(m, n)
		}
	}
	return cmp.Compare(a, b)
}

// lacking is what docs/kernels.md says is not to be had of each probe, by kernel ("6.1 amd64"). Each kernel is there.
func lacking(t *testing.T) (by map[string]map[string][]string, kernels []string) {
	t.Helper()
	by = make(map[string]map[string][]string)
	_, rest, _ := strings.Cut(content(t, "docs/kernels.md"), "\n## Probe ")
	for section := range strings.SplitSeq(rest, "\n## Probe ") {
		section, _, _ = strings.Cut(section, "\n## ") // what follows the last one
		name, table, _ := strings.Cut(section, "\n")
		by[name] = make(map[string][]string)
		kernels = nil
		for line := range strings.SplitSeq(table, "\n") {
			cells := strings.Split(strings.Trim(line, "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			switch {
			case len(cells) < 2 || strings.HasPrefix(cells[0], "---"):
			case cells[0] == "":
				kernels = cells[1:]
				for _, kernel := range kernels {
					by[name][kernel] = nil
				}
			case strings.Count(cells[0], "`") == 2: // no program, which has its hook beside it
				require.Len(t, cells[1:], len(kernels), line)
				for i, kernel := range kernels {
					if strings.HasPrefix(cells[i+1], "no") {
						by[name][kernel] = append(by[name][kernel], strings.Trim(cells[0], "`"))
					}
				}
			}
		}
		require.NotEmpty(t, kernels, name)
	}
	return by, kernels
}

// What the README says is tested is what the kernel matrix found: from its floor on, a probe has all that it has; below that, just what is named.
func TestReadmeKernels(t *testing.T) {
	specs, err := probe.Builtin(bpf.Probes)
	require.NoError(t, err)
	lacks, kernels := lacking(t)
	slices.SortFunc(kernels, compareKernels)
	_, section, _ := strings.Cut(content(t, readmeFile), "\n## Kernels\n")
	section, _, _ = strings.Cut(section, "\n## ")
	quoted := regexp.MustCompile("`([^`]+)`")
	names := func(cell string) (list []string) {
		for _, match := range quoted.FindAllStringSubmatch(cell, -1) {
			list = append(list, match[1])
		}
		return list
	}

	told := make(map[string]bool)
	for _, row := range regexp.MustCompile(`(?m)^\| (.+) \| ([\d.]+) \| ([\d.]+) \|(.*)\|$`).FindAllStringSubmatch(section, -1) {
		from, since, before := row[2], row[3], names(row[4])
		for _, name := range names(row[1]) {
			require.Contains(t, lacks, name)
			told[name] = true
			assert.Contains(t, kernels, from+" amd64", name)
			assert.LessOrEqual(t, compareKernels(since, from), 0, "%s has been found to work where it should not", name)
			if since != from {
				says := fmt.Sprintf("Tested from Linux %s; what the probe needs is there since %s. ", from, since)
				assert.Contains(t, content(t, pagesFolder+"/"+name+".md"), says)
			}
			for _, kernel := range kernels {
				if compareKernels(kernel, from) >= 0 {
					assert.Empty(t, lacks[name][kernel], "%s on %s, which is not below %s", name, kernel, from)
					continue
				}
				assert.Positive(t, compareKernels(since, kernel), "%s should work on %s, and has been found not to", name, kernel)
				all := append(sorted(specs[name].Metrics), sorted(specs[name].Events)...)
				have := slices.DeleteFunc(all, func(s string) bool { return slices.Contains(lacks[name][kernel], s) })
				assert.ElementsMatch(t, before, have, "%s on %s", name, kernel)
			}
		}
	}
	for name := range specs {
		assert.True(t, told[name], "the README does not say from which kernel on %s is tested", name)
	}

	tested := regexp.MustCompile(`Tested are (.+), on arm64 (.+?);`).FindStringSubmatch(section)
	require.NotNil(t, tested)
	var list []string
	for i, arch := range []string{"amd64", "arm64"} {
		for _, version := range regexp.MustCompile(`[\d.]+`).FindAllString(tested[i+1], -1) {
			list = append(list, version+" "+arch)
		}
	}
	assert.ElementsMatch(t, kernels, list)
}
