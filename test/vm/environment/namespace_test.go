// SPDX-License-Identifier: Apache-2.0

//go:build linux

package environment_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

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
	r := start(t, "root_path: "+hostRoot+"\n"+probesByDefault)
	require.Empty(t, r.complaints())

	var inside, outside []int64
	for range 10 {
		pid, hosts := waitingChild(t)
		inside, outside = append(inside, pid), append(outside, hosts)
	}
	r.stop()
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
	t.Attr(outcome.Holds, outcome.Works)
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
