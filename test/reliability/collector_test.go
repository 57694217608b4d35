// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

const (
	root    = "../.."
	program = root + "/build/otelcol-ebpf"
)

// needCollector skips a test that would test nothing, or something else than the sources.
func needCollector(t *testing.T) {
	t.Helper()
	kernel.Built(t, root, "reliability")
}

// collector is one that runs.
type collector struct {
	t         *testing.T
	cmd       *exec.Cmd
	telemetry int // port
	done      chan struct{}

	mu    sync.Mutex
	lines []string
}

// startCollector runs a Collector and waits until it is ready. The configuration has a %d for the port of its telemetry.
func startCollector(t *testing.T, config string) *collector {
	t.Helper()
	c := &collector{t: t, telemetry: kernel.FreePort(t), done: make(chan struct{})}
	file := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, config, c.telemetry), 0o644))
	c.cmd = exec.Command(program, "--config", file)
	out, err := c.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.done
		if t.Failed() {
			log := c.log()
			t.Logf("the end of the Collector's log:\n%s", strings.Join(log[max(0, len(log)-40):], "\n"))
		}
	})
	go func() {
		defer close(c.done)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			c.mu.Lock()
			c.lines = append(c.lines, lines.Text())
			c.mu.Unlock()
		}
		_ = c.cmd.Wait() // the state has the outcome
	}()
	require.Eventually(t, func() bool { return c.logged("Everything is ready") || c.over() }, patience, poll)
	require.False(t, c.over(), "the Collector ended: %s", strings.Join(c.log(), "\n"))
	return c
}

func (c *collector) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func (c *collector) log() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.lines...)
}

func (c *collector) logged(text string) bool {
	for _, line := range c.log() {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}

// stop asks the Collector to end, as systemd and the kubelet do.
func (c *collector) stop() {
	c.t.Helper()
	require.NoError(c.t, c.cmd.Process.Signal(syscall.SIGTERM))
	<-c.done
	require.Equal(c.t, 0, c.cmd.ProcessState.ExitCode())
}

var (
	accountLine = regexp.MustCompile(`^otelcol_receiver_ebpf_events(?:_total)?\{(.*)\} (\S+)$`)
	labelPair   = regexp.MustCompile(`([a-z_]+)="([^"]*)"`)
)

// scrape reads the Collector's telemetry.
func (c *collector) scrape() string {
	c.t.Helper()
	response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", c.telemetry))
	require.NoError(c.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(c.t, err)
	return string(body)
}

// accounts are those of one probe, as the Collector's telemetry has them.
func (c *collector) accounts(probe string) map[string]account {
	c.t.Helper()
	all := make(map[string]account)
	for line := range strings.Lines(c.scrape()) {
		m := accountLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		labels := make(map[string]string)
		for _, pair := range labelPair.FindAllStringSubmatch(m[1], -1) {
			labels[pair[1]] = pair[2]
		}
		n, err := strconv.ParseFloat(m[2], 64)
		require.NoError(c.t, err)
		if labels["probe"] != probe || labels["event"] == "" {
			continue
		}
		if all[labels["event"]] == nil {
			all[labels["event"]] = make(account)
		}
		all[labels["event"]][labels["outcome"]] += int64(n)
	}
	return all
}
