// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/exec"
	"runtime"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
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
	// holds is what the tests have to find there, as [outcome.Test] has it.
	holds string
}

func (e environment) title() string {
	if e.name == "" {
		return whole
	}
	return e.name
}

// on tells whether it is made on a kernel.
func (e environment) on(kernel string) bool { return matches(e.kernels, kernel) }

// For what keeps off the classic tracepoints: two metrics need them, of which one is of connections, whose records are there without.
const (
	butExecFailures = outcome.WorksBut + "ebpf.process.exec.failures"
	butTracepoints  = butExecFailures + ", ebpf.tcp.accept_queue.wait"
)

// environments in the order in which they are run. One in which different things hold on different kernels is there more than once.
var environments = []environment{
	{},
	{name: "no-btf", kernels: "^6.1 ", tests: "^TestKernelWithoutBTF", holds: outcome.Refuses},
	{name: "no-tracefs", kernels: "^6.1 ", tests: "^TestKernelWithoutTracefs", holds: butTracepoints},
	{name: "cgroup-v1", kernels: "^(5.10|6.12) amd64", tests: "^TestKernelCgroups", holds: outcome.Works},
	{name: "cgroup-hybrid", kernels: "^(5.10|6.12) amd64", tests: "^TestKernelCgroups", holds: outcome.Works},
	{
		name: "lockdown-integrity", parameters: "lsm=lockdown lockdown=integrity", kernels: "^(6.1|7.2) amd64", tests: "^TestKernelLockdown",
		holds: outcome.Works,
	},
	{
		name: "lockdown-confidentiality", parameters: "lsm=lockdown lockdown=confidentiality", kernels: "^(6.1|7.2) amd64", tests: "^TestKernelLockdown",
		holds: outcome.WorksBut + "ebpf.process.exec, ebpf.process.exit, ebpf.process.lifetime, ebpf.process.exec.failures, the probe tcp",
	},
	{name: "perf-event-paranoid", kernels: "^5.10 amd64", tests: "^TestKernelPerfEventParanoid", holds: butExecFailures},
	{name: "perf-event-paranoid", kernels: "^(6.1|6.12|7.2) amd64", tests: "^TestKernelPerfEventParanoid", holds: butTracepoints},
	{name: "user-namespace", kernels: "^(6.1|7.2) amd64", tests: "^TestKernelUserNamespace", holds: outcome.Refuses},
	{name: privileges, kernels: "^((5.10|6.1|6.12|7.2|host) amd64|6.1 arm64)$"},
	{name: "pid-namespace", kernels: "^(5.10|6.12) amd64", tests: "^TestKernelPIDNamespace", holds: outcome.Works},
	{name: "suspend", kernels: "^(5.10|6.1|6.12|7.2) amd64", tests: "^TestKernelSuspend", holds: outcome.Works},
}

// environmentOn is one on a kernel; false where there is none of that name.
func environmentOn(kernel, name string) (environment, bool) {
	for _, e := range environments {
		if e.name == name && e.on(kernel) {
			return e, true
		}
	}
	return environment{}, false
}

// canBeRoot tells whether programs can be attached to the running kernel: as root, or by sudo without a password.
func canBeRoot(ctx context.Context) bool {
	return os.Geteuid() == 0 || exec.CommandContext(ctx, "sudo", "-n", "true").Run() == nil
}
