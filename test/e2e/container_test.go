// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// TestKernelInContainer runs a Collector as deploy/kubernetes/daemonset.yaml does: with namespaces of its own, /proc among them, with the
// host's root mounted, as a root that has three capabilities. What it tells is the host's.
func TestKernelInContainer(t *testing.T) {
	needCollector(t)
	cgroup := kernel.NewCgroup(t)
	s := newSetup(t, cgroup)
	var err error
	s.RootPath, err = os.MkdirTemp("", "ebpfreceiver-e2e-hostfs-")
	require.NoError(t, err)
	t.Cleanup(func() { os.Remove(s.RootPath) }) // and nothing below it
	script := filepath.Join(s.Dir, "run")
	write(t, script, `#!/bin/sh -e
mount --make-rslave /
mount --rbind / '%s'
mount -t proc proc /proc
caps=-all,+bpf,+perfmon,+dac_read_search
exec setpriv --bounding-set $caps --inh-caps $caps '%s' "$@"
`, s.RootPath, sharedBinary(t))
	require.NoError(t, os.Chmod(script, 0o755))

	namespaces := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWCGROUP}
	c := startAs(t, namespaces, script, s.file(t))
	require.Contains(t, c.status(), "\nCapEff:\t000000c000000004\n")
	pids := trues(t, cgroup, 50)
	s.awaitEvents(t, pids)
	c.stop()
	assert.Empty(t, c.complaints())
	created, _ := s.point(t, "system.process.created")
	assert.EqualValues(t, len(pids), created.Value)
}
