// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// Places in a guest.
const (
	guestTests   = "/tests"
	guestSources = "/src"
)

// users are those that tests name.
const (
	passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
	group  = "root:x:0:\nnogroup:x:65534:\n"
)

// guestFiles are the folders with what a guest consists of.
type guestFiles struct {
	kernel, root []string
	programs     binaries
}

// vmlinuz is the kernel.
func (g guestFiles) vmlinuz() string {
	for _, dir := range g.kernel {
		if file := filepath.Join(dir, kernelFile); exists(file) {
			return file
		}
	}
	return kernelFile // which nobody finds
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// writeGuest writes the initramfs of one run.
func writeGuest(file string, files guestFiles, plan outcome.Plan) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	b, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	a := newInitramfs(f)
	a.console()
	a.copyFile("/init", files.programs.guest())
	for _, dir := range files.root {
		a.copyTree(dir)
	}
	for i, module := range kernelModules {
		for _, dir := range files.kernel {
			if from := filepath.Join(dir, module+".ko"); exists(from) {
				a.copyFile(fmt.Sprintf("%s/%02d-%s.ko", outcome.Modules, i, module), from)
			}
		}
	}
	a.dir("/root")
	a.dir("/tmp")
	a.file("/etc/passwd", []byte(passwd), 0o644)
	a.file("/etc/group", []byte(group), 0o644)
	a.file("/plan.json", b, 0o644)
	a.copyFile(path.Join(guestSources, "metadata.yaml"), "metadata.yaml")
	a.suites(files.programs, plan.Suites...)
	return a.close()
}

// suites takes test binaries, and what their tests find in their folders.
func (a *initramfs) suites(programs binaries, suites ...outcome.Suite) {
	data := make(map[string]bool)
	for _, suite := range suites {
		a.copyFile(suite.Binary, programs.path(suite.Package))
		for _, pkg := range append([]string{suite.Package}, dataOfOthers[suite.Package]...) {
			if !data[pkg] {
				a.copyData(path.Join(guestSources, pkg), pkg)
			}
			data[pkg] = true
		}
	}
}
