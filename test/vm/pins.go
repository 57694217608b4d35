// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// pinsFile names every Debian package that the matrix uses.
const pinsFile = "test/vm/kernels.txt"

// userland is the name of the pins that make a root directory together; all other names are kernels'.
const userland = "userland"

// pin is one package: what it is called here, and exactly which one it is.
type pin struct {
	Name, Arch string
	// Suite of Debian that has it. Glob matches the package there, whatever the newest one's version is.
	Suite, Glob string
	// Package, Version and SHA256 (of the package's file, in hex) are the one to take.
	Package, Version, SHA256 string
}

// String names it as the tables do.
func (p pin) String() string { return p.Name + " " + p.Arch }

// isOf tells whether two packages make one thing together: a userland, or a kernel and its modules.
func (p pin) isOf(other pin) bool { return p.Name == other.Name && p.Arch == other.Arch }

const pinFields = 7

func readPins(r io.Reader) ([]pin, error) {
	var pins []pin
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		f := strings.Fields(text)
		if len(f) == 0 {
			continue
		}
		if len(f) != pinFields {
			return nil, fmt.Errorf("line %d has %d fields, and not %d", n, len(f), pinFields)
		}
		p := pin{f[0], f[1], f[2], f[3], f[4], f[5], f[6]}
		if ok, err := path.Match(p.Glob, p.Package); err != nil || !ok {
			return nil, fmt.Errorf("line %d: %s does not match %s", n, p.Package, p.Glob)
		}
		pins = append(pins, p)
	}
	return pins, lines.Err()
}

func loadPins(file string) ([]pin, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	pins, err := readPins(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return pins, nil
}

// repin writes the file anew with other packages, and keeps its comments.
func repin(file string, pins []pin) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		for _, p := range pins {
			if len(f) == pinFields && f[0] == p.Name && f[1] == p.Arch && f[3] == p.Glob {
				line = fmt.Sprintf("%-8s %-6s %-17s %-36s %-42s %-20s %s\n", p.Name, p.Arch, p.Suite, p.Glob, p.Package, p.Version, p.SHA256)
			}
		}
		out.WriteString(line)
	}
	return os.WriteFile(file, []byte(out.String()), 0o644)
}
