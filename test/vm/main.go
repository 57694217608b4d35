// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

func main() {
	// args: vmlinuz pkgs
	arch := "amd64"
	if v := os.Getenv("ARCH"); v != "" { arch = v }
	bin := os.Getenv("BIN")
	f, _ := os.Create("/tmp/h13/initrd")
	a := newInitramfs(f)
	a.console()
	a.copyFile("/init", bin+"/guest")
	a.copyFile("/bin/busybox", os.Getenv("BUSYBOX"))
	tr, _ := trueProgram(arch)
	a.file("/bin/true", tr, 0o755)
	a.dir("/tmp")
	a.dir("/root")
	a.file("/etc/passwd", []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"), 0o644)
	a.file("/etc/group", []byte("root:x:0:\n"), 0o644)
	plan := outcome.Plan{Report: true}
	for _, p := range strings.Fields(os.Args[2]) {
		n := strings.ReplaceAll(p, "/", "-")
		a.copyFile("/tests/"+n, bin+"/"+n)
		a.copyData("/src/"+p, p)
		plan.Suites = append(plan.Suites, outcome.Suite{Package: p, Binary: "/tests/" + n, Dir: "/src/" + p, Run: os.Getenv("RUN")})
	}
	b, _ := json.Marshal(plan)
	a.file("/plan.json", b, 0o644)
	if err := a.close(); err != nil {
		panic(err)
	}
	f.Close()
	start := time.Now()
	err := boot(context.Background(), arch, os.Args[1], "/tmp/h13/initrd", os.Getenv("PARAMS"), os.Stderr, func(l outcome.Line) {
		switch {
		case l.Test != nil:
			fmt.Printf("%6.1f %s %s %s\n", time.Since(start).Seconds(), l.Test.Package, l.Test.Name, l.Test.Result)
			if l.Test.Result != "pass" {
				fmt.Println("    " + strings.ReplaceAll(l.Test.Output, "\n", "\n    "))
			}
		case l.Program != nil:
			fmt.Printf("%+v\n", *l.Program)
		case l.Missing != nil:
			fmt.Printf("%+v\n", *l.Missing)
		case l.Kernel != nil:
			fmt.Printf("%6.1f %+v\n", time.Since(start).Seconds(), *l.Kernel)
		case l.Done != nil:
			fmt.Printf("%6.1f %+v\n", time.Since(start).Seconds(), *l.Done)
		}
	})
	fmt.Println(err)
}
