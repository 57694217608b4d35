// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write what the tests expect instead of checking it")

// wantMark starts the lines at the end of a bad spec that hold the expected messages.
const wantMark = "# want: "

// The files in testdata/bad hold mistakes, and at their end what has to be said about them, all of it.
func TestParseMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			yaml, _, _ := strings.Cut(string(text), wantMark)

			spec, err := Parse(fstest.MapFS{SpecFile: {Data: text}}, "bad/probe.yaml")
			require.Error(t, err)
			assert.Nil(t, spec)
			got := yaml + wantMark + strings.ReplaceAll(err.Error(), "\n", "\n"+wantMark) + "\n"
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
				return
			}
			assert.Equal(t, string(text), got)
			var typed *SpecError
			require.ErrorAs(t, err, &typed)
			assert.Equal(t, "bad/probe.yaml", typed.File)
		})
	}
}

func TestParse(t *testing.T) {
	folder := os.DirFS("testdata/demo")
	spec, err := Parse(folder, "testdata/demo/probe.yaml")
	require.NoError(t, err)

	assert.Equal(t, "testdata/demo/probe.yaml", spec.Path)
	assert.Equal(t, folder, spec.FS)
	assert.Equal(t, Role{
		For: []string{"ebpf.demo.latency", "ebpf.demo.queue"},
		Candidates: []Candidate{
			{Programs: []string{"switch_storage"}, Requires: []string{"map/task_storage", "args/sched_switch:4=task_struct"}},
			{Programs: []string{"switch_hash", "switch_helper"}},
			{Programs: []string{"switch_plain"}},
		},
	}, spec.Programs["on_switch"])
	assert.Equal(t, Role{Candidates: []Candidate{{Programs: []string{"io"}}}}, spec.Programs["on_io"])
	assert.Equal(t, map[string]string{"mib_drops": "MIB_DROPS"}, spec.Enumerators)
	assert.Equal(t, Option{
		Description: "Memory for paths.", Variable: "buffer_size", Type: OptionSize, Default: "64KiB", Min: "4KiB", Max: "1MiB",
	}, spec.Options["buffer"])
	assert.Equal(t, Dimension{
		Description: "Why it stopped.", Field: "who.state", Attribute: "ebpf.demo.state", As: "enum",
		Values: map[int64]string{0: "running", 1: "sleeping"},
	}, spec.Dimensions["state"])
	assert.Equal(t, Metric{
		Description: "Time that a thread waited.", Unit: "s", Type: Histogram, Map: "waits", Value: "latency", Scale: 1e-9,
		Enabled: true, Attributes: map[string]bool{"container": true, "process": false, "state": false},
	}, spec.Metrics["ebpf.demo.latency"])
	assert.Equal(t, []Point{
		{Value: "read", Attributes: map[string]string{"disk.io.direction": "read"}},
		{Value: "write", Attributes: map[string]string{"disk.io.direction": "write"}},
	}, spec.Metrics["system.disk.io"].Points)
	assert.Equal(t, Attribute{Field: "args", As: "string_array", Redact: true, OmitZero: true, SemConv: true},
		spec.Events["ebpf.demo.exec"].Attributes["process.command_args"])
}

// A plain string for an attribute means the field.
func TestParseShortAttribute(t *testing.T) {
	text, err := os.ReadFile("testdata/demo/probe.yaml")
	require.NoError(t, err)
	short := strings.Replace(string(text), "{ field: pid, semconv: true }", "pid", 1)
	require.NotEqual(t, string(text), short)
	spec, err := Parse(fstest.MapFS{SpecFile: {Data: []byte(short)}}, "demo/probe.yaml")
	require.NoError(t, err)
	assert.Equal(t, Attribute{Field: "pid"}, spec.Events["ebpf.demo.exec"].Attributes["process.pid"])
}

