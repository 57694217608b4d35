// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/exec"
	"runtime"
)

// hostArch is the running kernel's architecture.
const hostArch = runtime.GOARCH

// whole is the title of the environment that lacks nothing.
const whole = "whole"

// privileges is the environment, which lacks nothing, in which the smallest sets of capabilities are searched.
const privileges = "privileges"

// environment is what a guest is run in. The guest makes it.
type environment struct {
	name string
	// parameters are the kernel's part.
	parameters string
	// kernels and tests are regular expressions: where it is made, and what runs in it. An empty one is all.
	kernels, tests string
}

func (e environment) title() string {
	if e.name == "" {
		return whole
	}
	return e.name
}

// environments in the order in which they are run.
var environments = []environment{
	{},
	{name: "no-btf", kernels: "^6.1 amd64", tests: "^TestKernelWithoutBTF"},
	{name: "no-tracefs", kernels: "^6.1 amd64", tests: "^TestKernelWithoutTracefs"},
	{name: "cgroup-v1", kernels: "^(5.10|6.12) amd64", tests: "^TestKernelCgroups"},
	{name: "cgroup-hybrid", kernels: "^(5.10|6.12) amd64", tests: "^TestKernelCgroups"},
	{name: "lockdown-integrity", parameters: "lsm=lockdown lockdown=integrity", kernels: "^(6.1|7.2) amd64", tests: "^TestKernelLockdown"},
	{name: "lockdown-confidentiality", parameters: "lsm=lockdown lockdown=confidentiality", kernels: "^6.1 amd64", tests: "^TestKernelLockdown"},
	{name: "perf-event-paranoid", kernels: "^(5.10|6.1) amd64", tests: "^TestKernelPerfEventParanoid"},
	{name: "user-namespace", kernels: "^6.1 amd64", tests: "^TestKernelUserNamespace"},
	{name: privileges, kernels: "^(5.10|6.1|6.12|7.2|host) amd64"},
	{name: "pid-namespace", kernels: "^(5.10|6.12) amd64", tests: "^TestKernelPIDNamespace"},
}

// canBeRoot tells whether programs can be attached to the running kernel: as root, or by sudo without a password.
func canBeRoot(ctx context.Context) bool {
	return os.Geteuid() == 0 || exec.CommandContext(ctx, "sudo", "-n", "true").Run() == nil
}
