// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

// Size is a number of bytes. In a configuration it may have a unit: "64KiB", "4MiB", "1GiB".
type Size int

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Size) UnmarshalText(text []byte) error {
	n, err := probe.ParseSize(string(text))
	*s = Size(n)
	return err
}
