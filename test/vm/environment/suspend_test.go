// SPDX-License-Identifier: Apache-2.0

//go:build linux

package environment_test

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// instant is a moment by the kernel's clocks. Awake is the time for which the machine has not slept.
type instant struct {
	awake, boot time.Duration
	date        time.Time
}

func now(t *testing.T) instant {
	t.Helper()
	read := func(id int32) time.Duration {
		var ts unix.Timespec
		require.NoError(t, unix.ClockGettime(id, &ts))
		return time.Duration(ts.Nano())
	}
	return instant{read(unix.CLOCK_MONOTONIC), read(unix.CLOCK_BOOTTIME), time.Unix(0, int64(read(unix.CLOCK_REALTIME)))}
}

// span is what begins and ends between two readings of the clocks each.
type span struct{ begin, began, end, ended instant }

// requireAwake holds a duration in seconds against the time for which the machine was awake, which another clock may have begun to count again by some time
// earlier or later.
func (s span) requireAwake(t *testing.T, seconds, unlike float64, what string) {
	t.Helper()
	assert.GreaterOrEqual(t, seconds, (s.end.awake-s.began.awake).Seconds()-unlike, what)
	assert.LessOrEqual(t, seconds, (s.ended.awake-s.begin.awake).Seconds()+unlike, what)
}

// within tells whether a date is between two instants, to the second.
func within(date time.Time, from, to instant) bool {
	return date.After(from.date.Add(-time.Second)) && date.Before(to.date.Add(time.Second))
}

func requireDate(t *testing.T, date time.Time, from, to instant, what string) {
	t.Helper()
	assert.True(t, within(date, from, to), "%s: %s is not from %s to %s", what, date, from.date, to.date)
}

// numbers are those in a file.
func numbers(t *testing.T, file string) (list []float64) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, field := range strings.Fields(string(text)) {
		if n, err := strconv.ParseFloat(field, 64); err == nil {
			list = append(list, n)
		}
	}
	return list
}

const (
	// leastSleep is what the machine has to sleep, of the time until the alarm.
	leastSleep = 4 * time.Second
	// unlike is what the scheduler's clock may be beside the others afterwards, in seconds: it is halted later, and goes on earlier.
	unlike = 2
)

// suspend has the machine sleep (S3), and tells how long it did, by what the kernel says.
func suspend(t *testing.T) time.Duration {
	t.Helper()
	const successes = "/sys/power/suspend_stats/success"
	state, err := os.ReadFile("/sys/power/mem_sleep")
	require.NoError(t, err)
	require.Contains(t, string(state), "[deep]")
	before, times := now(t), numbers(t, successes)
	// A machine that is still awake by then does not wake any more: a slow one needs some seconds until it sleeps.
	require.NoError(t, os.WriteFile("/sys/class/rtc/rtc0/wakealarm", []byte("+20"), 0))
	require.NoError(t, os.WriteFile("/sys/power/state", []byte("mem"), 0))
	after := now(t)
	require.Equal(t, []float64{times[0] + 1}, numbers(t, successes))
	slept := (after.boot - before.boot) - (after.awake - before.awake)
	require.Greater(t, slept, leastSleep)
	return slept
}

// tick waits for a collection that begins after now, and returns the CPU time that it found, and its date.
func (r *run) tick() (cpu float64, date time.Time) {
	r.t.Helper()
	asked := now(r.t).date
	var points []kernel.Point
	require.Eventually(r.t, func() bool {
		points = r.Last("container.cpu.time")
		return len(points) > 0 && points[0].End.AsTime().After(asked)
	}, time.Minute, 10*time.Millisecond, "the tick after %s", asked)
	return total(points), points[0].End.AsTime()
}

// total is a metric's, of all series: the sum of its values, or of the values in its histograms.
func total(points []kernel.Point) (sum float64) {
	for _, p := range points {
		sum += p.Value + p.Sum
	}
	return sum
}

// seconds are an attribute's of a record.
func seconds(t *testing.T, record plog.LogRecord, attribute string) float64 {
	t.Helper()
	value, ok := record.Attributes().AsRaw()[attribute].(float64)
	require.True(t, ok, attribute)
	return value
}

