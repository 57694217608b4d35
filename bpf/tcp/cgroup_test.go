// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"fmt"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// A connection is its process's container's, though softirqs establish and end it; one that was accepted is the listener's. So is its record.
func TestKernelTCPCgroups(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	here, there := pair(t)
	client, clientID := kernel.NewCgroup(t).Container()
	server, serverID := kernel.NewCgroup(t).Container()
	run := here.Start(`
probes:
  tcp:
    metrics:
      ebpf.tcp.connections: { attributes: [container, process.linux.cgroup, ebpf.network.namespace, ebpf.tcp.role, error.type] }
      ebpf.tcp.io: { attributes: [container, process.linux.cgroup, ebpf.network.namespace, ebpf.tcp.role] }
    events: { ebpf.tcp.connection: { enabled: true } }
`)
	s := serveApart(t, there, server, "10.1.0.2:8080")
	cmd := client.Command(bash, "-c", "exec 3<>/dev/tcp/10.1.0.2/8080; echo hello >&3; read x <&3; exec 3>&-; (exec 3<>/dev/tcp/10.1.0.2/1) 2>/dev/null || true")
	here.Do(func() { err = cmd.Run() })
	require.NoError(t, err)
	s.end()
	closed(t, here, there)
	run.Stop()
	mine, theirs := clientID+" "+client.Path, serverID+" "+server.Path
	assert.Equal(t, map[string]int{mine + " connect -": 1, mine + " connect ECONNREFUSED": 1},
		kernel.Values(kernel.Of(run.Last("ebpf.tcp.connections"), here), "container.id", "process.linux.cgroup", "ebpf.tcp.role", "error.type"))
	assert.Equal(t, map[string]int{mine + " transmit": 6, mine + " receive": 6},
		kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), here), "container.id", "process.linux.cgroup", "network.io.direction"))
	assert.Equal(t, map[string]int{theirs + " transmit": 6, theirs + " receive": 6},
		kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), there), "container.id", "process.linux.cgroup", "network.io.direction"))
	records := map[string][]any{}
	for _, logs := range run.Logs.AllLogs() {
		for _, resource := range logs.ResourceLogs().All() {
			for _, record := range resource.ScopeLogs().At(0).LogRecords().All() {
				a := record.Attributes().AsRaw()
				if a["ebpf.network.namespace"] == here.Inode() || a["ebpf.network.namespace"] == there.Inode() {
					role := fmt.Sprint(a["ebpf.tcp.role"])
					records[role] = append(records[role], resource.Resource().Attributes().AsRaw()["container.id"])
				}
			}
		}
	}
	assert.Equal(t, map[string][]any{"connect": {clientID}, "accept": {serverID}}, records)
}
