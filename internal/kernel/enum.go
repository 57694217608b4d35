// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// Enumerator is the running kernel's value of an enumerator, which for many enums depends on its configuration. The
// error is an [*UnsupportedError] when the kernel does not have it.
func (k *Kernel) Enumerator(enum, name string) (int64, error) {
	types, err := k.Types()
	if err != nil {
		return 0, err
	}
	var t *btf.Enum
	if err := types.TypeByName(enum, &t); err != nil {
		return 0, found(err, "enum "+enum)
	}
	for _, v := range t.Values {
		if v.Name == name {
			return int64(v.Value), nil
		}
	}
	return 0, &UnsupportedError{Feature: fmt.Sprintf("%s of enum %s", name, enum), Reason: "the kernel was built without it"}
}
