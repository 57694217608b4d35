// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// only is a configuration of one event of the process probe.
func only(event, settings string) string {
	config := "probes:\n  process:\n    metrics: { system.process.created: { enabled: false }, ebpf.process.lifetime: { enabled: false } }\n    events:\n"
	for _, name := range []string{"ebpf.process.exec", "ebpf.process.exit"} {
		if name != event {
			config += "      " + name + ": { enabled: false }\n"
		}
	}
	return config + "      " + event + ": " + settings + "\n"
}

// lost adds up what records of lost events tell of one event.
func lost(t *testing.T, all []plog.LogRecord, event string) (dropped, limited int64) {
	t.Helper()
	for _, record := range all {
		if record.EventName() != "ebpf.events.lost" {
			continue
		}
		attributes := record.Attributes().AsRaw()
		require.Equal(t, "process", attributes["ebpf.probe.name"])
		if attributes["ebpf.event.name"] == event {
			dropped += attributes["ebpf.events.dropped"].(int64)
			limited += attributes["ebpf.events.limited"].(int64)
		}
	}
	return dropped, limited
}

func TestKernelAccountOfARateLimit(t *testing.T) {
	kernel.NeedRoot(t)
	c := kernel.NewCgroup(t)
	r := newRig(t, "collection_interval: 100ms\n"+only("ebpf.process.exec", fmt.Sprintf("{ rate_limit: 0.1, filter: { cgroups: [%s] } }", c.Path)))
	sink := new(consumertest.LogsSink)
	r.logs = sink
	r.start()
	// Losses are told more than once, each of them in one report.
	for from := 0; from < 60; from += 20 {
		before := len(records(sink.AllLogs()...)) - len(execs(records(sink.AllLogs()...)))
		run(t, c, from, from+20)
		require.Eventually(t, func() bool {
			all := records(sink.AllLogs()...)
			return len(all)-len(execs(all)) > before
		}, eventually, poll)
	}
	a := r.settled()["ebpf.process.exec"]
	assert.EqualValues(t, 60, a["submitted"]+a["limited"])
	assert.Positive(t, a["limited"])
	assert.Equal(t, a["submitted"], a["delivered"])
	assert.Zero(t, a["dropped"])
	r.stop()
	all := records(sink.AllLogs()...)
	assert.Len(t, execs(all), int(a["delivered"]))
	dropped, limited := lost(t, all, "ebpf.process.exec")
	assert.Equal(t, a["limited"], limited)
	assert.Zero(t, dropped)
}

func TestKernelAccountOfFilters(t *testing.T) {
	kernel.NeedRoot(t)
	c := kernel.NewCgroup(t)

	// A process whose id is known before it executes.
	waiting := c.Command("sh", "-c", "read line; exec true")
	stdin, err := waiting.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, waiting.Start())
	uid := 1_000_000 + rand.Uint32N(1_000_000)
	name := fmt.Sprintf("test%x", rand.Uint32())
	program := filepath.Join(t.TempDir(), name)
	binary, err := os.ReadFile("/bin/true")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(program, binary, 0o755))

	for _, test := range []struct {
		filter string
		run    func() error
	}{
		{fmt.Sprintf("pids: [%d]", waiting.Process.Pid), func() error { stdin.Close(); return waiting.Wait() }},
		{fmt.Sprintf("uids: [%d]", uid), func() error {
			cmd := c.Command("/bin/true")
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
			return cmd.Run()
		}},
		{"commands: [" + name + "]", c.Command(program).Run},
		{"cgroups: [" + c.Path + "]", c.Command("true").Run},
		{fmt.Sprintf("cgroups: [%s], commands: [%s]", c.Path, name), c.Command(program).Run},
	} {
		t.Run(test.filter[:4], func(t *testing.T) {
			r := newRig(t, only("ebpf.process.exec", "{ filter: { "+test.filter+" } }"))
			sink := new(consumertest.LogsSink)
			r.logs = sink
			r.start()
			run(t, kernel.NewCgroup(t), 0, 10) // that do not pass
			require.NoError(t, test.run())
			a := r.settled()["ebpf.process.exec"]
			assert.EqualValues(t, 1, a["submitted"])
			assert.EqualValues(t, 1, a["delivered"])
			assert.GreaterOrEqual(t, a["filtered"], int64(10))
			r.stop()
			assert.Len(t, execs(records(sink.AllLogs()...)), 1)
			dropped, limited := lost(t, records(sink.AllLogs()...), "ebpf.process.exec")
			assert.Zero(t, dropped+limited, "what a filter takes is not lost")
		})
	}
}

