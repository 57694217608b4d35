// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// EnableRunStatistics makes the kernel count the runs of every program on the host, and their time, until the result is closed
// by all who asked for it. That costs every program's every run two readings of the clock. Since Linux 5.8.
//
// The error is a [*PermissionError] without CAP_SYS_ADMIN, for which CAP_BPF does not stand in here (bpf_enable_stats in
// kernel/bpf/syscall.c), and an [*UnsupportedError] on an older kernel.
func (k *Kernel) EnableRunStatistics() (io.Closer, error) {
	const doing = "switch program statistics on"
	c, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, ErrNotSupported), errors.Is(err, unix.EINVAL): // an unknown command
		return nil, &UnsupportedError{Feature: "program statistics on request", Reason: "they came with Linux 5.8", Err: err}
	case errors.Is(err, fs.ErrPermission):
		if set, capErr := k.Capabilities(); capErr == nil && !set.Has(CapSysAdmin) {
			return nil, &PermissionError{
				Capability: CapSysAdmin.String(), Doing: doing, Remedy: grant(CapSysAdmin), Err: err,
			}
		}
		return nil, k.Refused(doing, err)
	}
	return nil, fmt.Errorf("%s: %w", doing, err)
}
