// SPDX-License-Identifier: Apache-2.0

package emit_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/internal/snapshot"
	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/emit"
	"github.com/ebpfreceiver/ebpfreceiver/test/btftypes"
)

var update = flag.Bool("update", false, "write the golden files")

// began is when the programs of all tests began to count, a tick a round time later.
var began = time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)

const tick = 10 * time.Second

var errRead = errors.New("the kernel gave up")

// row is a key and a value, structs of fixed size; overflow rows have no key.
type row struct {
	key, value any
	overflow   bool
}

// read is what one Read of the map delivers: batches, and then an error.
type read struct {
	batches [][]row
	err     error
}

// source is a map whose content is written down.
type source struct {
	kind  snapshot.Kind
	reads []read
}

func (s *source) Read(_ context.Context, fn func(snapshot.Rows) error) error {
	next := s.reads[0]
	s.reads = s.reads[1:]
	for _, batch := range next.batches {
		for len(batch) > 0 {
			// Overflow rows come alone.
			n := 1
			for !batch[0].overflow && n < len(batch) && !batch[n].overflow {
				n++
			}
			rows := encode(batch[:n])
			if err := fn(rows); err != nil {
				return err
			}
			// The buffers are valid during the callback alone.
			poison(rows.Keys)
			poison(rows.Values)
			batch = batch[n:]
		}
	}
	return next.err
}

func poison(b []byte) {
	for i := range b {
		b[i] = 0xa5
	}
}

func encode(list []row) snapshot.Rows {
	r := snapshot.Rows{N: len(list), Overflow: list[0].overflow}
	for _, v := range list {
		if !v.overflow {
			r.Keys = append(r.Keys, raw(v.key)...)
		}
		r.Values = append(r.Values, raw(v.value)...)
	}
	r.KeySize, r.ValueSize = len(r.Keys)/r.N, len(r.Values)/r.N
	return r
}

// raw is a value of fixed size as the kernel has it.
func raw(v any) []byte {
	b, err := binary.Append(nil, binary.NativeEndian, v)
	if err != nil {
		panic(err)
	}
	return b
}

func (s *source) Kind() snapshot.Kind     { return s.kind }
func (*source) Len() int                  { return 0 }
func (*source) Capacity() int             { return 1 << 20 }
func (*source) Stats() snapshot.Stats     { return snapshot.Stats{} }
func (*source) Close() error              { return nil }
func one(rows ...row) read                { return read{batches: [][]row{rows}} }
func in(batches ...[]row) read            { return read{batches: batches} }
func (r read) fails() read                { return read{r.batches, errRead} }
func text(s string) (b [16]byte)          { copy(b[:], s); return b }
func overflowed(value any) row            { return row{value: value, overflow: true} }
func at(n int) time.Time                  { return began.Add(time.Duration(n) * tick) }
func keyed(key any, values ...uint64) row { return row{key: key, value: values} }

// world has cgroups 10 and 11 in container c1, 20 in c2, and all others on the host.
type world struct{}

func (world) Resource(cgroup uint64) emit.Resource {
	switch cgroup {
	case 10, 11:
		return emit.Resource{ContainerID: "c1", Runtime: "docker"}
	case 20:
		return emit.Resource{ContainerID: "c2", Runtime: "cri", PodUID: "p2"}
	}
	return emit.Resource{}
}

func (world) Describe(r emit.Resource, dst pcommon.Resource) {
	dst.Attributes().PutStr("host.name", "h")
	if r.ContainerID != "" {
		dst.Attributes().PutStr("container.id", r.ContainerID)
		dst.Attributes().PutStr("container.runtime.name", r.Runtime)
	}
	if r.PodUID != "" {
		dst.Attributes().PutStr("k8s.pod.uid", r.PodUID)
	}
}

// CgroupPath knows two ids of one path, as a cgroup that was made again has it.
func (world) CgroupPath(id uint64) string {
	switch id {
	case 1, 2:
		return "/again"
	case 3:
		return "/other"
	}
	return ""
}
func (world) Device(uint32) string            { return "sda" }
func (world) Owner(netip.Addr) uint64         { return 0 }
func (world) Interface(uint32, uint32) string { return "eth0" }
func (world) Symbol(uint64) string            { return "schedule" }
func (world) Syscall(int64) string            { return "openat" }

func (world) User(uid uint32) string {
	if uid == 0 {
		return "root"
	}
	return ""
}

func (world) Wall(boot uint64) time.Time { return began.Add(time.Duration(boot & (1<<40 - 1))) }

// setup is a map with one metric.
type setup struct {
	kind       snapshot.Kind
	delta      bool
	ttl        time.Duration
	maxSeries  int
	key, value *btftypes.Struct
	dimensions map[string]probe.Dimension
	metric     probe.Metric
}

const metricName = "ebpf.test.things"

// build makes the table; the source's reads are to be filled in.
func (s setup) build(t testing.TB) (*emit.Metrics, *emit.Table, *source) {
	t.Helper()
	m, table, from, err := s.make()
	require.NoError(t, err)
	return m, table, from
}

func (s setup) make() (*emit.Metrics, *emit.Table, *source, error) {
	from := &source{kind: s.kind}
	selected := make([]string, 0, len(s.dimensions))
	for d := range s.dimensions {
		selected = append(selected, d)
	}
	slices.Sort(selected)
	s.metric.Description, s.metric.Unit, s.metric.Map = "Things.", "{thing}", "things"
	p := &probe.Probe{
		Spec: &probe.Spec{
			Name: "test", Dimensions: s.dimensions, Metrics: map[string]probe.Metric{metricName: s.metric},
		},
		Settings: probe.Settings{
			MaxSeries: cmp.Or(s.maxSeries, 1000),
			Metrics:   map[string]probe.MetricSettings{metricName: {Attributes: selected}},
		},
		Started: began,
	}
	table := &probe.Table{
		Map: "things", Table: from, Key: s.key, Value: s.value, KeySize: btftypes.Sizeof(s.key), Metrics: []string{metricName},
	}
	p.Tables = []*probe.Table{table}
	ttl := cmp.Or(s.ttl, time.Hour)
	m := emit.NewMetrics(emit.Options{
		Identity: world{}, Names: world{}, Delta: s.delta, TTL: ttl, ScopeName: "scope", Version: "1.2.3",
	}, began)
	built, err := emit.NewTable(m, table, p, ttl)
	return m, built, from, err
}

// golden compares payloads with a file. Nothing promises an order of data points, attributes or resources: they are sorted.
func golden(t *testing.T, name string, payloads []json.RawMessage) {
	t.Helper()
	list := make([]any, len(payloads))
	for i, p := range payloads {
		require.NoError(t, json.Unmarshal(p, &list[i]))
		list[i] = ordered("", list[i])
	}
	got, err := json.MarshalIndent(list, "", " ")
	require.NoError(t, err)
	got = append(got, '\n')
	file := filepath.Join("testdata", name+".json")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, got, 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(want), string(got))
}

func ordered(name string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = ordered(k, v[k])
		}
	case []any:
		for i := range v {
			v[i] = ordered("", v[i])
		}
		switch name {
		case "resourceMetrics", "resourceLogs", "scopeMetrics", "metrics", "dataPoints", "attributes":
			slices.SortFunc(v, func(a, b any) int { return bytes.Compare(compact(a), compact(b)) })
		}
	}
	return v
}

func compact(v any) []byte {
	b, err := json.Marshal(v) // sorts keys
	if err != nil {
		panic(err)
	}
	return b
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }
