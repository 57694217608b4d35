// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// environmentTitle is that of the table below.
const environmentTitle = "Reduced environments"

const aboutEnvironments = "What the tests of `" + environmentPackage + "` found to hold where something is missing, or the machine sleeps, as they have to: of all probes, as far as the kernel has them, and in cgroup-v1\n" +
	"and cgroup-hybrid of all but flow, with a connection and datagrams that are counted to the byte. Without tracefs and perf events, and in lockdown, the metrics that need classic tracepoints\n" +
	"are enabled, too.\n\n" +
	"- " + outcome.Works + ": no complaint, and all data.\n" +
	"- " + outcome.WorksBut + "what is named: that one is missing, which one sentence says, and all else is there.\n" +
	"- " + outcome.Refuses + ": no probe can work. The Collector starts, and the receiver says why in one sentence each, loads nothing and gives nothing."

// environmentTable has the reduced environments.
func environmentTable(results []*result, n *notes) *table {
	t := newTable(environmentTitle, aboutEnvironments, columnsOf(results))
	for _, r := range results {
		var holds, repeated []string
		failed := len(r.Errs)
		for _, test := range r.Tests {
			switch {
			case test.Result == outcome.Failed:
				failed++
			case test.Result == outcome.Passed && !slices.Contains(holds, test.Holds):
				holds = append(holds, test.Holds)
			}
			if test.Again {
				repeated = append(repeated, test.Name)
			}
		}
		cell := cellTaken + " " + strings.Join(holds, "; ")
		if failed > 0 || len(holds) == 0 {
			cell = fmt.Sprintf("%d failed", failed)
		}
		if len(repeated) > 0 {
			cell += " " + n.mark(failedOnce+strings.Join(repeated, ", "))
		}
		t.set(r.Environment, r.Column, cell)
	}
	return t
}
