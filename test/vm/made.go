// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// made is what a result is of, as checksums: by package those of its tests, with the files that they read, and under the name of the guest's package that
// of all else.
type made map[string]string

// sumTests is that of a package's tests.
func sumTests(programs binaries, pkg string) (string, error) {
	sum := sha256.New()
	a := newInitramfs(sum)
	a.suites(programs, outcome.Suite{Package: pkg, Binary: path.Join(guestTests, binary(pkg))})
	err := a.close()
	return hex.EncodeToString(sum.Sum(nil)), err
}

// sumGuest is that of the guest's program, and of what it runs in: the packages of its kernel, where it is not the host's, the userland's, and an environment.
func sumGuest(programs binaries, pins []pin, kernel string, e environment) (string, error) {
	f, err := os.Open(programs.guest())
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	_, arch, _ := strings.Cut(kernel, " ")
	for i := range pins {
		if p := &pins[i]; p.String() == kernel || p.isOf(pin{Name: userland, Arch: arch}) {
			fmt.Fprintln(sum, p.SHA256)
		}
	}
	fmt.Fprintln(sum, e.parameters, e.tests)
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// made tells what a run of a kernel in an environment is of, with the tests of some packages.
func (m *matrix) made(programs binaries, kernel string, e environment, packages []string) (made, error) {
	if m.keep == "" {
		return nil, nil
	}
	guest, err := sumGuest(programs, m.pins, kernel, e)
	if err != nil {
		return nil, err
	}
	sums := made{guestPackage: guest}
	for _, pkg := range packages {
		if sums[pkg], err = sumTests(programs, pkg); err != nil {
			return nil, err
		}
	}
	return sums, nil
}

// packagesOf are those of the result's tests.
func (r *result) packagesOf() []string {
	var list []string
	for _, t := range r.Tests {
		if !slices.Contains(list, t.Package) {
			list = append(list, t.Package)
		}
	}
	return list
}

// dropOthers takes out of a result what is not of what there is now, and tells of what that was. Nothing is left of it when left is false.
func (r *result) dropOthers(now made) (dropped []string, left bool) {
	if r.Made[guestPackage] != now[guestPackage] {
		return []string{"everything was made by another guest, kernel or environment"}, false
	}
	for _, pkg := range r.packagesOf() {
		if now[pkg] == "" || r.Made[pkg] != now[pkg] {
			dropped = append(dropped, pkg+" was tested with another binary")
			r.dropped = append(r.dropped, pkg)
			r.Tests = slices.DeleteFunc(r.Tests, func(t outcome.Test) bool { return t.Package == pkg })
		}
	}
	return dropped, len(dropped) == 0 || r.Environment == ""
}
