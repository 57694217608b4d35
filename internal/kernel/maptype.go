// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"strings"

	"github.com/cilium/ebpf"
)

// mapTypes are the map types that a requirement may name, by the library's name in lower case without underscores.
func mapTypes() map[string]ebpf.MapType {
	types := make(map[string]ebpf.MapType)
	for t := ebpf.Hash; t <= ebpf.Arena; t++ {
		types[mapTypeName(t.String())] = t
	}
	// The library's names that differ from the kernel's.
	types["percpucgroupstorage"] = ebpf.PerCPUCGroupStorage
	types["lrupercpuhash"] = ebpf.LRUCPUHash
	types["ringbuf"] = ebpf.RingBuf
	types["cgrpstorage"] = ebpf.CgroupStorage
	types["skstorage"] = ebpf.SkStorage
	return types
}

func mapTypeName(name string) string {
	return strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(name), "bpf_map_type_"), "_", "")
}

// CheckMap tells whether the kernel has the map's type.
func (k *Kernel) CheckMap(spec *ebpf.MapSpec) error {
	if err := k.haveMap(spec.Type); err != nil {
		return err
	}
	if spec.InnerMap != nil {
		return k.haveMap(spec.InnerMap.Type)
	}
	return nil
}

// AllocatesInPrograms tells whether tracing programs may use hashes that allocate on insertion (BPF_F_NO_PREALLOC): whether
// the kernel has an allocator that can be called from any context.
func (k *Kernel) AllocatesInPrograms() bool {
	return k.Require("func/bpf_mem_alloc_init") == nil
}
