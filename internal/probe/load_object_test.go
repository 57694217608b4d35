// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCheckObject(t *testing.T) {
	require.NoError(t, CheckObject(fixtureSpec(t)))
}

// Each mistake is one that an author makes in the YAML; the message has the name that exists.
func TestCheckObjectMistakes(t *testing.T) {
	metric := func(change func(m *Metric)) func(s *Spec) {
		return func(s *Spec) {
			m := s.Metrics["ebpf.fixture.execs"]
			change(&m)
			s.Metrics["ebpf.fixture.execs"] = m
		}
	}
	event := func(change func(e *Event)) func(s *Spec) {
		return func(s *Spec) {
			e := s.Events["ebpf.fixture.exec"]
			change(&e)
			s.Events["ebpf.fixture.exec"] = e
		}
	}
	tests := []struct {
		name   string
		change func(s *Spec)
		want   []string
	}{
		{
			"program", func(s *Spec) { s.Programs["tasks"].Candidates[0].Programs[0] = "count_task" },
			[]string{`programs.tasks.candidates[0].programs: unknown program "count_task", did you mean "count_tasks"?`},
		},
		{"map", metric(func(m *Metric) { m.Map = "exec" }), []string{`metrics.ebpf.fixture.execs.map: unknown map "exec", did you mean "execs"?`}},
		{"map of no rows", metric(func(m *Metric) { m.Map = "events" }), []string{"map events is a RingBuf, which can not become a metric"}},
		{"value", metric(func(m *Metric) { m.Value = "counts" }), []string{`metrics.ebpf.fixture.execs.value: fixture_value has no field "counts"; it has count, weight`}},
		{"point", metric(func(m *Metric) { m.Value, m.Points = "", []Point{{Value: "count"}, {Value: "x"}} }), []string{"points[1].value: fixture_value has no field"}},
		{
			"dimension", func(s *Spec) { s.Dimensions["command"] = Dimension{Field: "com"} },
			[]string{`metrics.ebpf.fixture.execs.attributes.command: fixture_key has no field "com"; it has always, cgroup, comm, pid`},
		},
		{"metric variable", metric(func(m *Metric) { m.Variable = "with_exec" }), []string{`unknown variable "with_exec", did you mean "with_execs"?`}},
		{
			"dimension variable", func(s *Spec) { s.Dimensions["command"] = Dimension{Field: "comm", Variable: "by_commnad"} },
			[]string{`dimensions.command.variable: unknown variable "by_commnad", did you mean "by_command"?`},
		},
		{
			"option variable", func(s *Spec) { s.Options["weight"] = Option{Type: "int", Variable: "wait"} },
			[]string{`options.weight.variable: unknown variable "wait"`},
		},
		{
			"enumerator's variable", func(s *Spec) { s.Enumerators = map[string]string{"wait": "MIB"} },
			[]string{`enumerators.wait: unknown variable "wait"`},
		},
		{
			"variable that changes", func(s *Spec) { s.Options["weight"] = Option{Type: "int", Variable: "not_constant"} },
			[]string{"variable not_constant is not `const volatile`"},
		},
		{
			"bool in a number", func(s *Spec) { s.Options["weight"] = Option{Type: "bool", Variable: "weight"} },
			[]string{"variable weight has 4 bytes, where 1 are wanted"},
		},
		{
			"array as option", func(s *Spec) { s.Options["weight"] = Option{Type: "int", Variable: "event_config"} },
			[]string{"variable event_config has 384 bytes, which is no integer"},
		},
		{"ring", event(func(e *Event) { e.Ring = "event" }), []string{`events.ebpf.fixture.exec.ring: unknown map "event", did you mean "events"?`}},
		{"ring of another type", event(func(e *Event) { e.Ring = "plain" }), []string{"map plain is a PerCPUHash and not a RINGBUF"}},
		{"id", event(func(e *Event) { e.ID = "EVENT_EXIT" }), []string{`events.ebpf.fixture.exec.id: unknown enumerator "EVENT_EXIT"`, "EVENT_EXEC"}},
		{"record", event(func(e *Event) { e.Type = "exec_events" }), []string{`events.ebpf.fixture.exec.type: unknown struct "exec_events", did you mean "exec_event"?`}},
		{"record without header", event(func(e *Event) { e.Type = "fixture_key" }), []string{"struct fixture_key: its first member is not a struct event_header"}},
		{"attribute", event(func(e *Event) { e.Attributes["x"] = Attribute{Field: "gid"} }), []string{`events.ebpf.fixture.exec.attributes.x: exec_event has no field "gid"`}},
		{
			"two events with one id", func(s *Spec) {
				e := s.Events["ebpf.fixture.exec"]
				s.Events["ebpf.fixture.zexec"] = e
			},
			[]string{"events.ebpf.fixture.zexec.id: EVENT_EXEC is 3, as that of ebpf.fixture.exec is"},
		},
		{
			"all at once", func(s *Spec) {
				s.Programs["tasks"].Candidates[0].Programs[0] = "count_task"
				s.Options["weight"] = Option{Type: "int", Variable: "wait"}
				event(func(e *Event) { e.Ring = "event" })(s)
			},
			[]string{"3 problems", "count_task", "wait", `"event"`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := fixtureSpec(t)
			tt.change(spec)
			err := CheckObject(spec)
			var broken *ObjectError
			require.ErrorAs(t, err, &broken)
			assert.True(t, strings.HasPrefix(err.Error(), "testdata/fixture/fixture.bpf.o: "), err)
			for _, want := range tt.want {
				assert.ErrorContains(t, err, want)
			}
			// Load says the same, before it asks anything of the kernel.
			settings := Settings{Metrics: map[string]MetricSettings{"ebpf.fixture.execs": {}}}
			_, loadErr := Load(spec, settings, testEnvironment())
			assert.EqualError(t, loadErr, err.Error())
		})
	}
}

