// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"io/fs"
)

// initialNamespaces are what /proc/self/ns links to in the namespaces that the kernel starts with: PROC_*_INIT_INO of
// include/linux/proc_ns.h.
var initialNamespaces = map[string]string{
	"cgroup": "cgroup:[4026531835]",
	"ipc":    "ipc:[4026531839]",
	"pid":    "pid:[4026531836]",
	"user":   "user:[4026531837]",
	"uts":    "uts:[4026531838]",
}

// haveNamespace tells whether this process is in the initial namespace of a kind.
func (k *Kernel) haveNamespace(kind string) error {
	link, err := fs.ReadLink(k.fs, "proc/self/ns/"+kind)
	if err != nil {
		return fmt.Errorf("which %s namespace this process is in: %w", kind, err)
	}
	if link != initialNamespaces[kind] {
		return &UnsupportedError{
			Feature: fmt.Sprintf("the host's %s namespace", kind),
			Reason:  "this process is in another one",
			Remedy:  "run the Collector on the host or, in Kubernetes, with hostPID",
		}
	}
	return nil
}
