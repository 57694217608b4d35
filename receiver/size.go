// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. In a configuration it may have a unit: "64KiB", "4MiB", "1GiB".
type Size int

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Size) UnmarshalText(text []byte) error {
	digits, shift := strings.TrimSpace(string(text)), 0
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if number, ok := strings.CutSuffix(digits, unit); ok {
			digits, shift = strings.TrimSpace(number), 10*(i+1)
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n > math.MaxInt>>shift {
		return fmt.Errorf("want a size such as 4MiB, have %q", text)
	}
	*s = Size(n << shift)
	return nil
}
