// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// kernelsTitle is that of the table of all kernels.
const kernelsTitle = "Kernels"

// unplanned lists the kernels and environments that a page has, and the matrix has not any more.
func unplanned(page cells, pins []pin) []string {
	var list []string
	for place, cell := range page {
		kernel, name := runOf(place)
		if cell == "" || planned(pins, kernel, name) {
			continue
		}
		text := kernel + ", " + environment{name: name}.title() + ": it was there and is no part of the matrix"
		if !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	slices.Sort(list)
	return list
}

// runOf is the kernel and the environment that a cell is about.
func runOf(place [3]string) (kernel, name string) {
	switch place[0] {
	case kernelsTitle:
		return place[1], ""
	case environmentTitle:
		return place[2], place[1]
	case privilegesTitle, onTopTitle, suitesTitle:
		return place[2], privileges
	}
	return place[2], ""
}

// planned tells whether an environment is run on a kernel.
func planned(pins []pin, kernel, name string) bool {
	_, ok := environmentOn(kernel, name)
	return ok && slices.ContainsFunc(pins, func(p pin) bool { return p.Name != userland && p.String() == kernel })
}

// complete tells whether a run has tests of all packages that its kernel runs.
func (r *result) complete(packages []string) bool {
	if r.Environment != "" {
		return true
	}
	for _, pkg := range packagesOn(r.Column, packages) {
		if !slices.ContainsFunc(r.Tests, func(t outcome.Test) bool { return t.Package == pkg }) {
			return false
		}
	}
	return true
}
