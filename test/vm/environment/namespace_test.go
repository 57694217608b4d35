// SPDX-License-Identifier: Apache-2.0

//go:build linux

package environment_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

func TestKernelUserNamespace(t *testing.T) {
	need(t, "user-namespace")
	require.Zero(t, os.Geteuid(), "root, of the namespace")
	requireNothing(t, "user namespace", "hostUsers")
	t.Attr(outcome.Holds, outcome.Refuses)
}

// What the guest gives the tests: the host's root, and on the host the cgroup that is their root.
const (
	hostRoot   = "/hostfs"
	hostCgroup = "/collector"
)

// A Collector in a container: its own processes have other numbers there, and the host is at the root path. What it reports
// is the host's view.
func TestKernelPIDNamespace(t *testing.T) {
	need(t, "pid-namespace")
	self, err := os.Readlink(hostRoot + "/proc/self")
	require.NoError(t, err)
	require.NotEqual(t, self, fmt.Sprint(os.Getpid()))
	n := networkOf(t)
	r := start(t, "root_path: "+hostRoot+"\nprobes: { "+n.all()+" }")
	require.Empty(t, r.complaints())

	var inside, outside []int64
	for range 10 {
		pid, hosts := waitingChild(t)
		inside, outside = append(inside, pid), append(outside, hosts)
	}
	r.requireNetwork(n)
	r.requireWhole(outside)
	require.NotEqual(t, inside, outside)
	// Its cgroup is called what the host calls it.
	r = start(t, "root_path: "+hostRoot+"\nprobes: { process: { metrics: { system.process.created: { attributes: [cgroup] } } } }")
	require.Empty(t, r.complaints())
	trues(t, 5)
	r.stop()
	created := make(map[any]float64)
	for _, p := range r.Last("system.process.created") {
		created[p.Attributes["process.linux.cgroup"]] += p.Value
	}
	require.GreaterOrEqual(t, created[hostCgroup], 5.0, "%v", created)
	// So are containers that are beside its own.
	hierarchy := []string{hostRoot + "/sys/fs/cgroup"}
	t.Run("container", func(t *testing.T) {
		requireContainer(t, hostRoot, hierarchy, func(c *container) float64 { return numbers(t, hierarchy[0]+c.path+"/cpu.stat")[0] / 1e6 })
	})
	t.Run("filter", func(t *testing.T) {
		c := newContainer(t, hierarchy)
		r := start(t, "root_path: "+hostRoot+"\nprobes: { process: { events: { "+execEvent+": { filter: { cgroups: [ "+c.path+" ] } } } } }")
		require.Empty(t, r.complaints())
		trues(t, 5)
		c.run(t, 20, "/bin/true")
		c.end(t)
		r.stop()
		require.Len(t, r.records(execEvent), 20)
	})
	t.Run("sockets", func(t *testing.T) { requireOwner(t, hostRoot, hierarchy, true) })
	t.Run("other network namespaces", func(t *testing.T) { requireOtherNetworks(t, n, hierarchy) })
	t.Attr(outcome.Holds, outcome.Works)
}