// The smallest ring there is, a storm, and a consumer that blocks meanwhile.
func TestKernelAccountOfAFullRing(t *testing.T) {
	kernel.NeedRoot(t)
	c := kernel.NewCgroup(t)
	r := newRig(t, fmt.Sprintf("probes: { process: { ring_size: %d, events: { ebpf.process.exec: { filter: { cgroups: [%s] } }, ebpf.process.exit: { filter: { cgroups: [%s] } } } } }",
		os.Getpagesize(), c.Path, c.Path))
	b := newBlocked(false)
	sink := &after{blocked: b}
	r.logs, r.metrics = sink, nil
	r.start()
	run(t, c, 0, 1)
	<-b.entered
	const storm = 200
	run(t, c, 1, storm)
	close(b.release)
	account := r.settled()
	var dropped, delivered int64
	for _, event := range []string{"ebpf.process.exec", "ebpf.process.exit"} {
		a := account[event]
		assert.EqualValues(t, storm, a["submitted"]+a["dropped"], event)
		assert.Zero(t, a["limited"]+a["refused"], event)
		dropped += a["dropped"]
		delivered += a["delivered"]
	}
	assert.Positive(t, dropped)
	r.stop()
	all := records(sink.AllLogs()...)
	for event, a := range account {
		n, limited := lost(t, all, event)
		assert.Equal(t, a["dropped"], n, event)
		assert.Zero(t, limited, event)
	}
	told := 0
	for _, record := range all {
		if record.EventName() == "ebpf.events.lost" {
			told++
		}
	}
	assert.EqualValues(t, delivered, len(all)-told)
}

// slow takes its time for each payload.
type slow struct{ consumertest.LogsSink }

func (s *slow) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	time.Sleep(time.Second)
	return s.LogsSink.ConsumeLogs(ctx, logs)
}

// What is lost is told of while it goes on: there is always another record when a payload was taken.
func TestKernelLossesAreToldMeanwhile(t *testing.T) {
	kernel.NeedRoot(t)
	c := kernel.NewCgroup(t)
	r := newRig(t, fmt.Sprintf("collection_interval: 200ms\nprobes: { process: { ring_size: %d, events: { ebpf.process.exec: { filter: { cgroups: [%s] } }, ebpf.process.exit: { enabled: false } } } }",
		os.Getpagesize(), c.Path))
	sink := new(slow)
	r.logs, r.metrics = sink, nil
	r.start()
	told := func() bool {
		dropped, _ := lost(t, records(sink.AllLogs()...), "ebpf.process.exec")
		return dropped > 0
	}
	for until := time.Now().Add(eventually); !told(); {
		require.True(t, time.Now().Before(until), "nobody was told")
		run(t, c, 0, 10)
	}
}

// undecodable is a spec that takes records for longer ones than they are.
const undecodable = `
name: short
summary: Records that are shorter than their type
description: For tests.
object: process.bpf.o
programs:
  fork: [process_fork]
events:
  ebpf.test.fork:
    description: A fork.
    ring: events
    id: EVENT_FORK
    type: exec_event
    severity: info
    enabled: true
    attributes: { process.pid: process.pid }
`

func TestKernelAccountOfUndecodableRecords(t *testing.T) {
	kernel.NeedRoot(t)
	dir := t.TempDir()
	object, err := bpf.Probes.ReadFile("process/process.bpf.o")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "process.bpf.o"), object, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "probe.yaml"), []byte(undecodable), 0o600))
	c := kernel.NewCgroup(t)
	r := newRig(t, fmt.Sprintf("probes: { short: { path: %s, events: { ebpf.test.fork: { filter: { cgroups: [%s] } } } } }", dir, c.Path))
	sink := new(consumertest.LogsSink)
	r.logs = sink
	r.start()
	require.NoError(t, c.Command("sh", "-c", "for i in 1 2 3 4 5; do /bin/true; done; :").Run())
	account := r.settled()
	assert.EqualValues(t, 6, account["ebpf.test.fork"]["submitted"], "the shell and its children")
	assert.Equal(t, account["ebpf.test.fork"]["submitted"], account[""]["undecodable"])
	assert.Zero(t, account["ebpf.test.fork"]["delivered"])
	r.stop()
	assert.Zero(t, sink.LogRecordCount())
	assert.Len(t, r.errorsLogged(), 1, "told once")
}

// after keeps data that comes once it is released.
type after struct {
	*blocked
	consumertest.LogsSink
}

func (a *after) Capabilities() consumer.Capabilities { return a.LogsSink.Capabilities() }

func (a *after) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	if err := a.consume(ctx); err != nil {
		return err
	}
	return a.LogsSink.ConsumeLogs(ctx, logs)
}
