// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// The layout of an option's trie: struct { u32 length; u8 address[16]; } to 16 bytes.
const (
	cidrKeySize   = 20
	cidrValueSize = 16
	// mappedBits are those before the IPv4 address in an IPv4-mapped one.
	mappedBits = 96
)

// standIns is where the addresses come from that stand for names: multicast of a scope that is reserved, which no packet may
// be from or to (RFC 4291, section 2.7).
var standIns = netip.MustParsePrefix("ff00::/16")

// standIn is the address that stands for the name with a number from 0.
func standIn(number int) netip.Addr {
	a := standIns.Addr().As16()
	binary.BigEndian.PutUint32(a[12:], uint32(number)+1)
	return netip.AddrFrom16(a)
}

// stood are the ranges with a name of the user's, and the one from which stand-ins are: a forged packet must not pass for them.
func stood(list []CIDR) []CIDR {
	if len(list) == 0 {
		return nil
	}
	return append(list[:len(list):len(list)], CIDR{Prefix: standIns, Name: standIns.String()})
}

// numbered are the numbers of the distinct names in the order of the list.
func numbered(list []CIDR) map[string]int {
	numbers := make(map[string]int)
	for _, c := range list {
		if _, ok := numbers[c.Name]; !ok {
			numbers[c.Name] = len(numbers)
		}
	}
	return numbers
}

// addressNames are the names by their stand-ins, of all of a probe's options.
func addressNames(spec *Spec, settings Settings) map[netip.Addr]string {
	names := make(map[netip.Addr]string)
	for option := range spec.Options {
		if list, ok := settings.Options[option].([]CIDR); ok {
			for name, number := range numbered(stood(list)) {
				names[standIn(number)] = name
			}
		}
	}
	return names
}

// fillCIDRs fills the map if it is that of ranges.
func (l *loader) fillCIDRs(name string, m *ebpf.Map) error {
	for option, spec := range l.spec.Options {
		list, ok := l.settings.Options[option].([]CIDR)
		if !ok || spec.Map != name {
			continue
		}
		list = stood(list)
		numbers := numbered(list)
		for _, c := range list {
			var key [cidrKeySize]byte
			bits := c.Prefix.Bits()
			if c.Prefix.Addr().Is4() {
				bits += mappedBits
			}
			address := c.Prefix.Addr().As16()
			binary.NativeEndian.PutUint32(key[:], uint32(bits))
			copy(key[4:], address[:])
			if err := m.Put(key, standIn(numbers[c.Name]).As16()); err != nil {
				return fmt.Errorf("fill map %s with %s: %w", name, c.Prefix, err)
			}
		}
	}
	return nil
}
