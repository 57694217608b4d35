// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// lines are the complete ones of a file, each of which is a payload.
func lines(t *testing.T, path string) [][]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	require.NoError(t, err)
	all := bytes.Split(b, []byte("\n"))
	return all[:len(all)-1]
}

// metrics are the payloads that were written so far.
func (s setup) metrics(t *testing.T) []pmetric.Metrics {
	t.Helper()
	var payloads []pmetric.Metrics
	for _, line := range lines(t, filepath.Join(s.Dir, "metrics.json")) {
		md, err := new(pmetric.JSONUnmarshaler).UnmarshalMetrics(line)
		require.NoError(t, err)
		payloads = append(payloads, md)
	}
	return payloads
}

// point is the newest one of a metric in the setup's cgroup.
func (s setup) point(t *testing.T, metric string) (kernel.Point, bool) {
	t.Helper()
	payloads := s.metrics(t)
	for i := len(payloads) - 1; i >= 0; i-- {
		if p := kernel.With(kernel.Points(payloads[i], metric), "process.linux.cgroup", s.Cgroup); len(p) > 0 {
			require.Len(t, p, 1)
			return p[0], true
		}
	}
	return kernel.Point{}, false
}

// pids are those of the records that were written so far, by the name of the event. It fails for an event of another cgroup.
func (s setup) pids(t *testing.T) map[string][]int64 {
	t.Helper()
	pids := make(map[string][]int64)
	for _, line := range lines(t, filepath.Join(s.Dir, "logs.json")) {
		ld, err := new(plog.JSONUnmarshaler).UnmarshalLogs(line)
		require.NoError(t, err)
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, r := range sl.LogRecords().All() {
					cgroup, _ := r.Attributes().Get("process.linux.cgroup")
					require.Equal(t, s.Cgroup, cgroup.Str(), "%s", r.Body().AsString())
					pid, ok := r.Attributes().Get("process.pid")
					require.True(t, ok)
					pids[r.EventName()] = append(pids[r.EventName()], pid.Int())
				}
			}
		}
	}
	return pids
}

// awaitEvents waits until each of the processes has its two records, and holds that there is no other record.
func (s setup) awaitEvents(t *testing.T, pids []int64) {
	t.Helper()
	var have map[string][]int64
	deadline := time.Now().Add(patience)
	for {
		have = s.pids(t)
		if len(have["ebpf.process.exec"]) >= len(pids) && len(have["ebpf.process.exit"]) >= len(pids) || time.Now().After(deadline) {
			break
		}
		time.Sleep(20 * time.Millisecond) // a file tells nobody that it grew
	}
	s.requireEvents(t, have, pids)
}

func (s setup) requireEvents(t *testing.T, have map[string][]int64, pids []int64) {
	t.Helper()
	require.Len(t, have, 2)
	for _, event := range []string{"ebpf.process.exec", "ebpf.process.exit"} {
		require.Len(t, have[event], len(pids), event)
		require.ElementsMatch(t, pids, have[event], event)
	}
}
