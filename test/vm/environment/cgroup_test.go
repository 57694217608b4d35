// SPDX-License-Identifier: Apache-2.0

//go:build linux

package environment_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// command is one whose output nobody needs.
func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	return cmd
}

// hierarchies are where cgroups can be made, by the kernel's own account.
func hierarchies(t *testing.T) (v1, v2 []string) {
	t.Helper()
	f, err := os.Open("/proc/self/mounts")
	require.NoError(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		switch fields := strings.Fields(lines.Text()); fields[2] {
		case "cgroup":
			v1 = append(v1, fields[1])
		case "cgroup2":
			v2 = append(v2, fields[1])
		}
	}
	require.NoError(t, lines.Err())
	return v1, v2
}

// container is a shell in a cgroup that is called as Docker calls them, in some hierarchies.
type container struct {
	id, path string
	shell    *exec.Cmd
	input    io.WriteCloser
	output   *bufio.Reader
}

func newContainer(t *testing.T, mounts []string) *container {
	t.Helper()
	c := &container{id: strings.Repeat("0123456789abcdef", 4)}
	c.path = "/docker/" + c.id
	c.shell = command("/bin/sh", "-c", `while read n program; do i=0; while [ $i -lt $n ]; do eval "$program"; i=$((i+1)); done; echo done; done`)
	var err error
	c.input, err = c.shell.StdinPipe()
	require.NoError(t, err)
	output, err := c.shell.StdoutPipe()
	require.NoError(t, err)
	c.output = bufio.NewReader(output)
	require.NoError(t, c.shell.Start())
	c.run(t, 0, "") // it is asleep, or about to be
	for _, mount := range mounts {
		dir := mount + c.path
		require.NoError(t, os.MkdirAll(dir, 0o755))
		if strings.Contains(mount, "cpuset") { // which has no processors until it is given some
			for _, d := range []string{filepath.Dir(dir), dir} {
				for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
					value, err := os.ReadFile(filepath.Join(mount, file))
					require.NoError(t, err)
					require.NoError(t, os.WriteFile(filepath.Join(d, file), value, 0))
				}
			}
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(c.shell.Process.Pid)), 0))
	}
	t.Cleanup(func() {
		c.end(t)
		for _, mount := range mounts {
			require.NoError(t, os.Remove(mount+c.path))
			require.NoError(t, os.Remove(filepath.Dir(mount+c.path)))
		}
	})
	return c
}

// run runs a program in the container some times, which writes nothing to its output.
func (c *container) run(t *testing.T, n int, program string) {
	t.Helper()
	_, err := fmt.Fprintln(c.input, n, program)
	require.NoError(t, err)
	_, err = c.output.ReadString('\n')
	require.NoError(t, err)
}

func (c *container) end(t *testing.T) {
	t.Helper()
	if c.input == nil {
		return
	}
	require.NoError(t, c.input.Close())
	c.input = nil
	require.NoError(t, c.shell.Wait())
}

// requireContainer holds what a receiver says of a container against what was run in it, and against the kernel's account. The receiver's host is at the root
// path.
func requireContainer(t *testing.T, root string, mounts []string, usage func(c *container) float64) {
	t.Helper()
	const n = 20
	c := newContainer(t, mounts)
	r := start(t, "root_path: "+root+`
probes:
  cpu: { metrics: { container.cpu.time: { attributes: [container, process.linux.cgroup] } } }
  process: { metrics: { system.process.created: { attributes: [container, cgroup] } } }
`)
	require.Empty(t, r.complaints())
	before := usage(c)
	c.run(t, n, "/bin/true")
	c.end(t)
	after := usage(c)
	r.stop()
	r.requireContainer(c, n, after-before)
}

// requireContainer holds the data of a container against the programs that were run in it and the seconds of CPU time that it used.
func (r *run) requireContainer(c *container, programs int, used float64) {
	t := r.t
	t.Helper()
	own := func(points []kernel.Point) (sum float64) {
		for _, p := range points {
			if p.Resource["container.id"] == c.id {
				require.Equal(t, c.path, p.Attributes["process.linux.cgroup"])
				sum += p.Value
			}
		}
		return sum
	}
	require.InDelta(t, float64(programs), own(r.Last("system.process.created")), 0, "%v", r.Last("system.process.created"))
	got := own(r.Last("container.cpu.time"))
	// What the shell used while it was woken, before it ran in the container, is at most this.
	require.InDelta(t, used, got, math.Max(0.002, 0.02*used), "CPU time in seconds")
	records := 0
	for _, ld := range r.Logs.AllLogs() {
		for _, rl := range ld.ResourceLogs().All() {
			if id, ok := rl.Resource().Attributes().Get("container.id"); ok && id.Str() == c.id {
				for _, record := range rl.ScopeLogs().At(0).LogRecords().All() {
					if record.EventName() == "ebpf.process.exec" {
						records++
					}
				}
			}
		}
	}
	require.Equal(t, programs, records, "exec records of the container")
}

