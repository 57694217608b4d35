// SPDX-License-Identifier: Apache-2.0

//go:build linux

package emit

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/ebpfreceiver/ebpfreceiver/internal/host"
	"github.com/ebpfreceiver/ebpfreceiver/test/bench/rows"
	"github.com/ebpfreceiver/ebpfreceiver/test/bench/storm"
	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// These benchmarks measure a whole way from the kernel to finished pdata beside the two floors that it can not fall
// below: the same bytes read from the kernel and not looked at, and the same pdata built from constants. All three
// are measured in turn in each iteration, each after a garbage collection, and medians are reported. What is measured
// is CPU time, of all threads: the collector's share is in it, and that of other processes is not.

// race collects the times of the three.
type race struct{ read, build, full []time.Duration }

func timed(fn func()) time.Duration {
	runtime.GC()
	start := cpuTime()
	fn()
	return cpuTime() - start
}

func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// report gives medians per row, and the median of the ratios.
func (r *race) report(b *testing.B, n int) {
	b.Helper()
	median := func(name string, list []time.Duration) {
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2].Nanoseconds())/float64(n), name)
	}
	ratios := make([]float64, len(r.full))
	for i := range ratios {
		ratios[i] = float64(r.full[i]) / float64(r.read[i]+r.build[i])
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
	median("read-ns", r.read)
	median("build-ns", r.build)
	median("full-ns", r.full)
	b.ReportMetric(0, "ns/op") // the iteration also fills the map
}

// BenchmarkKernelSnapshot takes a swapped map of flows to a payload.
func BenchmarkKernelSnapshot(b *testing.B) {
	for _, c := range []struct {
		n                int
		addresses, delta bool
	}{
		{100_000, false, true},
		{100_000, false, false},
		{100_000, true, true},
		{100_000, true, false},
		{1_000_000, true, true},
		{1_000_000, true, false},
	} {
		temporality, shape := "cumulative", "numbers"
		if c.delta {
			temporality = "delta"
		}
		if c.addresses {
			shape = "addresses"
		}
		b.Run(fmt.Sprintf("%s/%s/%d", temporality, shape, c.n), func(b *testing.B) {
			needs.Root(b)
			source, err := rows.New(c.n, c.addresses)
			require.NoError(b, err)
			defer source.Close()
			m := NewMetrics(Options{Identity: hostOnly{}, Delta: c.delta, TTL: time.Hour, ScopeName: "bench"}, time.Now())
			table, err := NewTable(m, source.Table, source.Probe, time.Hour)
			require.NoError(b, err)

			var payload pmetric.Metrics
			full := func() {
				m.Begin(time.Now())
				n, err := table.Read(b.Context())
				require.NoError(b, err)
				payload = m.End()
				require.Equal(b, c.n, n)
			}
			// The first one makes the series.
			require.NoError(b, source.Fill())
			full()
			require.Equal(b, c.n, payload.DataPointCount())

			var r race
			for range b.N {
				payload = pmetric.Metrics{}
				require.NoError(b, source.Fill())
				r.read = append(r.read, timed(func() {
					n, err := source.Drain()
					require.NoError(b, err)
					require.Equal(b, c.n, n)
				}))
				r.build = append(r.build, timed(func() { payload = bareMetrics(c.n, c.addresses) }))
				payload = pmetric.Metrics{}
				require.NoError(b, source.Fill())
				r.full = append(r.full, timed(full))
			}
			requireRows(b, payload, c.n, c.delta)
			r.report(b, c.n)
		})
	}
}

// requireRows holds the last payload to what was written: row i has the value i+1, once each time.
func requireRows(b *testing.B, md pmetric.Metrics, n int, delta bool) {
	b.Helper()
	times := int64(1)
	if !delta {
		times += int64(b.N)
	}
	require.Equal(b, n, md.DataPointCount())
	sum, attributes := int64(0), 0
	sources := make(map[string]bool, n)
	for _, p := range md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Sum().DataPoints().All() {
		sum += p.IntValue()
		attributes += p.Attributes().Len()
		source, _ := p.Attributes().Get("source.address")
		sources[source.AsString()] = true
	}
	require.Equal(b, times*int64(n)*int64(n+1)/2, sum)
	require.Equal(b, n*len(rows.Attributes), attributes)
	require.Len(b, sources, n)
}

// bareMetrics is a payload as the table makes it, of constants.
func bareMetrics(n int, addresses bool) pmetric.Metrics {
	md := pmetric.NewMetrics()
	sm := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	sm.Scope().SetName("bench")
	m := sm.Metrics().AppendEmpty()
	m.SetName(rows.Metric)
	s := m.SetEmptySum()
	s.SetIsMonotonic(true)
	points := s.DataPoints()
	points.EnsureCapacity(n)
	for i := range n {
		p := points.AppendEmpty()
		p.SetStartTimestamp(1)
		p.SetTimestamp(2)
		p.SetIntValue(int64(i))
		attrs := p.Attributes()
		attrs.EnsureCapacity(len(rows.Attributes))
		if addresses {
			attrs.PutStr("destination.address", "10.0.0.1")
		} else {
			attrs.PutInt("destination.address", 0x0a000001)
		}
		attrs.PutInt("destination.port", 443)
		attrs.PutInt("network.vlan.id", 7)
		if addresses {
			attrs.PutStr("source.address", "10.20.30.40")
		} else {
			attrs.PutInt("source.address", 0x0a141e28)
		}
		attrs.PutInt("source.port", 12345)
	}
	return md
}

// hostOnly is an identity without containers.
type hostOnly struct{}

func (hostOnly) Resource(uint64) Resource            { return Resource{} }
func (hostOnly) Describe(Resource, pcommon.Resource) {}

