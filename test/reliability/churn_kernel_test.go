// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// born has a process begin in a cgroup.
func born(cgroup *os.File) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
}

// inside makes a cgroup, runs a program in it, and removes it.
func inside(t testing.TB, path, program string) {
	if !assert.NoError(t, os.Mkdir(path, 0o755)) {
		return
	}
	dir, err := os.Open(path)
	if !assert.NoError(t, err) {
		return
	}
	defer dir.Close()
	p, err := os.StartProcess(program, []string{program}, &os.ProcAttr{Sys: born(dir)})
	if assert.NoError(t, err) {
		_, err = p.Wait()
		assert.NoError(t, err)
	}
	// It is busy until the kernel has let go of the process.
	for until := time.Now().Add(patience); os.Remove(path) != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			assert.Fail(t, "cgroup is still in use", path)
			return
		}
	}
}

// Cgroups, processes and network interfaces that come and go by the thousand: what is counted is the truth, and what they cost goes with them.
func TestKernelChurn(t *testing.T) {
	kernel.NeedRoot(t)
	cgroups, interfaces := size(20, 400, 10_000), size(4, 100, 2000)
	parent, network, peer := kernel.NewCgroup(t), kernel.NewNetwork(t), kernel.NewNetwork(t)
	network.WithoutIPv6()
	peer.WithoutIPv6()

	var mu sync.Mutex
	processes, unnamed := 0, 0
	var packets int64
	sink := metricsFunc(t, func(_ context.Context, md pmetric.Metrics) error {
		mu.Lock()
		defer mu.Unlock()
		numberPoints(md, "system.process.created", func(p pmetric.NumberDataPoint) {
			v, _ := p.Attributes().Get("process.linux.cgroup")
			if strings.HasPrefix(v.Str(), parent.Path+"/") {
				processes += int(p.IntValue())
			} else if !strings.HasPrefix(v.Str(), "/") {
				unnamed += int(p.IntValue())
			}
		})
		numberPoints(md, "ebpf.flow.packets", func(p pmetric.NumberDataPoint) {
			if v, _ := p.Attributes().Get("network.interface.name"); v.Str() == "lo" {
				packets += p.IntValue()
			}
		})
		return nil
	})
	var r *rig
	network.Do(func() {
		r = start(t, `
collection_interval: 200ms
temporality: delta
probes:
  process: { metrics: { system.process.created: { attributes: [cgroup] }, ebpf.process.lifetime: { enabled: false } } }
  flow: { interfaces: ["*"], attributes: [network.interface.name], max_series: 100 }
`, sink, nil)
	})
	// There is a program for each kind of interface, from the first of its kind on.
	sockets := func() int { return kernel.Held(t).Descriptors["socket"] }
	attached := sockets()
	network.Connect("first", peer, "first")
	network.Up("first")
	require.Eventually(t, func() bool { return sockets() > attached }, patience, poll)
	require.NoError(t, network.Netlink.LinkDel(network.Link("first")))
	require.Eventually(t, func() bool { return sockets() == attached }, patience, poll)
	before, goroutines := kernel.Held(t), runtime.NumGoroutine()
	// Those of the waits before may be about to end.
	for range 20 {
		time.Sleep(10 * time.Millisecond)
		goroutines = min(goroutines, runtime.NumGoroutine())
	}
	m := watchMemory(t)
	sent := network.Counter("lo", "rx_packets")

	var running sync.WaitGroup
	running.Go(func() {
		for i := range cgroups {
			inside(t, filepath.Join(parent.Dir, fmt.Sprintf("c%d", i)), "/bin/true")
		}
	})
	running.Go(func() {
		for i := 0; i < interfaces; i += 4 {
			for j := i; j < i+4; j++ {
				network.Connect(fmt.Sprintf("a%d", j), peer, fmt.Sprintf("b%d", j))
				network.Up(fmt.Sprintf("a%d", j))
				peer.Up(fmt.Sprintf("b%d", j))
			}
			for j := i; j < i+4; j++ {
				assert.NoError(t, network.Netlink.LinkDel(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("a%d", j)}}))
			}
		}
	})
	churned := make(chan struct{})
	go func() { running.Wait(); close(churned) }()
	var listener net.PacketConn
	var from net.Conn
	network.Do(func() {
		var err error
		listener, err = net.ListenPacket("udp4", "127.0.0.1:9")
		require.NoError(t, err)
		from, err = net.Dial("udp4", "127.0.0.1:9")
		require.NoError(t, err)
	})
	defer listener.Close()
	defer from.Close()
	// One datagram at a time: each is read before the next, so that none is lost.
	buffer := make([]byte, 1)
	for more := true; more; {
		select {
		case <-churned:
			more = false
		default:
		}
		_, err := from.Write([]byte("x"))
		require.NoError(t, err)
		_, _, err = listener.ReadFrom(buffer)
		require.NoError(t, err)
	}
	grown := m.grown()
	listener.Close()
	from.Close()
	// What is attached is that of the beginning, and so is all that it needs.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		now := kernel.Held(t)
		assert.Len(c, now.Programs, len(before.Programs), "programs")
		assert.Len(c, now.Maps, len(before.Maps), "maps")
		assert.Equal(c, before.Descriptors, now.Descriptors, "descriptors")
		assert.Equal(c, goroutines+1, runtime.NumGoroutine(), "goroutines, with the one that looks")
	}, patience, poll)
	sent = network.Counter("lo", "rx_packets") - sent
	r.stop()
	assert.Equal(t, cgroups, processes, "processes, and %d in cgroups without a name, of any test", unnamed)
	assert.EqualValues(t, sent, packets, "packets")
	assert.Less(t, grown, 64*MiB)
	t.Logf("%d cgroups with a process each, %d interfaces, %d packets on another one meanwhile; memory grew by %.1f MiB", cgroups, interfaces, sent, float64(grown)/MiB)
}
