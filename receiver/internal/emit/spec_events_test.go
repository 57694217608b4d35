// SPDX-License-Identifier: Apache-2.0

package emit_test

import (
	"encoding/binary"
	"encoding/json"
	"regexp"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/emit"
	"github.com/ebpfreceiver/ebpfreceiver/test/btftypes"
)

// ran is a record's fixed part, as its BTF has it.
type ran struct {
	Time                       uint64
	ID, Size                   uint32
	Cgroup                     uint64
	PID                        uint32
	Failed                     int32
	PathOffset, PathLength     uint16
	ArgsOffset, ArgsLength     uint16
	SecretOffset, SecretLength uint16
	Unused                     uint32
}

func ranType() *btftypes.Struct {
	return btftypes.NewStruct("ran",
		btftypes.Field{Name: "header", Type: btftypes.Header},
		btftypes.Field{Name: "cgroup", Type: btftypes.U64},
		btftypes.Field{Name: "pid", Type: btftypes.U32}, btftypes.Field{Name: "failed", Type: btftypes.S32},
		btftypes.Field{Name: "path", Type: btftypes.Blob}, btftypes.Field{Name: "args", Type: btftypes.Blob},
		btftypes.Field{Name: "secret", Type: btftypes.Blob}, btftypes.Field{Name: "unused", Type: btftypes.U32})
}

// record puts a record together; empty texts leave their blobs at zero.
func record(id uint32, cgroup uint64, pid uint32, failed int32, path, args, secret string) []byte {
	v := ran{Time: 5, ID: id, Cgroup: cgroup, PID: pid, Failed: failed}
	size := binary.Size(v)
	tail := ""
	blob := func(s string) (offset, length uint16) {
		if s == "" {
			return 0, 0
		}
		offset = uint16(size + len(tail))
		tail += s
		return offset, uint16(len(s))
	}
	v.PathOffset, v.PathLength = blob(path)
	v.ArgsOffset, v.ArgsLength = blob(args)
	v.SecretOffset, v.SecretLength = blob(secret)
	v.Size = uint32(size + len(tail))
	return append(raw(v), tail...)
}

func newLogs(t testing.TB, severity, body string) *emit.Logs {
	t.Helper()
	attributes := map[string]probe.Attribute{
		"container": {Field: "cgroup", As: "container"},
		"pid":       {Field: "pid"},
		"failed":    {Field: "failed", As: "errno", OmitZero: true},
		"path":      {Field: "path", As: "path", OmitZero: true},
		"args":      {Field: "args", As: "string_array", OmitZero: true, Redact: true},
		"secret":    {Field: "secret", As: "string", OmitZero: true, Redact: true},
		"plain":     {Field: "secret", As: "string", OmitZero: true},
		"seconds":   {Field: "pid", Scale: 0.5},
	}
	p := &probe.Probe{
		Spec: &probe.Spec{Name: "test", Events: map[string]probe.Event{
			"ebpf.test.ran":     {Severity: severity, Body: body, Attributes: attributes},
			"ebpf.test.other":   {Severity: "debug"},
			"ebpf.test.missing": {},
		}},
		Settings:   probe.Settings{Events: map[string]probe.EventSettings{"ebpf.test.ran": {}, "ebpf.test.other": {}, "ebpf.test.missing": {}}},
		EventIDs:   map[string]uint32{"ebpf.test.ran": 3, "ebpf.test.other": 0},
		EventTypes: map[string]*btftypes.Struct{"ebpf.test.ran": ranType(), "ebpf.test.other": btftypes.NewStruct("o", btftypes.Field{Name: "header", Type: btftypes.Header})},
	}
	l, err := emit.NewLogs(logsOptions(), p)
	require.NoError(t, err)
	return l
}

func logsOptions() emit.LogsOptions {
	return emit.LogsOptions{
		Identity: world{}, Names: world{}, ScopeName: "scope", Version: "1.2.3",
		Redact: []*regexp.Regexp{regexp.MustCompile(`password=(\S+)`), regexp.MustCompile(`token-[0-9]+`)},
	}
}

// unobserved takes the time of observation out, which is the clock's.
func unobserved(t *testing.T, logs plog.Logs) json.RawMessage {
	t.Helper()
	for _, rl := range logs.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			for _, r := range sl.LogRecords().All() {
				assert.WithinDuration(t, time.Now(), r.ObservedTimestamp().AsTime(), time.Minute)
				r.SetObservedTimestamp(0)
			}
		}
	}
	b, err := (&plog.JSONMarshaler{}).MarshalLogs(logs)
	require.NoError(t, err)
	return b
}

