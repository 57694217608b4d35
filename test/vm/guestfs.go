// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"

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

// writeGuest writes the initramfs of one run.
func writeGuest(file string, root []string, programs binaries, plan outcome.Plan) (err error) {
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
	a.copyFile("/init", programs.path(guestPackage))
	for _, dir := range root {
		a.copyTree(dir)
	}
	a.dir("/root")
	a.dir("/tmp")
	a.file("/etc/passwd", []byte(passwd), 0o644)
	a.file("/etc/group", []byte(group), 0o644)
	a.file("/plan.json", b, 0o644)
	for _, suite := range plan.Suites {
		a.copyFile(suite.Binary, programs.path(suite.Package))
		a.copyData(suite.Dir, suite.Package)
	}
	return a.close()
}
