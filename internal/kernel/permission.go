// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// LockdownMode is how far the kernel protects itself from root; see kernel_lockdown(7).
type LockdownMode string

// The modes.
const (
	LockdownNone            LockdownMode = "none"
	LockdownIntegrity       LockdownMode = "integrity"
	LockdownConfidentiality LockdownMode = "confidentiality"
)

// Lockdown reads the kernel's lockdown mode; the error is [fs.ErrNotExist] where securityfs is not mounted.
func (k *Kernel) Lockdown() (LockdownMode, error) {
	text, err := fs.ReadFile(k.fs, "sys/kernel/security/lockdown")
	if err != nil {
		return "", fmt.Errorf("read the lockdown mode: %w", err)
	}
	for mode := range strings.FieldsSeq(string(text)) { // "none [integrity] confidentiality"
		if strings.HasPrefix(mode, "[") {
			return LockdownMode(strings.Trim(mode, "[]")), nil
		}
	}
	return "", fmt.Errorf("no lockdown mode is marked in %q", text)
}

// Refused turns err into a [*PermissionError] when the kernel refused doing for want of a right, and returns it as it
// is otherwise. A verifier's refusal of the program itself, which has the same error numbers, is none.
func (k *Kernel) Refused(doing string, err error) error {
	if err == nil || !errors.Is(err, fs.ErrPermission) { // EPERM and EACCES both match
		return err
	}
	var known *PermissionError
	if errors.As(err, &known) {
		return err
	}
	if missing := k.missingCapabilities(doing, err); missing != nil {
		return missing
	}
	var rejected *ebpf.VerifierError
	if errors.As(err, &rejected) && len(rejected.Log) > 0 {
		return err
	}
	e := &PermissionError{Doing: doing, Err: err}
	switch set, capErr := k.Capabilities(); {
	case k.inUserNamespace():
		return userNamespace(doing, err)
	case capErr == nil && !set.Has(CapSysResource) && k.chargesMemlock():
		e.Capability = CapSysResource.String()
		e.Remedy = grant(CapSysResource) + ", or raise the limit on locked memory (systemd: LimitMEMLOCK=infinity)"
	case capErr == nil && strings.HasPrefix(doing, "attach ") && !set.Has(CapSysAdmin) && k.perfEventsAreRoots():
		e.Capability = CapSysAdmin.String()
		e.Remedy = "kernel.perf_event_paranoid is above 2, at which some distributions' kernels allow perf events to nobody else: " +
			"set it to 2 with sysctl, or " + grant(CapSysAdmin)
	default:
		e.Remedy = "the capabilities are there: look for a seccomp filter, a security module (dmesg, audit log), or lockdown"
	}
	return e
}

// userNamespace is the error of a process whose capabilities are those of another user namespace than the first one, which are none here.
func userNamespace(doing string, err error) *PermissionError {
	return &PermissionError{
		Doing:      doing,
		Capability: "capabilities in the host's user namespace",
		Remedy:     "run the Collector outside of a user namespace (no rootless container, hostUsers: true)",
		Err:        err,
	}
}

// perfEventsAreRoots tells whether the kernel has a level of perf_event_paranoid that is not the kernel's own but Debian's, Ubuntu's or
// Android's: CAP_PERFMON is not enough at it. Only classic tracepoints and probes are attached by perf events.
func (k *Kernel) perfEventsAreRoots() bool {
	text, err := fs.ReadFile(k.fs, "proc/sys/kernel/perf_event_paranoid")
	if err != nil {
		return false
	}
	level, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return err == nil && level > 2
}

// NotLoaded gives the reason why a program did not load, as far as it can be told from outside of the verifier: a right that is
// missing, a helper that the kernel does not know or lockdown withholds. Otherwise it is err.
func (k *Kernel) NotLoaded(spec *ebpf.ProgramSpec, err error) error {
	doing := "load program " + spec.Name
	var permission *PermissionError
	if refused := k.Refused(doing, err); errors.As(refused, &permission) {
		return refused
	}
	if helper := k.missingHelper(spec); helper != nil {
		helper.Err = err
		return helper
	}
	if refused := k.withheld(doing, "programs that read kernel memory need", err); refused != nil {
		return refused
	}
	return err
}

// withheld is the error of what lockdown keeps from everybody in the mode confidentiality; nil in other modes. What needs another mode is said as "tracefs needs".
func (k *Kernel) withheld(doing, needs string, err error) error {
	if mode, lockErr := k.Lockdown(); lockErr != nil || mode != LockdownConfidentiality {
		return nil
	}
	return &PermissionError{
		Doing: doing, Remedy: needs + " lockdown=integrity or less, and this kernel is in the mode confidentiality", Err: err,
	}
}

// chargesMemlock tells whether eBPF memory counts against RLIMIT_MEMLOCK, which is so until it is charged to the
// memory cgroup instead. The accounting's own struct tells the two apart.
func (k *Kernel) chargesMemlock() bool {
	types, err := k.Types()
	if err != nil {
		return false
	}
	_, err = types.AnyTypesByName("bpf_map_memory")
	return err == nil
}

// RaiseMemlock lifts the limit on locked memory, for kernels that charge eBPF memory against it; it does nothing on
// others. Failing to lift it is no error: the limit may be high enough. What does not fit is refused later, and
// [Kernel.Refused] tells why.
func (k *Kernel) RaiseMemlock() {
	if !k.chargesMemlock() {
		return
	}
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &unlimited, nil) == nil {
		return
	}
	var limit unix.Rlimit
	if unix.Prlimit(0, unix.RLIMIT_MEMLOCK, nil, &limit) == nil {
		limit.Cur = limit.Max
		_ = unix.Prlimit(0, unix.RLIMIT_MEMLOCK, &limit, nil) // a best effort
	}
}