func TestSpecGoldenEvents(t *testing.T) {
	l := newLogs(t, "warn", "ran {path} pid={pid} {absent}of {args} {failed}, 100%{")
	for _, r := range [][]byte{
		record(3, 10, 7, -2, "leaf\x00mid\x00top\x00", "a\x00password=x y\x00\x00", "password=hunter2 token-12"),
		record(3, 11, 8, 0, "", "", ""),                                  // all that can be left out
		record(3, 20, 9, 13, "bad\xff\x00", "\xfe\x00", "x\xff\x00rest"), // no UTF-8, and more behind the end
		record(3, 1, 1, 9999, "", "", "token-1 password= password=a password=b"),
		record(3, 10, 7, 0, "", "", ""), // its resource is not the last one's
		record(0, 0, 0, 0, "", "", ""),  // longer than its struct, which a later program may make it
	} {
		require.NoError(t, l.Add(r))
	}
	assert.Equal(t, 6, l.Len())
	logs, counts := l.Take()
	assert.Equal(t, map[string]int{"ebpf.test.ran": 5, "ebpf.test.other": 1}, counts)
	assert.Equal(t, 6, logs.LogRecordCount())
	assert.Equal(t, 3, logs.ResourceLogs().Len(), "records are grouped")
	golden(t, "events", []json.RawMessage{unobserved(t, logs)})

	assert.Zero(t, l.Len())
	empty, counts := l.Take()
	assert.Zero(t, empty.LogRecordCount())
	assert.Empty(t, counts)
}

func TestSpecSeverities(t *testing.T) {
	for name, want := range map[string]plog.SeverityNumber{
		"trace": plog.SeverityNumberTrace, "debug": plog.SeverityNumberDebug, "info": plog.SeverityNumberInfo,
		"warn": plog.SeverityNumberWarn, "error": plog.SeverityNumberError, "fatal": plog.SeverityNumberFatal,
		"": plog.SeverityNumberInfo,
	} {
		l := newLogs(t, name, "always the same")
		require.NoError(t, l.Add(record(3, 0, 1, 0, "", "", "")))
		logs, _ := l.Take()
		r := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
		assert.Equal(t, want, r.SeverityNumber(), name)
		assert.Equal(t, "always the same", r.Body().Str())
		assert.Equal(t, began.Add(5), r.Timestamp().AsTime())
	}
}

// What can not be decoded leaves nothing behind.
func TestSpecRefusedRecords(t *testing.T) {
	l := newLogs(t, "info", "")
	whole := record(3, 10, 1, 0, "", "", "")
	for n := range whole {
		require.Error(t, l.Add(whole[:n]), "%d bytes", n)
	}
	require.Error(t, l.Add(record(4, 10, 1, 0, "", "", "")), "an unknown id")
	require.Error(t, l.Add(record(1<<31, 10, 1, 0, "", "", "")))
	assert.Zero(t, l.Len())
	logs, counts := l.Take()
	assert.Zero(t, logs.ResourceLogs().Len())
	assert.Empty(t, counts)

	// A blob that points out of the record: nothing of the record is to be trusted.
	for _, blob := range [][2]uint16{{65535, 65535}, {uint16(len(whole)), 1}, {0, 65535}} {
		binary.NativeEndian.PutUint16(whole[40:], blob[0])
		binary.NativeEndian.PutUint16(whole[42:], blob[1])
		require.Error(t, l.Add(whole))
		assert.Zero(t, l.Len())
	}
	logs, counts = l.Take()
	assert.Zero(t, logs.ResourceLogs().Len())
	assert.Empty(t, counts)
}

// Payloads are the caller's: what comes later does not change them.
func TestSpecPayloadsAreKept(t *testing.T) {
	l := newLogs(t, "info", "{path}{args}{secret}")
	first := record(3, 10, 1, 1, "one\x00", "arg\x00", "text")
	require.NoError(t, l.Add(first))
	poison(first)
	kept, counts := l.Take()
	marshaler := plog.JSONMarshaler{}
	before, err := marshaler.MarshalLogs(kept)
	require.NoError(t, err)
	require.NoError(t, l.Add(record(3, 20, 2, 2, "2\x00two\x00", "other\x00more\x00", "changed")))
	next, _ := l.Take()
	after, err := marshaler.MarshalLogs(kept)
	require.NoError(t, err)
	assert.Equal(t, string(before), string(after))
	assert.Equal(t, map[string]int{"ebpf.test.ran": 1}, counts)
	assert.Contains(t, string(before), "/one")
	assert.Equal(t, 1, next.LogRecordCount())
}

