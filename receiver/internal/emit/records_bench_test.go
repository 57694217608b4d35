// SPDX-License-Identifier: Apache-2.0

//go:build linux

package emit

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/test/btftypes"
)

// processProbe is the process probe as it would be loaded, with all its events.
func processProbe(b *testing.B) *probe.Probe {
	b.Helper()
	specs, err := probe.Builtin(bpf.Probes)
	require.NoError(b, err)
	p := &probe.Probe{Spec: specs["process"], Settings: probe.Settings{Events: make(map[string]probe.EventSettings)}}
	for name := range p.Spec.Events {
		p.Settings.Events[name] = probe.EventSettings{}
	}
	p.EventIDs, p.EventTypes, err = btftypes.EventsOf(p.Spec)
	require.NoError(b, err)
	return p
}

// record is one of a ring buffer, as a program writes it.
type record struct {
	b     *testing.B
	types layout.Type
	bytes []byte
}

// newRecord has the header of an event and zeros.
func newRecord(b *testing.B, p *probe.Probe, event string, at time.Duration) *record {
	b.Helper()
	t := p.EventTypes[event]
	r := &record{b: b, types: t, bytes: make([]byte, t.Size)}
	r.number("header.time", uint64(at))
	r.number("header.id", uint64(p.EventIDs[event]))
	r.number("header.size", uint64(t.Size))
	return r
}

func (r *record) field(path string) []byte {
	r.b.Helper()
	f, err := layout.FieldOf(r.types, path)
	require.NoError(r.b, err)
	return r.bytes[f.Offset : f.Offset+f.Size]
}

func (r *record) number(path string, v uint64) {
	r.b.Helper()
	copy(r.field(path), binary.NativeEndian.AppendUint64(nil, v)) // little-endian, as all machines that this is tested on
}

func (r *record) text(path, v string) {
	r.b.Helper()
	copy(r.field(path), v)
}

// blob appends bytes and points the field at them.
func (r *record) blob(path, v string) {
	r.b.Helper()
	f := r.field(path)
	binary.NativeEndian.PutUint16(f, uint16(len(r.bytes)))
	binary.NativeEndian.PutUint16(f[2:], uint16(len(v)))
	r.bytes = append(r.bytes, v...)
}

// execRecord is one of about the size that an exec of a compiler has.
func execRecord(b *testing.B, p *probe.Probe, pid uint64) *record {
	b.Helper()
	r := newRecord(b, p, "ebpf.process.exec", 5*time.Second)
	r.number("process.start", 4_000_000_000)
	r.number("process.cgroup", 77)
	r.number("process.pid", pid)
	r.number("process.vpid", 12)
	r.number("process.parent_pid", 1)
	r.number("process.uid", 1000)
	r.text("process.comm", "python3.11")
	r.number("gid", 1000)
	r.number("args_count", 4)
	r.number("args_size", 59)
	r.blob("path", "python3.11\x00bin\x00usr\x00")
	copy(r.field("name"), r.field("path")) // the leaf
	binary.NativeEndian.PutUint16(r.field("name")[2:], uint16(len("python3.11")))
	r.blob("directory", "project\x00alice\x00home\x00")
	r.blob("args", "/usr/bin/python3\x00-m\x00http.server\x00--bind=127.0.0.1 --port=8080\x00")
	return r
}

// namedHost names some numbers.
type namedHost struct{ hostOnly }

func (namedHost) CgroupPath(id uint64) string     { return "/system.slice/" + strconv.FormatUint(id, 10) }
func (namedHost) Device(uint32) string            { return "" }
func (namedHost) Owner(netip.Addr) uint64         { return 0 }
func (namedHost) Interface(uint32, uint32) string { return "" }
func (namedHost) Symbol(uint64) string            { return "" }
func (namedHost) Syscall(int64) string            { return "" }
func (namedHost) Wall(boot uint64) time.Time      { return time.Unix(1_700_000_000, int64(boot)) }

func (namedHost) User(uid uint32) string {
	if uid == 0 {
		return "root"
	}
	return ""
}

var _ layout.Names = namedHost{}

// BenchmarkRecords makes payloads of the records of executed programs, each beside one of constants.
func BenchmarkRecords(b *testing.B) {
	const n, batch = 100_000, 5_000
	p := processProbe(b)
	for _, programs := range []int{1, 1000} {
		b.Run(fmt.Sprintf("%d_programs", programs), func(b *testing.B) {
			logs, err := NewLogs(LogsOptions{Identity: namedHost{}, Names: namedHost{}}, p)
			require.NoError(b, err)
			var records [][]byte
			for i := range n {
				r := execRecord(b, p, uint64(i)+1000)
				if programs > 1 {
					// Each its own path, directory and arguments, of the same length.
					path := r.bytes[binary.NativeEndian.Uint16(r.field("path")):]
					for _, at := range []int{7, 24, 50} {
						copy(path[at:], fmt.Sprintf("%03d", i%programs))
					}
				}
				records = append(records, r.bytes)
			}
			require.NoError(b, logs.Add(records[0]))
			sample, _ := logs.Take()
			beside(b, n, func() {
				for i, r := range records {
					if err := logs.Add(r); err != nil {
						b.Fatal(err)
					}
					if (i+1)%batch == 0 {
						logs.Take()
					}
				}
			}, func() {
				for range n / batch {
					bareLogs(batch, sample.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0))
				}
			})
		})
	}
}

// BenchmarkFloorPlog is a payload of constants.
func BenchmarkFloorPlog(b *testing.B) {
	p := processProbe(b)
	logs, err := NewLogs(LogsOptions{Identity: namedHost{}, Names: namedHost{}}, p)
	require.NoError(b, err)
	require.NoError(b, logs.Add(execRecord(b, p, 1000).bytes))
	payload, _ := logs.Take()
	sample := payload.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	beside(b, 5000, func() { bareLogs(5000, sample) }, func() { bareLogs(5000, sample) })
}
