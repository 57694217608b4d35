// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// kernelEnums is a kernel with just these enums, or none that can be read.
type kernelEnums struct {
	enums map[string]map[int64]string
	err   error
}

func (k kernelEnums) Enumerators(enum string) (map[int64]string, error) {
	if k.err != nil {
		return nil, k.err
	}
	if names, ok := k.enums[enum]; ok {
		return names, nil
	}
	return nil, &kernel.UnsupportedError{Feature: "enum " + enum}
}

func (k kernelEnums) AnyEnumerator(name string) (int64, error) {
	for _, names := range k.enums {
		for number, has := range names {
			if has == name {
				return number, k.err
			}
		}
	}
	return 0, &kernel.UnsupportedError{Feature: "enumerator " + name}
}

func TestWithEnums(t *testing.T) {
	spec := &Spec{Dimensions: map[string]Dimension{
		"reason": {Field: "reason", As: "enum", Kernel: "skb_drop_reason", Prefix: "SKB_DROP_REASON_", Values: map[int64]string{1: "used_up"}},
		"gone":   {Field: "gone", As: "enum", Kernel: "unknown_enum"},
		"state":  {Field: "state", As: "enum", Values: map[int64]string{1: "established"}},
	}}
	has := kernelEnums{enums: map[string]map[int64]string{
		"skb_drop_reason": {1: "SKB_CONSUMED", 2: "SKB_DROP_REASON_NOT_SPECIFIED", 3: "SKB_DROP_REASON_NO_SOCKET"},
	}}
	named, err := withEnums(spec, has)
	require.NoError(t, err)
	assert.Equal(t, map[int64]string{1: "used_up", 2: "not_specified", 3: "no_socket"}, named.Dimensions["reason"].Values)
	assert.NotEmpty(t, named.Dimensions["gone"].Values, "numbers stand for themselves")
	assert.Equal(t, spec.Dimensions["state"], named.Dimensions["state"])
	assert.Len(t, spec.Dimensions["reason"].Values, 1, "what was given is for other kernels too")

	refused := errors.New("refused")
	_, err = withEnums(spec, kernelEnums{err: refused})
	require.ErrorIs(t, err, refused)

	plain := &Spec{Dimensions: map[string]Dimension{"state": spec.Dimensions["state"]}}
	same, err := withEnums(plain, kernelEnums{err: refused})
	require.NoError(t, err, "who has none does not ask")
	assert.Same(t, plain, same)
}

func TestNumbersOfKernel(t *testing.T) {
	spec := &Spec{Enumerators: map[string]string{"here": "MIB_HERE", "gone": "MIB_GONE"}}
	has := kernelEnums{enums: map[string]map[int64]string{"": {21: "MIB_HERE"}}}
	numbers, err := kernelNumbers(spec, has)
	require.NoError(t, err)
	assert.Equal(t, map[string]int64{"here": 21}, numbers, "what the kernel does not have stays as the object has it")

	has.err = errors.New("refused")
	_, err = kernelNumbers(&Spec{Enumerators: map[string]string{"here": "MIB_HERE"}}, has)
	require.ErrorIs(t, err, has.err)
	_, err = kernelNumbers(&Spec{}, has)
	require.NoError(t, err, "who has none does not ask")
}

// The running kernel's reasons are those that its header has.
func TestKernelEnumerators(t *testing.T) {
	needs.Root(t)
	k := kernel.New(kernel.Options{})
	names, err := k.Enumerators("bpf_map_type")
	require.NoError(t, err)
	assert.Equal(t, "BPF_MAP_TYPE_HASH", names[1])
	_, err = k.Enumerators("no_such_enum")
	require.ErrorIs(t, err, kernel.ErrNotSupported)
}