func TestCheckObjectFiles(t *testing.T) {
	text, err := fs.ReadFile(fixtureFiles, "testdata/fixture/probe.yaml")
	require.NoError(t, err)
	good, err := fs.ReadFile(fixtureFiles, "testdata/fixture/fixture.bpf.o")
	require.NoError(t, err)
	tests := []struct {
		name   string
		object []byte
		want   string
	}{
		{"absent", nil, "file does not exist"},
		{"empty", []byte{}, "read the object"},
		{"not ELF", []byte("#!/bin/sh\n"), "read the object"},
		{"cut off", good[:len(good)/2], "read the object"},
		{"too large", make([]byte, maxObject+1), "has more than 16777216 bytes"},
		{"too large in memory", withSection(t, good, ".bss", func(s *elf.Section64) { s.Size = 1 << 36 }), `section ".bss" makes it larger`},
		{"compressed", withSection(t, good, ".rodata", func(s *elf.Section64) { s.Flags |= uint64(elf.SHF_COMPRESSED) }), "compressed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fsys := fstest.MapFS{"probe.yaml": {Data: text}}
			if tt.object != nil {
				fsys["fixture.bpf.o"] = &fstest.MapFile{Data: tt.object}
			}
			spec, err := Parse(fsys, "fixture/probe.yaml")
			require.NoError(t, err)
			err = CheckObject(spec)
			var broken *ObjectError
			require.ErrorAs(t, err, &broken)
			assert.ErrorContains(t, err, tt.want)
			assert.ErrorContains(t, err, "fixture/fixture.bpf.o")
		})
	}
}

// withSection is a copy of the object in which the header of a section is changed.
func withSection(t *testing.T, object []byte, name string, change func(s *elf.Section64)) []byte {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(object))
	require.NoError(t, err)
	i := slices.IndexFunc(f.Sections, func(s *elf.Section) bool { return s.Name == name })
	require.Positive(t, i)
	object = slices.Clone(object)
	var file elf.Header64
	_, err = binary.Decode(object, binary.LittleEndian, &file)
	require.NoError(t, err)
	header := object[file.Shoff+uint64(i)*uint64(file.Shentsize):]
	var section elf.Section64
	_, err = binary.Decode(header, binary.LittleEndian, &section)
	require.NoError(t, err)
	change(&section)
	_, err = binary.Encode(header, binary.LittleEndian, &section)
	require.NoError(t, err)
	return object
}

// What comes out of a broken object is an error or an object that fits the spec, never a panic.
func FuzzLoadObject(f *testing.F) {
	good, err := fs.ReadFile(fixtureFiles, "testdata/fixture/fixture.bpf.o")
	require.NoError(f, err)
	f.Add(0, []byte{}, len(good))
	f.Add(0x2ab0, []byte{0xff, 0xff, 0xff, 0xff}, len(good))
	f.Add(40, []byte{0xff, 0xff, 0xff, 0x7f}, len(good))
	f.Add(0, []byte("\x7fELF"), 64)
	spec := fixtureSpec(f)
	f.Fuzz(func(t *testing.T, offset int, patch []byte, size int) {
		// A patch in a good object gets further than bytes that the fuzzer makes up.
		data := append([]byte(nil), good[:min(max(size, 0), len(good))]...)
		if offset >= 0 && offset < len(data) {
			copy(data[offset:], patch)
		}
		o, err := parseObject(spec, data)
		if (o == nil) == (err == nil) {
			t.Fatalf("object %v and error %v", o, err)
		}
		if o != nil {
			_ = o.copy()
			for _, name := range sortedKeys(o.Maps) {
				if m := row(o.Maps[name]); m != nil && m.Key != nil {
					pruneKey(m, nil)
				}
			}
		}
	})
}
