// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// Enumerator is the running kernel's value of an enumerator, which for many enums depends on its configuration. The
// error is an [*UnsupportedError] when the kernel does not have it.
func (k *Kernel) Enumerator(enum, name string) (int64, error) {
	t, err := k.enum(enum)
	if err != nil {
		return 0, err
	}
	for _, v := range t.Values {
		if v.Name == name {
			return int64(v.Value), nil
		}
	}
	return 0, &UnsupportedError{Feature: fmt.Sprintf("%s of enum %s", name, enum), Reason: "the kernel was built without it"}
}

// AnyEnumerator is the same of whichever enum has the enumerator: some of the kernel's have no name. All types up to that one are
// decoded for it.
func (k *Kernel) AnyEnumerator(name string) (int64, error) {
	types, err := k.Types()
	if err != nil {
		return 0, err
	}
	for t, err := range types.All() {
		if err != nil {
			return 0, fmt.Errorf("look up enumerator %s: %w", name, err)
		}
		enum, ok := t.(*btf.Enum)
		if !ok {
			continue
		}
		for _, v := range enum.Values {
			if v.Name == name {
				return int64(v.Value), nil
			}
		}
	}
	return 0, &UnsupportedError{Feature: "enumerator " + name, Reason: "no enum of the kernel has it"}
}

// Enumerators are the running kernel's names of an enum's numbers. Of several names for one number, it is the first. The
// error is an [*UnsupportedError] when the kernel does not have the enum.
func (k *Kernel) Enumerators(enum string) (map[int64]string, error) {
	t, err := k.enum(enum)
	if err != nil {
		return nil, err
	}
	names := make(map[int64]string, len(t.Values))
	for _, v := range t.Values {
		if _, named := names[int64(v.Value)]; !named {
			names[int64(v.Value)] = v.Name
		}
	}
	return names, nil
}

func (k *Kernel) enum(name string) (*btf.Enum, error) {
	types, err := k.Types()
	if err != nil {
		return nil, err
	}
	var t *btf.Enum
	if err := types.TypeByName(name, &t); err != nil {
		return nil, found(err, "enum "+name)
	}
	return t, nil
}
