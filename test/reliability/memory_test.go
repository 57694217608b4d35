// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"fmt"
	"os"
	"regexp"
	"runtime/debug"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// MiB is 2^20 bytes.
const MiB = 1 << 20

// memory follows how much of it this process has.
type memory struct {
	t      testing.TB
	before int
}

// watchMemory begins to follow, from as little as there can be.
func watchMemory(t testing.TB) *memory {
	t.Helper()
	debug.FreeOSMemory()
	// The kernel forgets the largest size so far; see proc_pid_clear_refs(5).
	require.NoError(t, os.WriteFile("/proc/self/clear_refs", []byte("5"), 0))
	return &memory{t: t, before: status(t, os.Getpid(), "VmRSS")}
}

// grown is by how much the largest size since then exceeds that of the beginning, in bytes.
func (m *memory) grown() int {
	m.t.Helper()
	return status(m.t, os.Getpid(), "VmHWM") - m.before
}

// status is a size of proc_pid_status(5), in bytes.
func status(t testing.TB, pid int, field string) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	m := regexp.MustCompile(`(?m)^` + field + `:\s+(\d+) kB$`).FindSubmatch(b)
	require.NotNil(t, m, field)
	n, err := strconv.Atoi(string(m[1]))
	require.NoError(t, err)
	return n << 10
}
