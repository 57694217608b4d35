// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/ebpfreceiver/ebpfreceiver/test/capability"
	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// suiteTimeout is what a test binary may take: emulated processors are some twenty times slower than real ones, and may have to share those.
const suiteTimeout = time.Hour

// maxOutput is how much of a test's output is told, in bytes.
const maxOutput = 8 << 10

// runSuite runs a test binary and tells of its top-level tests.
func runSuite(suite outcome.Suite, environment string, s setting, tell func(outcome.Line)) error {
	args := []string{suite.Binary, "-test.v", "-test.timeout=" + suiteTimeout.String()}
	if suite.Run != "" {
		args = append(args, "-test.run="+suite.Run)
	}
	if suite.Skip != "" {
		args = append(args, "-test.skip="+suite.Skip)
	}
	if suite.Short {
		args = append(args, "-test.short")
	}
	if s.container {
		args = append([]string{"/init", containerCommand}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.SysProcAttr = suite.Dir, s.process
	cmd.Env = append(append(os.Environ(), outcome.EnvironmentVariable+"="+environment), s.variables...)
	if s.cgroup != "" {
		dir, err := openCgroup(s.cgroup)
		if err != nil {
			return err
		}
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	p := &parser{pkg: suite.Package, tell: tell}
	readErr := p.read(r)
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && (!p.failed || exit.ExitCode() != 1):
		// It broke off: a panic, of which a test may be told as failed, or the timeout.
		if p.test != "" {
			p.finish(outcome.Failed, "", 0)
		}
		tell(outcome.Line{Test: &outcome.Test{Package: suite.Package, Result: outcome.Failed, Output: exit.String() + "\n" + p.output.String()}})
		err = nil
	case errors.As(err, &exit):
		err = nil // told already
	}
	return errors.Join(err, readErr)
}

// openCgroup makes a cgroup, if it is not there.
func openCgroup(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.Open(dir)
}

// parser reads what `go test -v` prints. Tests of one package run one after the other: none of those in the matrix is parallel.
type parser struct {
	pkg  string
	tell func(outcome.Line)

	test   string // that is running
	holds  string // what it tells of its environment
	onTop  []capability.Needs
	output strings.Builder
	failed bool
}

func (p *parser) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		p.line(line)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read its output: %w", err)
		}
	}
}

func (p *parser) line(line string) {
	if name, ok := strings.CutPrefix(line, "=== RUN   "); ok {
		if name = strings.TrimSpace(name); !strings.Contains(name, "/") {
			p.test, p.holds, p.onTop = name, "", nil
			p.output.Reset()
		}
		return
	}
	if rest, ok := strings.CutPrefix(line, "=== ATTR  "+p.test+" "+outcome.Holds+" "); ok {
		p.holds = strings.TrimSpace(rest)
		return
	}
	if _, value, ok := strings.Cut(line, " "+capability.NeedsAttribute+" "); ok && strings.HasPrefix(line, "=== ATTR  "+p.test) { // of it, or a part of it
		p.onTop = append(p.onTop, capability.ParseNeeds(value))
		return
	}
	for prefix, result := range map[string]string{
		"--- PASS: ": outcome.Passed, "--- FAIL: ": outcome.Failed, "--- SKIP: ": outcome.Skipped,
	} {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			name, took, _ := strings.Cut(strings.TrimSpace(rest), " ")
			seconds, _ := strconv.ParseFloat(strings.Trim(took, "(s)"), 64) // it is "(1.23s)"
			p.finish(result, name, seconds)
			return
		}
	}
	if p.output.Len() < maxOutput {
		p.output.WriteString(line)
	}
}

// finish tells of the test that ended.
func (p *parser) finish(result, name string, seconds float64) {
	if name == "" {
		name = p.test
	}
	if name == "" {
		return
	}
	test := &outcome.Test{Package: p.pkg, Name: name, Result: result, Seconds: seconds, Holds: p.holds, OnTop: p.onTop}
	if result != outcome.Passed {
		test.Output = strings.TrimSpace(p.output.String())
	}
	p.failed = p.failed || result == outcome.Failed
	p.tell(outcome.Line{Test: test})
	p.test = ""
	p.output.Reset()
}
