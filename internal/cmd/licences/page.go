// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const introduction = `<!-- Written by make dependencies. -->
# Dependencies

Every Go module that is built into the receiver, into the Collector that ` + "`make collector`" + ` builds, into the one of deploy/builder-config.full.yaml, or into the
tests alone, with the licence that its own files state. ` + "`make supply-chain`" + ` fails when this page is not what is built, or when a licence is none of these: %s.

The programs in the kernel use the headers of libbpf (LGPL-2.1 or BSD-2-Clause; macros and declarations only) and the C compiler's. They are compiled by
clang 19 of Debian, and are the same, bit for bit, wherever that is done: [reliability](reliability.md#supply-chain).

`

func page(modules map[string]*module, withCollector, withFull bool) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, introduction, strings.Join(accepted, ", "))
	count := make(map[string]int)
	for _, m := range modules {
		count[m.licence]++
	}
	b.WriteString("| licence | modules |\n| --- | --- |\n")
	for _, licence := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(&b, "| %s | %d |\n", licence, count[licence])
	}
	for _, section := range []struct{ title, use string }{
		{"Receiver", inReceiver},
		{"Collector, besides those", inCollector},
		{"Collector of deploy/builder-config.full.yaml, besides those", inFull},
		{"Tests only", inTests},
	} {
		if section.use == inCollector && !withCollector || section.use == inFull && !withFull {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n| module | version | licence |\n| --- | --- | --- |\n", section.title)
		sorted := slices.SortedFunc(maps.Values(modules), func(a, b *module) int {
			return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Version, b.Version))
		})
		for _, m := range sorted {
			if m.uses[0] == section.use {
				fmt.Fprintf(&b, "| %s | %s | %s |\n", m.Path, m.Version, m.licence)
			}
		}
	}
	return b.Bytes()
}
