// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
)

// pruneKey cuts the key of a hash down to what somebody asked for, so that a dimension that nobody selected costs nothing to
// hash, compare and copy. Programs pass a pointer to the whole struct, of which the kernel then reads the first KeySize
// bytes. Fields are therefore cut from the end: a probe's author puts the dearest dimensions last.
//
// It returns the number of bytes that remain, the size of the whole key when nothing is cut.
func pruneKey(m *ebpf.MapSpec, fields []string) uint32 {
	if m.Type != ebpf.Hash && m.Type != ebpf.PerCPUHash {
		return m.KeySize
	}
	key, ok := btf.UnderlyingType(m.Key).(*btf.Struct)
	if !ok {
		return m.KeySize
	}
	end := 0
	for _, path := range fields {
		f, err := layout.FieldOf(m.Key, path)
		if err != nil {
			return m.KeySize // unknown: keep all
		}
		end = max(end, f.Offset+f.Size)
	}
	size := uint32(max(end+3, 4)) &^ 3 // the kernel hashes words of 4 bytes
	if size >= m.KeySize {
		return m.KeySize
	}
	// The kernel refuses a key type of another size than key_size.
	m.Key = prefixOf(key, size)
	m.KeySize = size
	return size
}

// prefixOf is the struct without the members that do not lie in its first size bytes.
func prefixOf(s *btf.Struct, size uint32) *btf.Struct {
	prefix := &btf.Struct{Name: s.Name, Size: size}
	for _, m := range s.Members {
		length, err := btf.Sizeof(m.Type)
		if err != nil || m.BitfieldSize != 0 || uint64(m.Offset.Bytes())+uint64(length) > uint64(size) {
			continue
		}
		prefix.Members = append(prefix.Members, m)
	}
	return prefix
}

// keyFields are the fields of a map's key that rows must be told apart by: those of the dimensions that an enabled metric
// selected, and those of dimensions that are always part of the key.
func keyFields(spec *Spec, name string, enabled map[string]MetricSettings) []string {
	var fields []string
	for metricName, metric := range spec.Metrics {
		if metric.Map != name {
			continue
		}
		for dimensionName := range metric.Attributes {
			dimension, ok := spec.Dimensions[dimensionName]
			if !ok {
				continue
			}
			if dimension.Variable == "" || slices.Contains(enabled[metricName].Attributes, dimensionName) {
				fields = append(fields, dimension.Field)
			}
		}
	}
	slices.Sort(fields)
	return slices.Compact(fields)
}
