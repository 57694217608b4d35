// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

const (
	bpfOffset     = 321 - 280
	syscallHeader = "/usr/include/aarch64-linux-gnu/asm/unistd_64.h"
)
