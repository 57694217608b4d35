// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
)

// page is a document that is made of results, and the environments that it is about.
type page struct {
	file string
	of   func(environment) bool
	text func([]*result) string
}

var pages = []page{
	{file: docsFile, of: notPrivileges, text: document},
	{file: privilegesFile, of: func(e environment) bool { return e.name == privileges }, text: privilegesDocument},
}

func notPrivileges(e environment) bool { return e.name != privileges }

// writePages renews those of which everything was run, and the list of tests that passed.
func writePages(o options, results, kept []*result, passed history, pins []pin) error {
	written := false
	for _, p := range pages {
		if !o.whole(results, p.of) {
			continue
		}
		if err := os.WriteFile(p.file, []byte(p.text(kept)), 0o644); err != nil {
			return err
		}
		written = true
	}
	if !written {
		return fmt.Errorf("%s is written after a run of all kernels in all environments but %s, and %s after that one on all of them", docsFile, privileges, privilegesFile)
	}
	return os.WriteFile(passedFile, []byte(passedText(kept, passed.elsewhere(kept, pins))), 0o644)
}
