// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"io/fs"
	"strings"

	"github.com/cilium/ebpf"
)

// ErrNotSupported is matched by errors that say that the running kernel can not do something. It is the library's
// own, so that its errors and ours are told apart from failures in the same way.
var ErrNotSupported = ebpf.ErrNotSupported

// UnsupportedError says what the running kernel lacks. It matches [ErrNotSupported].
type UnsupportedError struct {
	// Feature is what was asked for: "tracepoint sched_switch".
	Feature string
	// Reason is why it is not to be had, as far as it is known.
	Reason string
	// Remedy is what an administrator can do about it; empty when nothing short of another kernel helps.
	Remedy string
	// Err is the failure that told, if any.
	Err error
}

func (e *UnsupportedError) Error() string {
	var b strings.Builder
	b.WriteString("this kernel has no ")
	b.WriteString(e.Feature)
	if e.Reason != "" {
		b.WriteString(" (")
		b.WriteString(e.Reason)
		b.WriteString(")")
	}
	if e.Remedy != "" {
		b.WriteString("; ")
		b.WriteString(e.Remedy)
	}
	return b.String()
}

// Is makes every UnsupportedError match [ErrNotSupported].
func (e *UnsupportedError) Is(target error) bool { return target == ErrNotSupported }

func (e *UnsupportedError) Unwrap() error { return e.Err }

// PermissionError says which right this process lacks. It matches [fs.ErrPermission].
type PermissionError struct {
	// Capability is what is missing: "CAP_BPF and CAP_PERFMON". Empty when all that is known of are there.
	Capability string
	// Doing is what was refused: "create map run_queue".
	Doing string
	// Remedy is how to grant it.
	Remedy string
	// Err is the failure that told, if any.
	Err error
}

func (e *PermissionError) Error() string {
	var b strings.Builder
	b.WriteString("not permitted to ")
	b.WriteString(e.Doing)
	if e.Capability != "" {
		b.WriteString(" without ")
		b.WriteString(e.Capability)
	}
	if e.Remedy != "" {
		b.WriteString("; ")
		b.WriteString(e.Remedy)
	}
	return b.String()
}

// Is makes every PermissionError match [fs.ErrPermission].
func (e *PermissionError) Is(target error) bool { return target == fs.ErrPermission }

func (e *PermissionError) Unwrap() error { return e.Err }

// joined is several errors in one line.
type joined []error

func (e joined) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (e joined) Unwrap() []error { return e }