// mostCollections is how many there may be, one a second, until records have the dates of a clock that was set: as many as come in the ten seconds that
// docs/reliability.md promises, and half as many for a machine that is short of CPUs. Time is not what counts, since what comes late there, collections do, too.
const mostCollections = 15

// requireStep sets the wall clock, as a client of NTP does it, and waits until a record has its date.
func (r *run) requireStep() {
	t := r.t
	t.Helper()
	ahead := unix.NsecToTimespec(now(t).date.Add(time.Hour).UnixNano())
	require.NoError(t, unix.ClockSettime(unix.CLOCK_REALTIME, &ahead))
	for before := len(r.Metrics.AllMetrics()); ; {
		collections := len(r.Metrics.AllMetrics()) - before
		from, pid := now(t), trues(t, 1)[0]
		to := now(t)
		require.Eventually(t, func() bool { return len(r.events(execEvent)[pid]) == 1 }, time.Minute, 10*time.Millisecond)
		if within(r.events(execEvent)[pid][0].Timestamp().AsTime(), from, to) {
			return
		}
		require.Less(t, collections, mostCollections, "no record has a date of the clock that was set")
	}
}

// kept is the port of a connection that is there before the machine sleeps and afterwards.
const kept = 7779

// connect makes a connection on the loopback.
func connect(t *testing.T, port int) (client, server net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp4", fmt.Sprint("127.0.0.1:", port))
	require.NoError(t, err)
	defer listener.Close()
	client, err = net.Dial("tcp4", listener.Addr().String())
	require.NoError(t, err)
	server, err = listener.Accept()
	require.NoError(t, err)
	return client, server
}

const (
	execEvent = "ebpf.process.exec"
	exitEvent = "ebpf.process.exit"
)

