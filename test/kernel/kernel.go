// SPDX-License-Identifier: Apache-2.0

// Package kernel runs the receiver against the running kernel for tests, in cgroups of their own.
package kernel

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/rlimit"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.yaml.in/yaml/v3"

	ebpfreceiver "github.com/ebpfreceiver/ebpfreceiver/receiver"
)

// NeedRoot skips a test that the kernel would refuse, and lifts the limit on locked memory, which the memory of maps counts against
// before Linux 5.11.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: run `make test` with sudo")
	}
	require.NoError(t, rlimit.RemoveMemlock())
}

// Run is a receiver that runs, with what it has delivered.
type Run struct {
	Metrics *consumertest.MetricsSink
	Logs    *consumertest.LogsSink

	t    testing.TB
	stop []func(context.Context) error
}

// Start runs a receiver with a configuration in YAML, as it would stand below "ebpf:". Its tick is far away, so that
// [Run.Stop] delivers the only snapshot, unless the configuration says otherwise.
func Start(t testing.TB, config string) *Run {
	t.Helper()
	NeedRoot(t)
	var values map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(config), &values))
	if _, ok := values["collection_interval"]; !ok {
		values["collection_interval"] = "1h"
	}
	if _, ok := values["cgroup_hierarchy"]; !ok {
		values["cgroup_hierarchy"] = "v2"
	}
	factory := ebpfreceiver.NewFactory()
	cfg := factory.CreateDefaultConfig()
	require.NoError(t, confmap.NewFromStringMap(values).Unmarshal(cfg))
	require.NoError(t, cfg.(interface{ Validate() error }).Validate())

	r := &Run{t: t, Metrics: new(consumertest.MetricsSink), Logs: new(consumertest.LogsSink)}
	set := receivertest.NewNopSettings(factory.Type())
	host := &strictHost{Host: componenttest.NewNopHost(), t: t}
	metrics, err := factory.CreateMetrics(t.Context(), set, cfg, r.Metrics)
	require.NoError(t, err)
	logs, err := factory.CreateLogs(t.Context(), set, cfg, r.Logs)
	require.NoError(t, err)
	for _, c := range []receiver.Metrics{metrics, logs} {
		require.NoError(t, c.Start(t.Context(), host))
		r.stop = append(r.stop, c.Shutdown)
	}
	t.Cleanup(r.Stop)
	return r
}

// Stop ends the receiver, which delivers what it has until then.
func (r *Run) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, stop := range r.stop {
		require.NoError(r.t, stop(ctx))
	}
	r.stop = nil
}

// Cgroup is a cgroup of the test's own, in the v2 hierarchy.
type Cgroup struct {
	// Dir is its directory, Path its path in the hierarchy.
	Dir, Path string

	t    testing.TB
	open sync.Once
	dir  *os.File // the directory, once a command needed it
}

// mountV2 finds where the v2 hierarchy is mounted.
func mountV2() (string, error) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no cgroup v2 hierarchy is mounted")
}

// NewCgroup makes a cgroup. The test's end kills what runs in it, and removes it.
func NewCgroup(t testing.TB) *Cgroup {
	t.Helper()
	NeedRoot(t)
	mount, err := mountV2()
	require.NoError(t, err)
	path := fmt.Sprintf("/ebpfreceiver-test-%08x", rand.Uint32())
	c := &Cgroup{t: t, Dir: mount + path, Path: path}
	require.NoError(t, os.Mkdir(c.Dir, 0o755))
	t.Cleanup(func() {
		_ = os.WriteFile(filepath.Join(c.Dir, "cgroup.kill"), []byte("1"), 0)
		require.Eventually(t, func() bool { return os.Remove(c.Dir) == nil }, 10*time.Second, 10*time.Millisecond, "cgroup is still in use")
	})
	return c
}

// Command is a command that is born in the cgroup.
func (c *Cgroup) Command(name string, args ...string) *exec.Cmd {
	c.t.Helper()
	c.open.Do(func() {
		dir, err := os.Open(c.Dir)
		require.NoError(c.t, err)
		c.t.Cleanup(func() { dir.Close() })
		c.dir = dir
	})
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(c.dir.Fd())}
	return cmd
}

// At is a cgroup below c that the test made itself, and removes.
func (c *Cgroup) At(dir string) *Cgroup {
	return &Cgroup{t: c.t, Dir: dir, Path: c.Path + strings.TrimPrefix(dir, c.Dir)}
}

// Read returns the content of one of the cgroup's files.
func (c *Cgroup) Read(file string) string {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.Dir, file))
	require.NoError(c.t, err)
	return strings.TrimSpace(string(b))
}
