// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestKernelEnableRunStatistics(t *testing.T) {
	c, err := New(Options{}).EnableRunStatistics()
	if os.Geteuid() != 0 {
		var permission *PermissionError
		require.ErrorAs(t, err, &permission)
		assert.Equal(t, "CAP_SYS_ADMIN", permission.Capability)
		return
	}
	if errors.Is(err, ErrNotSupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	assert.Equal(t, 1, descriptors(t, "anon_inode:bpf-stats"))
	require.NoError(t, c.Close())
	assert.Zero(t, descriptors(t, "anon_inode:bpf-stats"))
}

// descriptors counts this process's descriptors of a kind.
func descriptors(t *testing.T, kind string) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil && target == kind {
			n++
		}
	}
	return n
}
