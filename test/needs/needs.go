// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package needs says what tests need of the machine. It stands on nothing of this module, so that the tests of every package can say so.
package needs

import (
	"os"
	"testing"

	"github.com/cilium/ebpf/rlimit"
	"github.com/stretchr/testify/require"
)

// Root skips a test that the kernel would refuse, and lifts the limit on locked memory, which the memory of maps counts against
// before Linux 5.11.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: run `make test` or `make bench` with sudo")
	}
	require.NoError(t, rlimit.RemoveMemlock())
}
