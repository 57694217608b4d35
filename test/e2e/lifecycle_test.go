// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// held is what the kernel holds for a Collector that runs.
func (c *collector) held() kernel.Objects {
	c.t.Helper()
	o := kernel.HeldBy(c.t, c.cmd.Process.Pid)
	require.NotEmpty(c.t, o.Programs)
	require.NotEmpty(c.t, o.Maps)
	require.NotEmpty(c.t, o.Links)
	return o
}

// hasProgram tells whether one of the objects is a program whose name begins so.
func hasProgram(t *testing.T, o kernel.Objects, prefix string) bool {
	t.Helper()
	found := false
	for _, id := range o.Programs {
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
		require.NoError(t, err)
		info, err := p.Info()
		require.NoError(t, err)
		require.NoError(t, p.Close())
		found = found || strings.HasPrefix(info.Name, prefix)
	}
	return found
}

func TestKernelReload(t *testing.T) {
	needCollector(t)
	cgroup := kernel.NewCgroup(t)
	s := newSetup(t, cgroup)
	s.Interval = "1h"
	c := start(t, s.file(t))
	before := c.held()
	require.True(t, hasProgram(t, before, "switch_"))
	pids := trues(t, cgroup, 50)
	require.Empty(t, s.metrics(t), "the interval has not passed")

	s.Interval, s.Probes = "100ms", []string{"process"}
	s.file(t)
	c.signal(syscall.SIGHUP)
	c.await(ready, 2)
	before.RequireGone(t)
	after := c.held()
	assert.False(t, hasProgram(t, after, "switch_"), "the probe cpu was taken away")
	assert.True(t, hasProgram(t, after, "process_exec"))

	// The first receiver delivered what it had when it ended.
	last := s.metrics(t)
	require.NotEmpty(t, last)
	require.NotEmpty(t, kernel.Points(last[0], "ebpf.cpu.context_switches"))
	pids = append(pids, trues(t, cgroup, 50)...)
	require.Eventually(t, func() bool { return len(s.metrics(t)) > 5 }, patience, 20*time.Millisecond)
	for _, md := range s.metrics(t)[1:] {
		require.Empty(t, kernel.Points(md, "ebpf.cpu.context_switches"))
	}
	c.stop()
	after.RequireGone(t)
	s.requireEvents(t, s.pids(t), pids)
}

func TestKernelKilled(t *testing.T) {
	needCollector(t)
	cgroup := kernel.NewCgroup(t)
	s := newSetup(t, cgroup)
	c := start(t, s.file(t))
	objects := c.held()
	c.signal(syscall.SIGKILL)
	c.wait()
	objects.RequireGone(t)

	c = start(t, s.file(t))
	s.awaitEvents(t, trues(t, cgroup, 50))
	objects = c.held()
	c.stop()
	objects.RequireGone(t)
}

func TestKernelTwoCollectors(t *testing.T) {
	needCollector(t)
	cgroup := kernel.NewCgroup(t)
	s1, s2 := newSetup(t, cgroup), newSetup(t, cgroup)
	c1, c2 := start(t, s1.file(t)), start(t, s2.file(t))
	objects := c1.held()
	pids := trues(t, cgroup, 200)
	s1.awaitEvents(t, pids)
	s2.awaitEvents(t, pids)

	c1.stop()
	objects.RequireGone(t)
	pids = append(pids, trues(t, cgroup, 100)...)
	c2.stop()
	s2.requireEvents(t, s2.pids(t), pids)
	for s, n := range map[*setup]int{&s1: 200, &s2: 300} {
		created, _ := s.point(t, "system.process.created")
		assert.EqualValues(t, n, created.Value)
	}
}
