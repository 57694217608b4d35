// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// A connection is its process's cgroup's, though softirqs establish and end it; one that was accepted is the listener's.
func TestKernelTCPCgroups(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	here, there := pair(t)
	client, server := kernel.NewCgroup(t), kernel.NewCgroup(t)
	run := here.Start(`
probes:
  tcp:
    metrics:
      ebpf.tcp.connections: { attributes: [process.linux.cgroup, ebpf.network.namespace, ebpf.tcp.role, error.type] }
      ebpf.tcp.io: { attributes: [process.linux.cgroup, ebpf.network.namespace, ebpf.tcp.role] }
`)
	s := serveApart(t, there, server, "10.1.0.2:8080")
	cmd := client.Command(bash, "-c", "exec 3<>/dev/tcp/10.1.0.2/8080; echo hello >&3; read x <&3; exec 3>&-; (exec 3<>/dev/tcp/10.1.0.2/1) 2>/dev/null || true")
	here.Do(func() { err = cmd.Run() })
	require.NoError(t, err)
	s.end()
	closed(t, here, there)
	run.Stop()
	assert.Equal(t, map[string]int{client.Path + " connect -": 1, client.Path + " connect ECONNREFUSED": 1},
		kernel.Values(kernel.Of(run.Last("ebpf.tcp.connections"), here), "process.linux.cgroup", "ebpf.tcp.role", "error.type"))
	assert.Equal(t, map[string]int{client.Path + " transmit": 6, client.Path + " receive": 6},
		kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), here), "process.linux.cgroup", "network.io.direction"))
	assert.Equal(t, map[string]int{server.Path + " transmit": 6, server.Path + " receive": 6},
		kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), there), "process.linux.cgroup", "network.io.direction"))
}