func TestSpecUnknownFields(t *testing.T) {
	for name, c := range map[string]struct {
		attribute probe.Attribute
		want      string
	}{
		"field":   {probe.Attribute{Field: "nothing"}, `event e: attribute a: ran has no field "nothing"; it has args, cgroup, failed, header, path, pid, secret, unused`},
		"decoder": {probe.Attribute{Field: "pid", As: "nothing"}, `unknown decoder "nothing"`},
		"type":    {probe.Attribute{Field: "header", As: "int"}, "not a number"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := emit.NewLogs(logsOptions(), &probe.Probe{
				Spec:     &probe.Spec{Events: map[string]probe.Event{"e": {Attributes: map[string]probe.Attribute{"a": c.attribute}}}},
				Settings: probe.Settings{Events: map[string]probe.EventSettings{"e": {}}},
				EventIDs: map[string]uint32{"e": 0}, EventTypes: map[string]*btftypes.Struct{"e": ranType()},
			})
			assert.ErrorContains(t, err, c.want)
		})
	}
}

func TestSpecGoldenLost(t *testing.T) {
	logs := emit.NewLost(logsOptions(), began, []emit.Lost{
		{Probe: "test", Event: "ebpf.test.ran", Dropped: 3, Limited: 4}, {Probe: "test", Event: "ebpf.test.other", Dropped: 1},
	})
	b, err := (&plog.JSONMarshaler{}).MarshalLogs(logs)
	require.NoError(t, err)
	golden(t, "lost", []json.RawMessage{b})
}

// builtin are all events of a built-in probe, with the types of its object.
type builtin struct {
	logs  *emit.Logs
	ids   map[string]uint32
	types map[string]*btftypes.Struct
}

// builtins has those with events, sorted by name.
func builtins(t testing.TB) (list []builtin) {
	t.Helper()
	specs, err := probe.Builtin(bpf.Probes)
	require.NoError(t, err)
	for _, name := range sorted(specs) {
		spec := specs[name]
		if len(spec.Events) == 0 {
			continue
		}
		p := &probe.Probe{Spec: spec, Settings: probe.Settings{Events: make(map[string]probe.EventSettings)}}
		p.EventIDs, p.EventTypes, err = btftypes.EventsOf(spec)
		require.NoError(t, err)
		for name := range spec.Events {
			p.Settings.Events[name] = probe.EventSettings{}
		}
		l, err := emit.NewLogs(logsOptions(), p)
		require.NoError(t, err)
		list = append(list, builtin{l, p.EventIDs, p.EventTypes})
	}
	return list
}

// FuzzRecord gives records of any bytes to the decoders of the built-in probes.
func FuzzRecord(f *testing.F) {
	all := builtins(f)
	require.Len(f, all, 3, "flow, process and tcp, in the order of which the corpus numbers them")
	for i, p := range all {
		of := byte(i)
		for _, name := range sorted(p.ids) {
			id, b := p.ids[name], make([]byte, btftypes.Sizeof(p.types[name]), 4096)
			f.Add(of, id, b)
			f.Add(of, id, b[:len(b)-1])
			for i := 16; i < len(b); i++ {
				b[i] = 0xff
			}
			f.Add(of, id, b)
			for i := 16; i < len(b); i++ {
				b[i] = byte(i) % 16 // blobs that may lie inside
			}
			f.Add(of, id, append(b, "/usr\xffbin\x00\x00password=a\xc3 token-1\x00"...))
		}
	}
	f.Add(byte(0), uint32(0), []byte{})
	f.Fuzz(func(t *testing.T, of byte, id uint32, b []byte) {
		l := all[int(of)%len(all)].logs
		if len(b) >= 12 {
			// The engine would seldom hit upon an id.
			b = append([]byte(nil), b...)
			binary.NativeEndian.PutUint32(b[8:], id)
		}
		before := l.Len()
		err := l.Add(b)
		if err != nil {
			if l.Len() != before {
				t.Fatal("a refused record was added")
			}
			return
		}
		if l.Len() != before+1 {
			t.Fatal("the record was not added")
		}
		poison(b)
		logs, _ := l.Take()
		if logs.LogRecordCount() != 1 {
			t.Fatal("not one log record")
		}
		r := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
		valid(t, r.Body())
		for _, v := range r.Attributes().All() {
			valid(t, v)
		}
		if _, err := (&plog.ProtoMarshaler{}).MarshalLogs(logs); err != nil {
			t.Fatal(err)
		}
	})
}

func valid(t *testing.T, v pcommon.Value) {
	t.Helper()
	switch v.Type() {
	case pcommon.ValueTypeStr:
		if !utf8.ValidString(v.Str()) {
			t.Fatalf("%q is no UTF-8", v.Str())
		}
	case pcommon.ValueTypeSlice:
		for _, item := range v.Slice().All() {
			valid(t, item)
		}
	}
}
