// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// A child of ours, which is moved while it lives.
func TestKernelProcesses(t *testing.T) {
	needs.Root(t)
	h, err := DetectHierarchy("")
	require.NoError(t, err)
	cgroups := openCgroups(t, h)
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	pid := cmd.Process.Pid

	for range 2 {
		name := makeCgroup(t, h, uniqueName())
		require.NoError(t, os.WriteFile(h.Mount+name+"/cgroup.procs", fmt.Append(nil, pid), 0))
		id, ok := cgroups.OfProcess(pid)
		assert.True(t, ok)
		assert.Equal(t, inodeOf(t, h.Mount+name), id)
	}
	_, ok := NoCgroups().OfProcess(pid)
	assert.False(t, ok)

	require.NoError(t, stdin.Close())
	require.NoError(t, cmd.Wait())
	_, ok = cgroups.OfProcess(pid)
	assert.False(t, ok)
}
