// SPDX-License-Identifier: Apache-2.0

//go:build linux

package rows

import (
	"encoding/binary"

	"github.com/cilium/ebpf/btf"

	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

// Metric is the name of the metric that the rows become.
const Metric = "ebpf.bench.io"

// Attributes of each data point, sorted as settings have them.
var Attributes = []string{"destination.address", "destination.port", "network.vlan.id", "source.address", "source.port"}

const (
	keySize   = 40
	valueSize = 16
)

type (
	// key is a flow's: two addresses, two ports in network order and a VLAN; or five u64.
	key [keySize]byte
	// value is bytes and packets.
	value [2]uint64
)

// keys are n different ones: clients of one server, each with an address and a port of its own.
func keys(n int, addresses bool) []key {
	list := make([]key, n)
	for i := range list {
		k := &list[i]
		client, port := uint32(10<<24+i), uint16(10_000+i%50_000)
		if !addresses {
			binary.NativeEndian.PutUint64(k[0:], uint64(client))
			binary.NativeEndian.PutUint64(k[8:], 0x0a000001)
			binary.NativeEndian.PutUint64(k[16:], uint64(port))
			binary.NativeEndian.PutUint64(k[24:], 443)
			binary.NativeEndian.PutUint64(k[32:], 7)
			continue
		}
		copy(k[0:], []byte{10: 0xff, 11: 0xff})
		binary.BigEndian.PutUint32(k[12:], client)
		copy(k[16:], []byte{10: 0xff, 11: 0xff, 12: 10, 15: 1})
		binary.BigEndian.PutUint16(k[32:], port)
		binary.BigEndian.PutUint16(k[34:], 443)
		binary.NativeEndian.PutUint32(k[36:], 7)
	}
	return list
}

// types are the BTF of a row, as an object would have it.
func types(addresses bool) (k, v *btf.Struct) {
	u8 := &btf.Int{Name: "unsigned char", Size: 1}
	u16 := &btf.Int{Name: "unsigned short", Size: 2}
	u32 := &btf.Int{Name: "unsigned int", Size: 4}
	u64 := &btf.Int{Name: "unsigned long long", Size: 8}
	address := &btf.Array{Index: u32, Type: u8, Nelems: 16}
	members := func(list ...btf.Member) []btf.Member {
		var at btf.Bits
		for i := range list {
			size, _ := btf.Sizeof(list[i].Type) // known types
			list[i].Offset = at
			at += btf.Bits(8 * size)
		}
		return list
	}
	v = &btf.Struct{Name: "flow", Size: valueSize, Members: members(btf.Member{Name: "bytes", Type: u64}, btf.Member{Name: "packets", Type: u64})}
	k = &btf.Struct{Name: "flow_key", Size: keySize}
	if addresses {
		k.Members = members(
			btf.Member{Name: "source", Type: address}, btf.Member{Name: "destination", Type: address},
			btf.Member{Name: "source_port", Type: u16}, btf.Member{Name: "destination_port", Type: u16},
			btf.Member{Name: "vlan", Type: u32})
		return k, v
	}
	k.Members = members(
		btf.Member{Name: "source", Type: u64}, btf.Member{Name: "destination", Type: u64},
		btf.Member{Name: "source_port", Type: u64}, btf.Member{Name: "destination_port", Type: u64},
		btf.Member{Name: "vlan", Type: u64})
	return k, v
}

// declare is what a probe.yaml would say.
func declare(addresses bool) *probe.Spec {
	s := &probe.Spec{
		Name: "rows",
		Dimensions: map[string]probe.Dimension{
			"source.address":      {Field: "source"},
			"destination.address": {Field: "destination"},
			"source.port":         {Field: "source_port"},
			"destination.port":    {Field: "destination_port"},
			"network.vlan.id":     {Field: "vlan"},
		},
		Metrics: map[string]probe.Metric{Metric: {
			Description: "Bytes of a flow.", Unit: "By", Type: probe.Counter, Map: "rows", Value: "bytes", Enabled: true,
		}},
	}
	if addresses {
		s.Dimensions["source.address"] = probe.Dimension{Field: "source", As: "ip"}
		s.Dimensions["destination.address"] = probe.Dimension{Field: "destination", As: "ip"}
		s.Dimensions["source.port"] = probe.Dimension{Field: "source_port", As: "port"}
		s.Dimensions["destination.port"] = probe.Dimension{Field: "destination_port", As: "port"}
	}
	return s
}