// A machine sleeps, and there are a process, a connection and a container before it that are there afterwards. Times that the scheduler and TCP take are of the
// time in which the machine was awake, and the time that a process lived has its sleep in it. Dates are right, and all is counted.
func TestKernelSuspend(t *testing.T) {
	need(t, "suspend")
	_, v2 := hierarchies(t)
	n, c := networkOf(t), newContainer(t, v2)
	probes := n.probes()
	if n.connections { // the last of them is tcp
		probes += "{ events: { ebpf.tcp.connection: { enabled: true } } }"
	}
	r := start(t, `
collection_interval: 1s
probes: {
  cpu: { metrics: {
    container.cpu.time: { attributes: [container, process.linux.cgroup] },
    process.cpu.time: { enabled: true },
    ebpf.cpu.run_queue.latency: { attributes: [process] },
    ebpf.cpu.off_cpu.time: { enabled: true, attributes: [process] },
  } },
  process: { metrics: { system.process.created: { attributes: [container, cgroup] } } },
  flow: { interfaces: [lo] },
  `+probes+"}")
	require.Empty(t, r.complaints())
	used := func() float64 { return numbers(t, v2[0]+c.path+"/cpu.stat")[0] / 1e6 }
	usedBefore := used()
	packets, bytes := loopback(t)
	var life, connection span
	life.begin = now(t)
	lived := command("/bin/cat")
	input, err := lived.StdinPipe()
	require.NoError(t, err)
	output, err := lived.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, lived.Start())
	life.began = now(t)
	pid := int64(lived.Process.Pid)
	connection.begin = now(t)
	client, server := connect(t, kept)
	connection.began = now(t)
	pids := [][]int64{trues(t, 20), nil}
	c.run(t, 20, "/bin/true")
	dropped := talk(t)
	evening := now(t)
	cpuBefore, begin := r.tick()

	slept := suspend(t)
	morning := now(t)

	// No CPU can have been used for longer than the machine was awake between the two collections.
	cpuAfter, end := r.tick()
	requireDate(t, end, morning, now(t), "tick")
	awake := end.Sub(begin) - slept
	t.Logf("slept for %s of %s", slept, end.Sub(begin))
	assert.Greater(t, cpuAfter, cpuBefore)
	assert.LessOrEqual(t, cpuAfter-cpuBefore, float64(runtime.NumCPU())*awake.Seconds(), "CPU time in %s", awake)

	// The process that was blocked all the time is woken, and blocked again.
	scheduled := span{begin: life.begin, began: life.began, end: now(t)}
	_, err = input.Write([]byte("."))
	require.NoError(t, err)
	_, err = output.Read(make([]byte, 1))
	require.NoError(t, err)
	scheduled.ended = now(t)
	pids[1] = trues(t, 20)
	c.run(t, 20, "/bin/true")
	dropped += talk(t)
	noon := now(t)
	for range 3 {
		r.tick()
	}
	// Of the same collection or of ones between which it was blocked.
	of := func(metric string) float64 { return total(kernel.With(r.Last(metric), "process.pid", pid)) }
	schedstat := numbers(t, fmt.Sprintf("/proc/%d/schedstat", pid))
	assert.InDelta(t, schedstat[0]/1e9, of("process.cpu.time"), 1e-6)
	assert.InDelta(t, schedstat[1]/1e9, of("ebpf.cpu.run_queue.latency"), 1e-6)
	assert.Less(t, of("ebpf.cpu.run_queue.latency"), slept.Seconds())
	scheduled.requireAwake(t, of("process.cpu.time")+of("ebpf.cpu.off_cpu.time"), unlike, "on and off the CPU")

	life.end = now(t)
	require.NoError(t, input.Close())
	require.NoError(t, lived.Wait())
	life.ended = now(t)
	connection.end = now(t)
	require.NoError(t, client.Close())
	require.NoError(t, server.Close())
	connection.ended = now(t)
	c.end(t)
	usedAfter := used()
	morePackets, moreBytes := loopback(t)
	r.requireStep()
	r.stop()

	r.requireWhole(append(pids[0], pids[1]...))
	for i, from := range []instant{life.begin, morning} {
		for _, pid := range pids[i] {
			for _, event := range []string{execEvent, exitEvent} {
				requireDate(t, r.events(event)[pid][0].Timestamp().AsTime(), from, []instant{evening, noon}[i], event)
			}
		}
	}
	r.requireContainer(c, 40, usedAfter-usedBefore)
	r.requireTalk(n, 2, dropped)
	r.requireFlows(2, morePackets-packets, moreBytes-bytes)

	require.Len(t, r.events(exitEvent)[pid], 1)
	ended := r.events(exitEvent)[pid][0]
	lifetime := seconds(t, ended, "ebpf.process.lifetime")
	assert.GreaterOrEqual(t, lifetime, (life.end.boot - life.began.boot).Seconds())
	assert.LessOrEqual(t, lifetime, (life.ended.boot - life.begin.boot).Seconds())
	assert.GreaterOrEqual(t, total(r.Last("ebpf.process.lifetime")), lifetime)
	usage := lived.ProcessState.UserTime() + lived.ProcessState.SystemTime()
	assert.InDelta(t, usage.Seconds(), seconds(t, ended, "ebpf.process.cpu.time"), 0.1)

	if n.connections {
		assert.Less(t, total(r.Last("ebpf.tcp.connect.latency")), slept.Seconds())
		ends, before, after := 0, 0, 0
		for _, record := range r.records("ebpf.tcp.connection") {
			attributes := record.Attributes().AsRaw()
			date, err := time.Parse(time.RFC3339Nano, fmt.Sprint(attributes["ebpf.tcp.connection.start"]))
			require.NoError(t, err)
			if attributes["network.local.port"] != int64(kept) && attributes["network.peer.port"] != int64(kept) {
				if within(date, life.begin, evening) {
					before++
				} else if within(date, morning, noon) {
					after++
				}
				continue
			}
			ends++
			requireDate(t, date, connection.begin, connection.began, "connection's start")
			connection.requireAwake(t, seconds(t, record, "ebpf.tcp.connection.duration"), 0, "connection")
			requireDate(t, record.Timestamp().AsTime(), connection.end, connection.ended, "connection's end")
		}
		assert.Equal(t, []int{2, 2, 2}, []int{ends, before, after}, "ends of connections that slept, and of those before and after")
	}
	t.Attr(outcome.Holds, outcome.Works)
}
