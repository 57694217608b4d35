// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"strings"
	"unicode/utf8"
)

const (
	// sharedStrings and sharedAddresses are how many are remembered.
	sharedStrings   = 1 << 13
	addressBits     = 13
	sharedAddresses = 1 << addressBits
	// sharedLength is the length in bytes above which a string is not worth to be remembered.
	sharedLength = 128
)

// Strings makes strings of bytes: of bytes that come again, mostly the same string, so that an address or a path that is in thousands of
// rows is in memory once. What it remembers is bounded: a new string takes the place of an old one. It is for one goroutine. A nil
// Strings remembers nothing.
type Strings struct {
	seed      maphash.Seed
	recent    []string  // by hash
	addresses []address // by hash
}

// address is an IP address of 16 bytes, and what it is written as.
type address struct {
	high, low uint64
	text      string
}

// NewStrings returns an empty Strings.
func NewStrings() *Strings { return &Strings{seed: maphash.MakeSeed()} }

// of is bytes as a string.
func (s *Strings) of(b []byte) string {
	if s == nil || len(b) > sharedLength {
		return string(b)
	}
	if s.recent == nil {
		s.recent = make([]string, sharedStrings)
	}
	recent := &s.recent[maphash.Bytes(s.seed, b)%sharedStrings]
	if *recent != string(b) {
		*recent = string(b)
	}
	return *recent
}

// text is bytes as a valid UTF-8 string, which protobuf insists on.
func (s *Strings) text(b []byte) string {
	if !utf8.Valid(b) {
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	return s.of(b)
}

// address is how an IP address is written; an IPv4-mapped one as the IPv4 address that it is.
func (s *Strings) address(raw [16]byte) string {
	if s == nil {
		return netip.AddrFrom16(raw).Unmap().String()
	}
	if s.addresses == nil {
		s.addresses = make([]address, sharedAddresses)
	}
	high, low := binary.NativeEndian.Uint64(raw[:]), binary.NativeEndian.Uint64(raw[8:])
	// The uppermost bits of a product depend on all bits of its factors.
	hash := (high ^ low*0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd
	a := &s.addresses[hash>>(64-addressBits)]
	if a.high != high || a.low != low || a.text == "" {
		*a = address{high, low, netip.AddrFrom16(raw).Unmap().String()}
	}
	return a.text
}
