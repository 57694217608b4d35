// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
)

// probePackages are the packages of the probes, whose tests are run unprivileged as well.
func probePackages() []string {
	files, _ := fs.Glob(bpf.Probes, "*/probe.yaml") // the pattern is a good one
	for i, file := range files {
		files[i] = path.Join("bpf", path.Dir(file))
	}
	return files
}

// onTopTitle is that of the table below.
const onTopTitle = "On top"

// onTopTable has what tests need besides what their probes do.
func onTopTable(results []*result) *table {
	t := newTable(onTopTitle, "What takes more than its probe does: the tests of it pass with these besides the probe's set, and fail when one of them is left out.",
		columnsOf(results))
	names := make(map[[2]string][]string)
	for _, r := range results {
		for _, o := range r.OnTop {
			place := [2]string{"`" + path.Base(o.Package) + "`: " + o.What, r.Column}
			for _, name := range o.Capabilities {
				if !slices.Contains(names[place], name) {
					names[place] = append(names[place], name)
				}
			}
			slices.Sort(names[place])
			cell := strings.Join(names[place], " ")
			if cell == "" {
				cell = "(none)"
			}
			t.set(place[0], place[1], cell)
		}
	}
	return t
}

// suitesTitle is that of the table below.
const suitesTitle = "The probes' tests"

// suitesTable has the probes' own tests as they ran unprivileged.
func suitesTable(results []*result, n *notes) *table {
	t := testTable(results, n)
	t.title = suitesTitle
	t.about = "Passed, with the receiver in a process of the user nobody that has just its probe's set for everything, or, where a test loads the programs without a\n" +
		"receiver, on such a thread; skipped ones where there are some. The rig around it, which makes namespaces, cgroups and connections, is root's."
	return t
}
