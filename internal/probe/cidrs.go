// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

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

// mapped is where IPv4 addresses lie among those of IPv6.
var mapped = netip.MustParsePrefix("::ffff:0:0/96")

// stood are the ranges with a name of the user's, and two more: the one from which stand-ins are, since a forged packet must not
// pass for them, and IPv4's, without a name, where it lies in a range of IPv6 that has one.
func stood(list []CIDR) []CIDR {
	if len(list) == 0 {
		return nil
	}
	all := slices.Concat(list, []CIDR{{Prefix: standIns, Name: standIns.String()}})
	if slices.ContainsFunc(list, func(c CIDR) bool { return c.Prefix.Addr().Is6() && c.Prefix.Overlaps(mapped) }) &&
		!slices.ContainsFunc(list, func(c CIDR) bool { return c.Prefix.Addr().Is4() && c.Prefix.Bits() == 0 }) {
		all = append(all, CIDR{Prefix: mapped})
	}
	return all
}

// numbered are the numbers of the distinct names in the order of the list.
func numbered(list []CIDR) map[string]int {
	numbers := make(map[string]int)
	for _, c := range list {
		if _, ok := numbers[c.Name]; !ok && c.Name != "" {
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
			var value [cidrValueSize]byte
			if c.Name != "" {
				value = standIn(numbers[c.Name]).As16()
			}
			if err := m.Put(key, value); err != nil {
				return fmt.Errorf("fill map %s with %s: %w", name, c.Prefix, err)
			}
		}
	}
	return nil
}
