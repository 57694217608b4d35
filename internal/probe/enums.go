// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"maps"
	"strings"

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
)

// enumerations are the running kernel's enums, as [kernel.Kernel] has them.
type enumerations interface {
	Enumerators(enum string) (map[int64]string, error)
	AnyEnumerator(name string) (int64, error)
}

// kernelNumbers are the values that the spec's enumerators have in the running kernel, by variable. Those that it does not have are left out.
func kernelNumbers(spec *Spec, k enumerations) (map[string]int64, error) {
	numbers := make(map[string]int64, len(spec.Enumerators))
	for variable, name := range spec.Enumerators {
		n, err := k.AnyEnumerator(name)
		if errors.Is(err, kernel.ErrNotSupported) {
			continue
		}
		if err != nil {
			return nil, err
		}
		numbers[variable] = n
	}
	return numbers, nil
}

// withEnums is the spec with the names that the running kernel has for the numbers of its dimensions. Where it does not have
// such an enum, numbers stand for themselves. The spec that is given stays as it is: it may be for several kernels.
func withEnums(spec *Spec, k enumerations) (*Spec, error) {
	named := spec
	for _, name := range sortedKeys(spec.Dimensions) {
		d := spec.Dimensions[name]
		if d.Kernel == "" {
			continue
		}
		enumerators, err := k.Enumerators(d.Kernel)
		if err != nil && !errors.Is(err, kernel.ErrNotSupported) {
			return spec, err
		}
		values := make(map[int64]string, len(enumerators)+len(d.Values))
		for number, enumerator := range enumerators {
			values[number] = strings.ToLower(strings.TrimPrefix(enumerator, d.Prefix))
		}
		maps.Copy(values, d.Values)
		if len(values) == 0 {
			values[0] = "0"
		}
		if named == spec {
			clone := *spec
			clone.Dimensions = maps.Clone(spec.Dimensions)
			named = &clone
		}
		d.Values = values
		named.Dimensions[name] = d
	}
	return named, nil
}
