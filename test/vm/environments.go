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

// environment is what a guest is run in. The guest makes it; parameters are the kernel's part.
type environment struct{ name, parameters string }

func (e environment) title() string {
	if e.name == "" {
		return whole
	}
	return e.name
}

// environments in the order in which they are run.
var environments = []environment{
	{"", ""},
}

// canBeRoot tells whether programs can be attached to the running kernel: as root, or by sudo without a password.
func canBeRoot(ctx context.Context) bool {
	return os.Geteuid() == 0 || exec.CommandContext(ctx, "sudo", "-n", "true").Run() == nil
}
