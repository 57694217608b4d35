// SPDX-License-Identifier: Apache-2.0

package kernel

import "testing"

// Load is how often a test does something: full, or short where `go test -short` asks for it. The kernel matrix does, because its emulated
// processors are some twenty times slower; the truth that a test holds the count against is the same.
func Load(full, short int) int {
	if testing.Short() {
		return short
	}
	return full
}
