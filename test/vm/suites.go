// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// environmentPackage has the tests of the reduced environments, which run nowhere else.
const environmentPackage = "test/vm/environment"

// guestPackage is the program that runs in the guest.
const guestPackage = "test/vm/guest"

// notInGuests are packages whose tests need what a guest has not: a Collector that was built before.
var notInGuests = []string{"test/e2e"}

// elsewhere are tests of a package that are no part of the matrix: they need a Collector that was built before, or hours. The tests of
// the targets reliability and soak have them.
var elsewhere = map[string]string{"test/reliability": "^TestKernel(Outage|OutageWithAFullQueue|RestartInAnOutage|MemoryLimiter|Soak)$"}

// edges are the kernels that run what takes long and is hardly about the kernel: the oldest, and the one that is running.
const edges = "^(5.10|host) amd64"

// onSomeKernels are packages that are not run on every kernel.
var onSomeKernels = map[string]string{
	"receiver": edges, "receiver/internal/emit": edges, "internal/ring": edges, "examples/probes": edges,
	"internal/packet/filter": edges,
}

// dataOfOthers are packages whose files another one's tests read.
var dataOfOthers = map[string][]string{"receiver": {"examples/probes"}}

// packagesOn are those of the packages that a kernel runs.
func packagesOn(kernel string, packages []string) []string {
	var some []string
	for _, pkg := range packages {
		if matches(onSomeKernels[pkg], kernel) {
			some = append(some, pkg)
		}
	}
	return some
}

// kernelPackages are those with tests that attach programs, below a root, sorted.
func kernelPackages(root string) ([]string, error) {
	found := make(map[string]bool)
	err := fs.WalkDir(os.DirFS(root), ".", func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (strings.HasPrefix(e.Name(), ".") && file != "." || file == "build") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(file, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return err
		}
		if bytes.Contains(b, []byte("\nfunc TestKernel")) {
			found[path.Dir(file)] = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var packages []string
	for p := range found {
		if p != environmentPackage && !slices.Contains(notInGuests, p) {
			packages = append(packages, p)
		}
	}
	slices.Sort(packages)
	return packages, nil
}

// binaries are compiled programs for one architecture.
type binaries struct{ dir string }

// binary is what the compiler calls a package's tests.
func binary(pkg string) string { return path.Base(pkg) + ".test" }

// path of a package's tests.
func (b binaries) path(pkg string) string { return filepath.Join(b.dir, binary(pkg)) }

// guest is the path of the program that runs in the guest.
func (b binaries) guest() string { return filepath.Join(b.dir, path.Base(guestPackage)) }

// build compiles the guest and the packages' tests statically, and to the same bytes from the same sources, wherever and whenever that is.
func build(ctx context.Context, arch string, packages []string, dir string) (binaries, error) {
	b := binaries{dir: filepath.Join(dir, arch)}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return b, err
	}
	compile := func(command []string, packages ...string) error {
		args := slices.Concat(command, []string{"-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", b.dir + "/"})
		for _, pkg := range packages {
			args = append(args, "./"+pkg)
		}
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("compile for %s: %w\n%s", arch, err, out)
		}
		return nil
	}
	if err := compile([]string{"build"}, guestPackage); err != nil {
		return b, err
	}
	return b, compile([]string{"test", "-c", "-vet=off"}, packages...)
}
