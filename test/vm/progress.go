// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// slow is a test that is told of: its load is too much for emulated processors.
const slow = 10.0

// progress tells of one run while it goes on.
type progress struct {
	log     io.Writer
	title   string
	verbose bool
	began   time.Time
	suite   string // that is running
	suiteAt time.Time
}

func newProgress(log io.Writer, title string, verbose bool) *progress {
	return &progress{log: log, title: title, verbose: verbose, began: time.Now()}
}

func (p *progress) tell(line outcome.Line) {
	switch {
	case line.Kernel != nil:
		p.print("Linux %s %s", line.Kernel.Release, line.Kernel.Machine)
	case line.Test != nil:
		p.test(line.Test)
	case line.Privileges != nil:
		p.print("%s %s: %s", line.Privileges.Probe, line.Privileges.What, strings.Join(line.Privileges.Capabilities, " "))
	case line.Done != nil:
		p.endSuite()
	case p.verbose && line.Program != nil && line.Program.Taken:
		p.print("%s %s, %d instructions", line.Program.Probe, line.Program.Name, line.Program.Instructions)
	}
}

func (p *progress) test(t *outcome.Test) {
	if t.Package != p.suite {
		p.endSuite()
		p.suite, p.suiteAt = t.Package, time.Now().Add(-time.Duration(t.Seconds*float64(time.Second)))
	}
	if p.verbose || t.Result == outcome.Failed || t.Seconds >= slow {
		text := fmt.Sprintf("%s %s %s, %.1f s", t.Result, t.Package, t.Name, t.Seconds)
		if t.Result == outcome.Failed {
			text += "\n" + t.Output
		}
		p.print("%s", text)
	}
}

func (p *progress) endSuite() {
	if p.suite != "" {
		p.print("%s took %.0f s", p.suite, time.Since(p.suiteAt).Seconds())
	}
	p.suite = ""
}

// print writes a line with the seconds since the run's start, in one piece: several runs have one log.
func (p *progress) print(format string, args ...any) {
	fmt.Fprintf(p.log, "%4.0f %s: %s\n", time.Since(p.began).Seconds(), p.title, fmt.Sprintf(format, args...))
}
