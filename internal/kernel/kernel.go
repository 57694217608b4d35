// SPDX-License-Identifier: Apache-2.0

// Package kernel knows what the running kernel and this process can do. Everything is found out by asking for it,
// never by comparing version numbers: distributions carry features back and leave others out.
package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/cilium/ebpf/btf"
)

// Options configure a [Kernel]. The zero value looks at the running one.
type Options struct {
	// FS is the file system that holds proc, sys and boot; nil for the host's own.
	FS fs.FS
}

// Kernel answers questions about the running kernel and remembers the answers. It is safe for concurrent use.
type Kernel struct {
	fs fs.FS

	mu      sync.Mutex
	cache   *btf.Cache
	answers map[string]error
	config  map[string]string // nil until read
	helpers map[uint64]bool   // nil until read

	// types stands in for the kernel's BTF in tests.
	types *btf.Spec
}

// New returns a Kernel. It looks at nothing yet.
func New(opts Options) *Kernel {
	k := &Kernel{fs: opts.FS}
	if k.fs == nil {
		k.fs = os.DirFS("/")
	}
	return k
}

// Cache is the kernel's type information, decoded on first use and shared by all loads until [Kernel.Release].
func (k *Kernel) Cache() *btf.Cache {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cache == nil {
		k.cache = btf.NewCache()
	}
	return k.cache
}

// Types is the kernel's own BTF, without that of modules. The error is an [*UnsupportedError] when there is none.
func (k *Kernel) Types() (*btf.Spec, error) {
	if k.types != nil {
		return k.types, nil
	}
	spec, err := k.Cache().Kernel()
	if errors.Is(err, ErrNotSupported) {
		return nil, k.noTypes(err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the kernel's type information: %w", err)
	}
	return spec, nil
}

// Release drops the type information, which is some tens of megabytes, once all probes are loaded. Answers that were
// given are still known; a new question loads it again.
func (k *Kernel) Release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cache = nil
}

func (k *Kernel) noTypes(err error) error {
	return &UnsupportedError{
		Feature: "BTF type information",
		Reason:  "/sys/kernel/btf/vmlinux is missing",
		Remedy:  "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, and mount /sys into the container if there is one",
		Err:     err,
	}
}

// Missing says in one sentence what keeps this process from loading any program, and how to provide it; nil when
// nothing is known to. It reads a few small files and makes no bpf(2) call.
//
// The error is, or holds, [*PermissionError] and [*UnsupportedError].
func (k *Kernel) Missing() error {
	var problems joined
	if err := k.missingCapabilities("load eBPF programs", nil); err != nil {
		problems = append(problems, err)
	} else if k.inUserNamespace() {
		problems = append(problems, userNamespace("load eBPF programs", nil))
	}
	if _, err := fs.Stat(k.fs, "sys/kernel/btf/vmlinux"); errors.Is(err, fs.ErrNotExist) {
		problems = append(problems, k.noTypes(err))
	}
	switch len(problems) {
	case 0:
		return nil
	case 1:
		return problems[0]
	}
	return problems
}

// missingCapabilities is a [*PermissionError] when doing needs a capability that this process has not.
func (k *Kernel) missingCapabilities(doing string, cause error) error {
	set, err := k.Capabilities()
	if err != nil {
		return nil // not known to be missing
	}
	lacks := k.lacking(set)
	if len(lacks) == 0 {
		return nil
	}
	if k.inUserNamespace() {
		return userNamespace(doing, cause) // in which those that can be granted do not count
	}
	e := &PermissionError{Capability: list(lacks), Doing: doing, Remedy: grant(lacks...), Err: cause}
	if len(lacks) > 1 || lacks[0] != CapSysAdmin {
		e.Capability += " (or CAP_SYS_ADMIN)"
	}
	return e
}
