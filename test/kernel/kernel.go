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

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.yaml.in/yaml/v3"

	ebpfreceiver "github.com/ebpfreceiver/ebpfreceiver/receiver"
	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// NeedRoot is [needs.Root].
func NeedRoot(t testing.TB) {
	t.Helper()
	needs.Root(t)
}

// How long a test waits for the kernel to let go of what has ended, on an emulated processor that stands still now and then, and how often it looks.
const (
	patience = time.Minute
	poll     = 10 * time.Millisecond
)

// Run is a receiver that runs, with what it has delivered.
type Run struct {
	Metrics *consumertest.MetricsSink
	Logs    *consumertest.LogsSink

	t       testing.TB
	stop    []func(context.Context) error
	process *process // that it runs in; nil is this one
}

// Start runs a receiver with a configuration in YAML, as it would stand below "ebpf:". Its tick is far away, so that
// [Run.Stop] delivers the only snapshot, unless the configuration says otherwise. It runs in this process, and with [capability.Variable] in one of an
// unprivileged user's.
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
	r := &Run{t: t, Metrics: new(consumertest.MetricsSink), Logs: new(consumertest.LogsSink)}
	var err error
	if capabilities, ok := unprivileged(t); ok {
		r.process, err = startProcess(r, values, capabilities)
		require.NoError(t, err)
		r.stop = append(r.stop, r.process.stop)
	} else {
		host := &strictHost{Host: componenttest.NewNopHost(), tell: func(problem string) { t.Error(problem) }}
		r.stop, err = startReceiver(t.Context(), values, host, r.Metrics, r.Logs)
		require.NoError(t, err)
	}
	t.Cleanup(r.Stop)
	return r
}

// startReceiver starts one with both pipelines, and returns what ends them.
func startReceiver(ctx context.Context, values map[string]any, host component.Host, metricsTo consumer.Metrics, logsTo consumer.Logs) (
	stop []func(context.Context) error, err error,
) {
	factory := ebpfreceiver.NewFactory()
	cfg := factory.CreateDefaultConfig()
	if err := confmap.NewFromStringMap(values).Unmarshal(cfg); err != nil {
		return nil, err
	}
	if err := cfg.(interface{ Validate() error }).Validate(); err != nil {
		return nil, err
	}
	set := receivertest.NewNopSettings(factory.Type())
	metrics, err := factory.CreateMetrics(ctx, set, cfg, metricsTo)
	if err != nil {
		return nil, err
	}
	logs, err := factory.CreateLogs(ctx, set, cfg, logsTo)
	if err != nil {
		return nil, err
	}
	for _, c := range []receiver.Metrics{metrics, logs} {
		if err := c.Start(ctx, host); err != nil {
			return stop, err
		}
		stop = append(stop, c.Shutdown)
	}
	return stop, nil
}

// Stop ends the receiver, which delivers what it has until then.
func (r *Run) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
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
	return makeCgroup(t, mount, fmt.Sprintf("/ebpfreceiver-test-%08x", rand.Uint32()))
}

// Container makes a cgroup below c that is called as Docker calls a container's, of the id that is returned.
func (c *Cgroup) Container() (inside *Cgroup, id string) {
	c.t.Helper()
	id = strings.Repeat(fmt.Sprintf("%016x", rand.Uint64()), 4)
	return makeCgroup(c.t, strings.TrimSuffix(c.Dir, c.Path), c.Path+"/docker-"+id+".scope"), id
}

func makeCgroup(t testing.TB, mount, path string) *Cgroup {
	t.Helper()
	c := &Cgroup{t: t, Dir: mount + path, Path: path}
	require.NoError(t, os.Mkdir(c.Dir, 0o755))
	t.Cleanup(func() {
		_ = os.WriteFile(filepath.Join(c.Dir, "cgroup.kill"), []byte("1"), 0)
		require.Eventually(t, func() bool { return os.Remove(c.Dir) == nil }, patience, poll, "cgroup is still in use")
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
