// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

const (
	bpfOffset     = 0
	syscallHeader = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"
)
