// SPDX-License-Identifier: Apache-2.0

// Package e2e_test runs the Collector that `make collector` builds, with real processes, and looks at it from outside only: at the files
// that it writes, the ports that it opens, its log, its exit code, and what the kernel holds for it.
package e2e_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

const (
	root   = "../.."
	binary = root + "/build/otelcol-ebpf"
	// nobody has no rights.
	nobody = 65534
	// patience is for what takes milliseconds on an idle machine.
	patience = 30 * time.Second
	ready    = "Everything is ready"
)

// needCollector skips a test that would test nothing, or something else than the sources.
func needCollector(t *testing.T) {
	t.Helper()
	kernel.Built(t, root, "test-e2e")
}

// sharedDir is a temporary folder that other users can look into.
func sharedDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ebpfreceiver-e2e-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// sharedBinary is a copy of the Collector that other users may execute.
func sharedBinary(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(binary)
	require.NoError(t, err)
	path := filepath.Join(sharedDir(t), "otelcol-ebpf")
	require.NoError(t, os.WriteFile(path, b, 0o755))
	return path
}

// collector is one that runs.
type collector struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended

	mu    sync.Mutex
	lines []string
	grown chan struct{} // closed at the next line
}

// start runs a Collector and waits until it is ready.
func start(t *testing.T, config string) *collector {
	t.Helper()
	return startAs(t, nil, binary, config)
}

// startAs runs one with other rights; nil are the test's.
func startAs(t *testing.T, rights *syscall.SysProcAttr, path, config string) *collector {
	t.Helper()
	// Interrupts are ignored until the Collector asks for them: this shows when it listens to signals, which is after it
	// says that it is ready.
	cmd := exec.Command("/bin/sh", "-c", `trap "" INT; exec "$0" "$@"`, path, "--config", config)
	cmd.SysProcAttr = rights
	c := &collector{t: t, cmd: cmd, done: make(chan struct{}), grown: make(chan struct{})}
	out, err := c.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.done
		if t.Failed() {
			t.Logf("the Collector's log:\n%s", strings.Join(c.log(), "\n"))
		}
	})
	go func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			c.mu.Lock()
			c.lines = append(c.lines, lines.Text())
			close(c.grown)
			c.grown = make(chan struct{})
			c.mu.Unlock()
		}
		_ = c.cmd.Wait() // the state has the outcome
		close(c.done)
	}()
	c.await(ready, 1)
	require.Eventually(t, c.listens, patience, time.Millisecond)
	return c
}

// listens tells whether the Collector handles signals.
func (c *collector) listens() bool {
	_, ignored, _ := strings.Cut(c.status(), "\nSigIgn:\t")
	mask, err := strconv.ParseUint(ignored[:16], 16, 64)
	require.NoError(c.t, err)
	return mask&(1<<(syscall.SIGINT-1)) == 0
}

// status is what proc_pid_status(5) says of the Collector.
func (c *collector) status() string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	require.NoError(c.t, err)
	return string(b)
}

// unprivileged are the rights of nobody, and the capabilities named.
func unprivileged(capabilities ...uintptr) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: capabilities}
}

// log has the lines so far.
func (c *collector) log() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.lines...)
}

// complaints are the warnings and errors so far.
func (c *collector) complaints() []string {
	var found []string
	for _, line := range c.log() {
		if level := strings.SplitN(line, "\t", 3); len(level) < 2 || level[1] != "info" {
			found = append(found, line)
		}
	}
	return found
}

// await waits until a text was logged n times, and returns the last of these lines.
func (c *collector) await(text string, n int) string {
	c.t.Helper()
	timeout := time.After(patience)
	for {
		c.mu.Lock()
		lines, grown := c.lines, c.grown
		c.mu.Unlock()
		found := 0
		for _, line := range lines {
			if strings.Contains(line, text) {
				if found++; found == n {
					return line
				}
			}
		}
		select {
		case <-grown:
		case <-c.done:
			require.FailNow(c.t, "the Collector ended", "%v, before it logged %q", c.cmd.ProcessState, text)
		case <-timeout:
			require.FailNow(c.t, "the Collector did not log it", "%q, %d times", text, n)
		}
	}
}

func (c *collector) signal(s syscall.Signal) {
	c.t.Helper()
	require.NoError(c.t, c.cmd.Process.Signal(s))
}

// wait returns how the Collector ended.
func (c *collector) wait() *os.ProcessState {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(patience):
		require.FailNow(c.t, "the Collector does not end")
	}
	return c.cmd.ProcessState
}

// stop asks the Collector to end, as systemd and the kubelet do.
func (c *collector) stop() {
	c.t.Helper()
	c.signal(syscall.SIGTERM)
	require.Equal(c.t, 0, c.wait().ExitCode())
}

// write replaces a file's content, for any reader.
func write(t *testing.T, path, format string, args ...any) string {
	t.Helper()
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o644))
	return path
}