// requireOtherNetworks has a container with a network namespace of its own, whose only process the Collector's own /proc does not show. By the host's, the probe
// flow finds its interface and whose address that is, and tcp a connection that was there before.
func requireOtherNetworks(t *testing.T, n network, hierarchy []string) {
	here, there := kernel.Pair(t, "inside0", "outside0")
	introduce(t, here, "inside0", there, "outside0", "10.1.0.2")
	introduce(t, there, "outside0", here, "inside0", "10.1.0.1")
	var c *container
	here.Do(func() { c = newContainer(t, hierarchy) })
	hide(t, c.shell.Process.Pid)

	var err error
	var listener net.Listener
	var client net.Conn
	there.Do(func() { listener, err = net.Listen("tcp4", fmt.Sprint("10.1.0.2:", port)) })
	require.NoError(t, err)
	here.Do(func() { client, err = net.Dial("tcp4", listener.Addr().String()) })
	require.NoError(t, err)
	defer client.Close()
	server, err := listener.Accept()
	require.NoError(t, err)
	defer server.Close()
	require.NoError(t, listener.Close())

	probes := "flow: { network_namespaces: all, interfaces: [inside0], attributes: [container, network.io.direction] }"
	if n.connections {
		probes += ", tcp: { attributes: [ebpf.network.namespace, ebpf.tcp.role] }"
	}
	r := start(t, "root_path: "+hostRoot+"\nprobes: { "+probes+" }")
	require.Empty(t, r.complaints())
	passed := func() map[string]int {
		return map[string]int{"receive": int(here.Counter("inside0", "rx_bytes")), "transmit": int(here.Counter("inside0", "tx_bytes"))}
	}
	before := passed()
	for _, way := range []struct {
		from, to net.Conn
		bytes    int
	}{{client, server, asked}, {server, client, answered}} {
		_, err = way.from.Write(make([]byte, way.bytes))
		require.NoError(t, err)
		_, err = io.ReadFull(way.to, make([]byte, way.bytes))
		require.NoError(t, err)
	}
	require.NoError(t, client.Close())
	require.NoError(t, server.Close())
	for _, n := range []*kernel.Network{here, there} {
		require.Eventually(t, func() (done bool) {
			n.Do(func() { done = ended(t, port) })
			return done
		}, time.Minute, 10*time.Millisecond, "the connection's end")
	}
	r.stop()
	after := passed()
	require.Equal(t, map[string]int{
		c.id + " receive": after["receive"] - before["receive"], c.id + " transmit": after["transmit"] - before["transmit"],
	}, kernel.Values(r.Last("ebpf.flow.io"), "container.id", "network.io.direction"))
	if n.connections {
		require.Equal(t, map[string]int{"connect transmit": asked, "connect receive": answered},
			kernel.Values(kernel.Of(r.Last("ebpf.tcp.io"), here), "ebpf.tcp.role", "network.io.direction"))
	}
}

// introduce tells a host for good whose an address is, so that it never asks.
func introduce(t *testing.T, n *kernel.Network, name string, other *kernel.Network, otherName, address string) {
	t.Helper()
	require.NoError(t, n.Netlink.NeighSet(&netlink.Neigh{
		LinkIndex: n.Link(name).Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(address), HardwareAddr: other.Link(otherName).Attrs().HardwareAddr,
	}))
}

// hide covers a process in the /proc that is seen here.
func hide(t *testing.T, pid int) {
	t.Helper()
	own := fmt.Sprintf("/proc/%d", pid)
	require.NoError(t, unix.Mount(t.TempDir(), own, "", unix.MS_BIND, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(own, unix.MNT_DETACH)) })
	require.NoFileExists(t, own+"/status")
}

// waitingChild runs a program, and finds its number on the host while it waits.
func waitingChild(t *testing.T) (inside, outside int64) {
	t.Helper()
	cmd := command("/bin/cat")
	input, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() {
		input.Close()
		require.NoError(t, cmd.Wait())
	}()
	self, err := os.Readlink(hostRoot + "/proc/self")
	require.NoError(t, err)
	// The namespace's processes are those with two numbers, of which the second is its own.
	statuses, err := filepath.Glob(hostRoot + "/proc/[0-9]*/status")
	require.NoError(t, err)
	for _, file := range statuses {
		status, err := os.ReadFile(file)
		if err != nil {
			continue // gone meanwhile
		}
		var parent, host, own int64
		for line := range strings.Lines(string(status)) {
			_, _ = fmt.Sscanf(line, "PPid: %d", &parent)
			_, _ = fmt.Sscanf(line, "NSpid: %d %d", &host, &own)
		}
		if fmt.Sprint(parent) == self && own == int64(cmd.Process.Pid) {
			return own, host
		}
	}
	t.Fatalf("process %d is not to be found on the host", cmd.Process.Pid)
	return 0, 0
}