// cpuacct is what the v1 controller says that a container used, in seconds.
func cpuacct(t *testing.T) func(c *container) float64 {
	return func(c *container) float64 {
		t.Helper()
		text, err := os.ReadFile("/sys/fs/cgroup/cpu,cpuacct" + c.path + "/cpuacct.usage")
		require.NoError(t, err)
		ns, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
		require.NoError(t, err)
		return ns / 1e9
	}
}

// talkVariable, in the environment, is the file for what became of the datagrams of a container's process.
const talkVariable = "EBPFRECEIVER_TEST_TALK"

// filteredPort is of a connection of which one end's socket throws away what comes, until it comes again.
const filteredPort = 7779

// TestTalk is what the container's process does in TestKernelCgroups.
func TestTalk(t *testing.T) {
	file := os.Getenv(talkVariable)
	if file == "" {
		t.Skip("is a part of TestKernelCgroups")
	}
	dropped := talk(t)
	listener, err := net.Listen("tcp4", fmt.Sprint("127.0.0.1:", filteredPort))
	require.NoError(t, err)
	defer listener.Close()
	c, err := net.Dial("tcp4", listener.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	peer, err := listener.Accept()
	require.NoError(t, err)
	defer peer.Close()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	control := func(c net.Conn, do func(fd int)) {
		raw, err := c.(*net.TCPConn).SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) { do(int(fd)) }))
	}
	control(c, func(fd int) {
		nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
		require.NoError(t, unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing}))
	})
	_, err = peer.Write(make([]byte, size))
	require.NoError(t, err)
	require.Eventually(t, func() (again bool) {
		control(peer, func(fd int) {
			info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
			require.NoError(t, err)
			again = info.Total_retrans > 0
		})
		return again
	}, time.Minute, 10*time.Millisecond)
	control(c, func(fd int) { require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)) })
	_, err = io.ReadFull(c, make([]byte, size))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, []byte(strconv.Itoa(dropped)), 0o600))
}

// requireOwner holds whose sockets are, by the probes tcp and udp, against the container in which a process has made them. The receiver's host is at the root
// path.
func requireOwner(t *testing.T, root string, mounts []string, v2 bool) {
	t.Helper()
	n := networkOf(t)
	probes := n.probes()
	if n.connections { // of the probe that is last
		probes += "{ metrics: { ebpf.network.drops: { attributes: [container, ebpf.network.drop.reason] } } }"
	}
	c := newContainer(t, mounts)
	r := start(t, "root_path: "+root+"\nprobes: { "+probes+" }")
	require.Empty(t, r.complaints())
	binary, err := os.Executable()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "dropped")
	c.run(t, 1, fmt.Sprintf("%s='%s' '%s' -test.run '^TestTalk$' >&2", talkVariable, file, binary))
	c.end(t)
	r.stop()
	text, err := os.ReadFile(file)
	require.NoError(t, err, "the talk has failed")
	dropped, err := strconv.Atoi(string(text))
	require.NoError(t, err)
	r.requireTalk(n, 1, dropped)

	requireIn := func(owner string, points []kernel.Point) {
		t.Helper()
		require.Equal(t, []string{owner}, slices.Collect(maps.Keys(kernel.Values(points, "container.id"))))
	}
	at := func(port int64, metric string) []kernel.Point {
		return kernel.With(r.Last(metric), "server.port", port)
	}
	// What is received in a softirq is nobody's but the socket's, which is in a cgroup of v2 only.
	receiver := "-"
	if v2 {
		receiver = c.id
	}
	requireIn(receiver, at(fullPort, "ebpf.udp.receive.drops"))
	if n.calls {
		requireIn(c.id, at(port, "ebpf.udp.io"))
		requireIn(c.id, at(port, "ebpf.udp.datagrams"))
	}
	if n.connections {
		for _, metric := range []string{"ebpf.tcp.connections", "ebpf.tcp.connect.latency", "ebpf.tcp.connection.duration", "ebpf.tcp.io"} {
			requireIn(c.id, at(port, metric))
		}
	}
	if has(t, "sk_skb_reason_drop") { // since when it is told who was to receive
		requireIn(c.id, kernel.With(r.Last("ebpf.network.drops"), "ebpf.network.drop.reason", "socket_filter"))
	}
}

// Containers have their names where cgroups are of the first version only, and where both are mounted: with the containers
// in both, as Docker has them, or in the first only. So have their sockets.
func TestKernelCgroups(t *testing.T) {
	here := need(t, "cgroup-v1", "cgroup-hybrid")
	v1, v2 := hierarchies(t)
	require.NotEmpty(t, v1)
	if here == "cgroup-v1" {
		require.Empty(t, v2)
	} else {
		require.Len(t, v2, 1)
		both := slices.Concat(v1, v2)
		t.Run("in both", func(t *testing.T) { requireContainer(t, "", both, cpuacct(t)) })
		t.Run("sockets in both", func(t *testing.T) { requireOwner(t, "", both, true) })
	}
	t.Run("in v1", func(t *testing.T) { requireContainer(t, "", v1, cpuacct(t)) })
	t.Run("sockets in v1", func(t *testing.T) { requireOwner(t, "", v1, false) })
	t.Attr(outcome.Holds, outcome.Works)
}
