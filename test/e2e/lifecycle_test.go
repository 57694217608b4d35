// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"fmt"
	"io"
	"net"
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

// Two Collectors with all probes share nothing: each counts everything, and one that ends leaves the other alone.
func TestKernelTwoCollectors(t *testing.T) {
	needCollector(t)
	cgroup, network := kernel.NewCgroup(t), kernel.NewNetwork(t)
	const port, connections, datagrams, size = 5001, 100, 300, 1000
	begin := func() (s setup, c *collector) {
		s = newSetup(t, cgroup)
		s.Probes = append(s.Probes, "flow", "tcp", "udp")
		network.Do(func() { c = start(t, s.file(t)) })
		return s, c
	}
	s1, c1 := begin()
	s2, c2 := begin()
	var pids []int64
	load := func() {
		pids = append(pids, trues(t, cgroup, 100)...)
		network.Do(func() { talk(t, port, connections, datagrams, size) })
	}
	newest := func(s setup, metric string) []kernel.Point {
		all := s.metrics(t)
		require.NotEmpty(t, all)
		return kernel.Points(all[len(all)-1], metric)
	}
	const switches = "ebpf.cpu.context_switches"
	// What a Collector wrote until its end. The counts are of both ends; the loopback shows each packet once.
	requireAll := func(s setup, times float64) {
		s.requireEvents(t, s.pids(t), pids)
		created, _ := s.point(t, "system.process.created")
		assert.EqualValues(t, len(pids), created.Value)
		for _, want := range []struct {
			metric, transport string
			value             float64
		}{
			{"ebpf.tcp.connections", "", 2 * connections},
			{"ebpf.tcp.io", "", 2 * connections * size},
			{"ebpf.udp.datagrams", "", 2 * datagrams},
			{"ebpf.udp.io", "", 2 * datagrams * size},
			{"ebpf.flow.packets", "udp", datagrams},
		} {
			points := kernel.With(newest(s, want.metric), "server.port", int64(port))
			if want.transport != "" {
				points = kernel.With(points, "network.transport", want.transport)
			}
			assert.Equal(t, times*want.value, kernel.Sum(points), want.metric)
		}
	}
	load()
	objects := c1.held()
	c1.stop()
	objects.RequireGone(t)
	requireAll(s1, 1)
	assert.Positive(t, kernel.Sum(newest(s1, switches)))

	require.Eventually(t, func() bool { return len(s2.metrics(t)) > 0 }, patience, 20*time.Millisecond)
	before := kernel.Sum(newest(s2, switches))
	load()
	objects = c2.held()
	c2.stop()
	objects.RequireGone(t)
	requireAll(s2, 2)
	assert.Greater(t, kernel.Sum(newest(s2, switches)), before, "the other one's end ended it")
}

// talk has connections over the loopback to a port, one after the other, and sends datagrams to it, each of a size.
func talk(t *testing.T, port, connections, datagrams, size int) {
	t.Helper()
	server, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	require.NoError(t, err)
	defer server.Close()
	payload := make([]byte, size)
	for range connections {
		client, err := net.Dial("tcp4", server.Addr().String())
		require.NoError(t, err)
		accepted, err := server.Accept()
		require.NoError(t, err)
		_, err = client.Write(payload)
		require.NoError(t, err)
		require.NoError(t, client.Close())
		got, err := io.ReadAll(accepted)
		require.NoError(t, err)
		require.Len(t, got, size)
		require.NoError(t, accepted.Close())
	}
	receiver, err := net.ListenPacket("udp4", server.Addr().String())
	require.NoError(t, err)
	defer receiver.Close()
	sender, err := net.Dial("udp4", server.Addr().String())
	require.NoError(t, err)
	defer sender.Close()
	for range datagrams {
		_, err := sender.Write(payload)
		require.NoError(t, err)
		_, _, err = receiver.ReadFrom(payload)
		require.NoError(t, err)
	}
}
