// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// A container that is gone before the next collection has its name, in metrics and in events.
func TestKernelShortLivedContainer(t *testing.T) {
	c := kernel.NewCgroup(t)
	id := strings.Repeat("0123456789abcdef", 4)
	r := kernel.Start(t, `
probes:
  cpu:
  process:
    events:
      ebpf.process.exec: { filter: { cgroups: ["`+c.Path+`"] } }
`)
	dir := filepath.Join(c.Dir, "docker-"+id+".scope")
	require.NoError(t, os.Mkdir(dir, 0o755))
	inside := c.At(dir)
	require.NoError(t, inside.Command("true").Run())
	require.NoError(t, os.Remove(dir))
	r.Stop()

	found := false
	for _, p := range r.Last("container.cpu.time") {
		found = found || p.Resource["container.id"] == id && p.Value > 0
	}
	assert.True(t, found, "no container.cpu.time of the container in %v", r.Last("container.cpu.time"))

	records := 0
	for _, ld := range r.Logs.AllLogs() {
		for _, rl := range ld.ResourceLogs().All() {
			if v, ok := rl.Resource().Attributes().Get("container.id"); ok && v.Str() == id {
				for _, record := range rl.ScopeLogs().At(0).LogRecords().All() {
					if record.EventName() == "ebpf.process.exec" {
						records++
					}
				}
			}
		}
	}
	assert.Equal(t, 1, records, "exec records of the container")
}

// Containers that nothing tells apart, because what would is switched off, are one resource, with one series of all of them.
func TestKernelContainersOfOneResource(t *testing.T) {
	c := kernel.NewCgroup(t)
	const uid = "0123abcd-0123-abcd-0123-0123456789ab"
	r := kernel.Start(t, `
resource_attributes: { container.id: { enabled: false } }
probes:
  process:
    metrics: { system.process.created: { attributes: [container] } }
    events: { ebpf.process.exec: { filter: { cgroups: ["`+c.Path+`"] } }, ebpf.process.exit: { enabled: false } }
`)
	pod := filepath.Join(c.Dir, "kubepods-pod"+strings.ReplaceAll(uid, "-", "_")+".slice")
	require.NoError(t, os.Mkdir(pod, 0o755))
	const containers = 3
	for i := range containers {
		dir := filepath.Join(pod, "cri-containerd-"+strings.Repeat(strconv.Itoa(i), 64)+".scope")
		require.NoError(t, os.Mkdir(dir, 0o755))
		require.NoError(t, c.At(dir).Command("sh", "-c", strings.Repeat("/bin/true;", i+1)+":").Run())
		require.NoError(t, os.Remove(dir))
	}
	require.NoError(t, os.Remove(pod))
	r.Stop()

	var created []kernel.Point
	for _, p := range r.Last("system.process.created") {
		if p.Resource["k8s.pod.uid"] == uid {
			assert.NotContains(t, p.Resource, "container.id")
			created = append(created, p)
		}
	}
	require.Len(t, created, 1)
	assert.EqualValues(t, 2+3+4, created[0].Value, "shells, and what they started")
	execs := 0
	for _, ld := range r.Logs.AllLogs() {
		resources := 0
		for _, rl := range ld.ResourceLogs().All() {
			if v, ok := rl.Resource().Attributes().Get("k8s.pod.uid"); ok && v.Str() == uid {
				resources++
				execs += rl.ScopeLogs().At(0).LogRecords().Len()
			}
		}
		require.LessOrEqual(t, resources, 1, "in a payload")
	}
	assert.Equal(t, 2+3+4, execs)
}

// Runtimes that give their containers' cgroups names, and no ids.
func TestKernelNamedContainers(t *testing.T) {
	c := kernel.NewCgroup(t)
	r := kernel.Start(t, `probes: { process: { metrics: { system.process.created: { attributes: [container] } }, events: {
  ebpf.process.exec: { enabled: false }, ebpf.process.exit: { enabled: false } } } }`)
	want := make(map[string]int)
	for i, name := range []string{"one", "two"} {
		name = filepath.Base(c.Dir) + "-" + name
		dir := filepath.Join(c.Dir, "lxc.payload."+name)
		require.NoError(t, os.Mkdir(dir, 0o755))
		for range i + 1 {
			require.NoError(t, c.At(dir).Command("true").Run())
			want["lxc "+name]++
		}
		require.NoError(t, os.Remove(dir))
	}
	r.Stop()
	got := make(map[string]int)
	for _, p := range r.Last("system.process.created") {
		if name, _ := p.Resource["container.name"].(string); strings.HasPrefix(name, filepath.Base(c.Dir)) {
			got[fmt.Sprint(p.Resource["container.runtime.name"], " ", name)] += int(p.Value)
		}
	}
	assert.Equal(t, want, got)
}
