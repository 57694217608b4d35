// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command guest is the init process of the kernel matrix's virtual machines. It makes the environment that its plan names, reports what the
// kernel takes of each probe, runs the test binaries, and writes what became of it to its output, a JSON line each. With the path of a
// plan as its argument it does the same on the kernel that is running, and mounts nothing.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// planFile is where the driver puts the plan.
const planFile = "/plan.json"

func main() {
	if os.Getpid() == 1 && len(os.Args) == 1 {
		err := boot()
		if err != nil {
			fmt.Println(err)
		}
		unix.Sync()
		// What was written last may not have left the serial line yet, and would be lost with the machine.
		_ = unix.IoctlSetInt(int(os.Stdout.Fd()), unix.TCSBRK, 1)
		// For qemu with -no-reboot it is the end, too. A machine of qemu's that slept does not switch itself off any more.
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
		return
	}
	if len(os.Args) > 2 && os.Args[1] == containerCommand {
		fmt.Fprintln(os.Stderr, enterContainer(os.Args[2:]))
		os.Exit(1)
	}
	if len(os.Args) == 3 && os.Args[1] == tryCommand {
		if err := try(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: guest plan.json")
		os.Exit(2)
	}
	plan, err := readPlan(os.Args[1])
	if err == nil {
		err = execute(plan, setting{}, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// boot is what pid 1 does.
func boot() error {
	plan, err := readPlan(planFile)
	if err != nil {
		return err
	}
	s, err := settingOf(plan.Environment)
	if err == nil {
		err = s.prepare()
	}
	if err != nil {
		return json.NewEncoder(os.Stdout).Encode(outcome.Line{Done: &outcome.Done{Errors: []string{err.Error()}}})
	}
	return execute(plan, s, os.Stdout)
}

func readPlan(path string) (*outcome.Plan, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	plan := new(outcome.Plan)
	if err := json.Unmarshal(b, plan); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return plan, nil
}

// execute does what the plan says and writes down what became of it.
func execute(plan *outcome.Plan, s setting, w io.Writer) error {
	out := bufio.NewWriter(w)
	encoder := json.NewEncoder(out)
	var broken error
	tell := func(line outcome.Line) {
		if err := encoder.Encode(line); err != nil && broken == nil {
			broken = err
		}
		if err := out.Flush(); err != nil && broken == nil {
			broken = err
		}
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	tell(outcome.Line{Kernel: &outcome.Kernel{
		Release: unix.ByteSliceToString(name.Release[:]), Machine: unix.ByteSliceToString(name.Machine[:]),
	}})
	done := new(outcome.Done)
	if plan.Report {
		if err := report(tell); err != nil {
			done.Errors = append(done.Errors, err.Error())
		}
	}
	suites := plan.Suites
	if plan.Privileges {
		suites = nil // they are run with what is found to be enough
		if err := privileges(plan, s, tell); err != nil {
			done.Errors = append(done.Errors, err.Error())
		}
	}
	for _, suite := range suites {
		if err := runSuite(suite, plan.Environment, s, tell); err != nil {
			done.Errors = append(done.Errors, fmt.Sprintf("%s: %v", suite.Package, err))
		}
	}
	tell(outcome.Line{Done: done})
	return broken
}