// What is shared may be written once. A key of one's own is in the place of one that is merged.
func TestParseAliases(t *testing.T) {
	const text = `
name: shared
summary: Aliases and merge keys
description: None.
object: shared.bpf.o
programs: { all: [one] }
dimensions:
  container: { description: &text What it is., field: cgroup, as: container }
  port: { description: *text, field: port }
metrics:
  ebpf.a: &a
    description: An a.
    unit: s
    type: counter
    map: rows
    value: v
    attributes: &all { container: true, port: false }
  ebpf.b: { <<: *a, value: w }
  ebpf.c:
    <<: *a
    attributes: { port: true, <<: *all }
`
	spec, err := Parse(fstest.MapFS{SpecFile: {Data: []byte(text)}}, "shared/probe.yaml")
	require.NoError(t, err)
	a := Metric{
		Description: "An a.", Unit: "s", Type: Counter, Map: "rows", Value: "v", Attributes: map[string]bool{"container": true, "port": false},
	}
	b, c := a, a
	b.Value = "w"
	c.Attributes = map[string]bool{"container": true, "port": true}
	assert.Equal(t, map[string]Metric{"ebpf.a": a, "ebpf.b": b, "ebpf.c": c}, spec.Metrics)
	assert.Equal(t, "What it is.", spec.Dimensions["port"].Description)
}

func TestParseFile(t *testing.T) {
	for _, test := range []struct {
		name string
		fsys fs.FS
		want string
	}{
		{"absent", fstest.MapFS{}, "reading x/probe.yaml: open probe.yaml: file does not exist"},
		{"folder", fstest.MapFS{SpecFile: {Mode: fs.ModeDir}}, "reading x/probe.yaml: not a regular file"},
		{"pipe", fstest.MapFS{SpecFile: {Mode: fs.ModeNamedPipe}}, "reading x/probe.yaml: not a regular file"},
		{"too large", fstest.MapFS{SpecFile: {Data: make([]byte, 1<<20+1)}}, "reading x/probe.yaml: larger than 1048576 bytes"},
		{"no text", fstest.MapFS{SpecFile: {}}, "x/probe.yaml: the file is empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse(test.fsys, "x/probe.yaml")
			assert.EqualError(t, err, test.want)
		})
	}
	_, err := Parse(fstest.MapFS{}, "x/probe.yaml")
	assert.ErrorIs(t, err, fs.ErrNotExist)
}

// A file of nothing but mistakes does not fill a log.
func TestParseManyMistakes(t *testing.T) {
	_, err := Parse(fstest.MapFS{SpecFile: {Data: []byte("metrics:\n" + strings.Repeat("  a:\n", 5000))}}, "x")
	require.Error(t, err)
	lines := strings.Split(err.Error(), "\n")
	assert.Len(t, lines, specMaxErrors+1)
	assert.Regexp(t, `^x: and \d+ more mistakes$`, lines[len(lines)-1])
}

func TestBuiltin(t *testing.T) {
	text, err := os.ReadFile("testdata/demo/probe.yaml")
	require.NoError(t, err)

	specs, err := Builtin(fstest.MapFS{"demo/probe.yaml": {Data: text}, "bpf.go": {}})
	require.NoError(t, err)
	require.Len(t, specs, 1)
	assert.Equal(t, "bpf/demo/probe.yaml", specs["demo"].Path)
	_, err = fs.Stat(specs["demo"].FS, SpecFile)
	require.NoError(t, err, "the probe's own folder is its root")

	_, err = Builtin(fstest.MapFS{
		"demo/probe.yaml":  {Data: text},
		"other/probe.yaml": {Data: text},
		"third/third.c":    {},
	})
	require.EqualError(t, err, `bpf/other/probe.yaml: name: "demo" is not the folder's name "other"
bpf/other/probe.yaml: ebpf.demo.latency: probe demo declares it too
bpf/other/probe.yaml: ebpf.demo.queue: probe demo declares it too
bpf/other/probe.yaml: system.disk.io: probe demo declares it too
bpf/other/probe.yaml: ebpf.demo.exec: probe demo declares it too
reading bpf/third/probe.yaml: open probe.yaml: file does not exist`)
	var typed *SpecError
	assert.ErrorAs(t, err, &typed)
}

// Whatever the bytes, Parse returns, and either a spec or mistakes of this file.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.yaml")
	require.NoError(f, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		spec, errs := parse(text, "x")
		if (spec == nil) == (len(errs) == 0) {
			t.Fatalf("spec %v and %d mistakes", spec, len(errs))
		}
		for _, e := range errs {
			if e.File != "x" || e.Message == "" {
				t.Fatalf("mistake without a place or a message: %#v", e)
			}
		}
		if spec == nil {
			return
		}
		// What was accepted has usable defaults.
		if _, err := spec.Resolve(Config{}); err != nil {
			t.Fatalf("the defaults of an accepted spec: %v", err)
		}
	})
}