// BenchmarkKernelEvents takes records of the ring to payloads of 5,000, which is what comes in 50 ms at 100,000 a second.
// Each iteration makes four of them, and a heap like that of a Collector lies beside them: so the garbage collector runs
// as often as it would there.
func BenchmarkKernelEvents(b *testing.B) {
	needs.Root(b)
	const n, size, burst = 20_000, 5000, 100
	heap := make([]byte, 16<<20)
	defer runtime.KeepAlive(heap)
	p, err := storm.Load(os.Getpid(), burst, 8<<20)
	require.NoError(b, err)
	defer p.Close()
	names, err := newNames()
	require.NoError(b, err)
	defer names.Close()
	logs, err := NewLogs(LogsOptions{Identity: names, Names: names, ScopeName: "bench"}, p)
	require.NoError(b, err)

	fill := func() {
		for range n / burst {
			require.NoError(b, storm.Trigger())
		}
	}
	drain := func(fn func([]byte)) {
		got, err := p.Ring.Drain(func(record []byte) bool { fn(record); return true })
		require.NoError(b, err)
		require.Equal(b, n, got)
	}
	bytes := 0
	var payload plog.Logs
	full := func() {
		var failed error
		drain(func(record []byte) {
			if err := logs.Add(record); err != nil {
				failed = err
			}
			if logs.Len() == size {
				payload, _ = logs.Take()
			}
		})
		require.NoError(b, failed)
	}
	fill()
	full()
	require.Equal(b, size, payload.LogRecordCount())
	sample := payload.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)

	var r race
	for range b.N {
		payload = plog.Logs{}
		fill()
		r.read = append(r.read, timed(func() { drain(func(record []byte) { bytes += len(record) }) }))
		r.build = append(r.build, timed(func() {
			for range n / size {
				payload = bareLogs(size, sample)
			}
		}))
		payload = plog.Logs{}
		fill()
		r.full = append(r.full, timed(full))
	}
	require.Equal(b, size, payload.LogRecordCount())
	r.report(b, n)
	b.ReportMetric(float64(bytes)/float64(n*b.N), "bytes/record")
	b.ReportMetric(float64(sample.Attributes().Len()), "attributes/record")
}

// attribute is one of a record's, ready to be written.
type attribute struct {
	key     string
	text    string
	list    []string
	number  int64
	boolean bool
	kind    pcommon.ValueType
}

// bareLogs is a payload of n records that say what sample says, of constants.
func bareLogs(n int, sample plog.LogRecord) plog.Logs {
	constants := make([]attribute, 0, sample.Attributes().Len())
	for key, v := range sample.Attributes().All() {
		a := attribute{key: key, kind: v.Type()}
		switch a.kind {
		case pcommon.ValueTypeStr:
			a.text = v.Str()
		case pcommon.ValueTypeInt:
			a.number = v.Int()
		case pcommon.ValueTypeBool:
			a.boolean = v.Bool()
		case pcommon.ValueTypeSlice:
			for _, item := range v.Slice().All() {
				a.list = append(a.list, item.Str())
			}
		}
		constants = append(constants, a)
	}
	ld := plog.NewLogs()
	sl := ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
	sl.Scope().SetName("bench")
	records := sl.LogRecords()
	for range n {
		r := records.AppendEmpty()
		r.SetEventName(storm.Event)
		r.SetTimestamp(1)
		r.SetObservedTimestamp(2)
		r.SetSeverityNumber(plog.SeverityNumberInfo)
		r.SetSeverityText("INFO")
		r.Body().SetStr("exec /usr/bin/python3.11 pid=4711")
		attrs := r.Attributes()
		attrs.EnsureCapacity(len(constants))
		for i := range constants {
			a := &constants[i]
			switch a.kind {
			case pcommon.ValueTypeStr:
				attrs.PutStr(a.key, a.text)
			case pcommon.ValueTypeInt:
				attrs.PutInt(a.key, a.number)
			case pcommon.ValueTypeBool:
				attrs.PutBool(a.key, a.boolean)
			case pcommon.ValueTypeSlice:
				list := attrs.PutEmptySlice(a.key)
				list.EnsureCapacity(len(a.list))
				for _, item := range a.list {
					list.AppendEmpty().SetStr(item)
				}
			}
		}
	}
	return ld
}

// names are the host's own, as the receiver has them.
type names struct {
	*host.Cgroups
	users *host.Users
	clock *host.Clock
}

func newNames() (*names, error) {
	hierarchy, err := host.FindHierarchy("", "v2")
	if err != nil {
		return nil, err
	}
	cgroups, err := host.NewCgroups(host.CgroupOptions{Hierarchy: hierarchy})
	if err != nil {
		return nil, err
	}
	clock, err := host.NewClock(nil)
	if err != nil {
		return nil, err
	}
	return &names{Cgroups: cgroups, users: host.NewUsers("", time.Now), clock: clock}, nil
}

func (n *names) Resource(cgroup uint64) Resource {
	c := n.Resolve(cgroup)
	return Resource{ContainerID: c.ContainerID, Runtime: c.Runtime, PodUID: c.PodUID}
}

func (*names) Describe(Resource, pcommon.Resource) {}

func (n *names) CgroupPath(id uint64) string { return n.Resolve(id).Path }

func (*names) Device(uint32) string { return "" }

func (*names) Owner(netip.Addr) uint64         { return 0 }
func (*names) Interface(uint32, uint32) string { return "" }

func (*names) Symbol(uint64) string { return "" }

func (*names) Syscall(int64) string { return "" }

func (n *names) User(uid uint32) string {
	name, _ := n.users.Resolve(uid)
	return name
}

func (n *names) Wall(boot uint64) time.Time { return n.clock.Wall(boot) }
