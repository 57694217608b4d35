// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

var update = flag.Bool("update", false, "write the golden files instead of checking them")

// fixture is the specification that package probe's own tests use, with an object that exists only here.
func fixture(t *testing.T) (map[string]*probe.Spec, func(*probe.Spec) (*object, error)) {
	t.Helper()
	spec, err := probe.Parse(os.DirFS("../../probe/testdata/demo"), "bpf/demo/probe.yaml")
	require.NoError(t, err)
	o := &object{
		programs: map[string]program{
			"switch_storage": {hook: "tp_btf/sched_switch", maps: []string{"task_storage"}, helpers: []string{"bpf_task_storage_get"}},
			"switch_hash":    {hook: "tp_btf/sched_switch", helpers: []string{"bpf_map_lookup_elem"}},
			"switch_helper":  {hook: "tp_btf/sched_wakeup"},
			"switch_plain":   {hook: "tracepoint/sched/sched_switch"},
			"io":             {hook: "tp_btf/block_rq_complete"},
			"exec":           {hook: "tp_btf/sched_process_exec", maps: []string{"ringbuf"}, helpers: []string{"bpf_ringbuf_output"}},
		},
		kinds: map[string]map[string]kind{"ebpf.demo.exec": {
			"process.pid": kindInt, "process.executable.path": kindString, "process.command_args": kindStrings,
		}},
	}
	return map[string]*probe.Spec{"demo": spec}, func(*probe.Spec) (*object, error) { return o, nil }
}

func TestGenerateGolden(t *testing.T) {
	specs, read := fixture(t)
	files, err := generate(os.DirFS("testdata/root"), specs, read)
	require.NoError(t, err)

	page, ok := files["docs/probes/gone.md"]
	assert.True(t, ok, "a generated page without a probe has to go")
	assert.Nil(t, page)
	assert.NotContains(t, files, "docs/probes/reading.md", "a page that somebody wrote stays")
	delete(files, "docs/probes/gone.md")

	golden := os.DirFS("testdata/golden")
	if *update {
		require.NoError(t, write("testdata/golden", files, func(string) {}))
	}
	for name, text := range files {
		want, err := os.ReadFile(filepath.Join("testdata/golden", name))
		require.NoError(t, err)
		assert.Equal(t, string(want), string(text), name)
	}
	assert.Len(t, files, 3)
	require.NoError(t, compare(golden, files, func(string) {}))

	again, err := generate(os.DirFS("testdata/root"), specs, read)
	require.NoError(t, err)
	delete(again, "docs/probes/gone.md")
	assert.Equal(t, files, again, "the same every time")
}

// What write has written, compare finds in order, and nothing else.
func TestWriteAndCompare(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.CopyFS(root, os.DirFS("testdata/root")))
	specs, read := fixture(t)
	files, err := generate(os.DirFS(root), specs, read)
	require.NoError(t, err)

	all := []string{"README.md", "docs/config.schema.json", "docs/probes/demo.md", "docs/probes/gone.md"}
	var told []string
	tell := func(file string) { told = append(told, file) }
	require.EqualError(t, compare(os.DirFS(root), files, tell), "4 files are not up to date: run make generate")
	assert.Equal(t, all, told)

	told = nil
	require.NoError(t, write(root, files, tell))
	assert.Equal(t, all, told)
	assert.NoFileExists(t, filepath.Join(root, "docs/probes/gone.md"))
	assert.FileExists(t, filepath.Join(root, "docs/probes/reading.md"))

	files, err = generate(os.DirFS(root), specs, read)
	require.NoError(t, err)
	told = nil
	require.NoError(t, compare(os.DirFS(root), files, tell))
	require.NoError(t, write(root, files, tell))
	assert.Empty(t, told, "nothing is touched twice")

	require.NoError(t, os.WriteFile(filepath.Join(root, "docs/probes/demo.md"), []byte("edited"), 0o644))
	require.EqualError(t, compare(os.DirFS(root), files, tell), "1 files are not up to date: run make generate")
	assert.Equal(t, []string{"docs/probes/demo.md"}, told)
}

func TestReadme(t *testing.T) {
	specs, read := fixture(t)
	root := fstest.MapFS{"metadata.yaml": {Data: []byte("type: x\n")}}
	files, err := generate(root, specs, read)
	require.NoError(t, err)
	assert.NotContains(t, files, "README.md", "there is none")

	root["README.md"] = &fstest.MapFile{Data: []byte("no marks\n")}
	files, err = generate(root, specs, read)
	require.NoError(t, err)
	assert.NotContains(t, files, "README.md", "it has no marks")

	root["README.md"] = &fstest.MapFile{Data: []byte("<!-- probes:begin -->\n")}
	_, err = generate(root, specs, read)
	require.EqualError(t, err, "README.md: <!-- probes:begin --> without <!-- probes:end -->")
}

// The real objects: each program has a hook, and each event a sample in which no placeholder is left.
func TestBuiltinObjects(t *testing.T) {
	specs, err := probe.Builtin(bpf.Probes)
	require.NoError(t, err)
	for name, spec := range specs {
		t.Run(name, func(t *testing.T) {
			o, err := readObject(spec)
			require.NoError(t, err)
			for _, program := range programNames(spec) {
				assert.NotEmpty(t, o.programs[program].hook, program)
				assert.NotEmpty(t, o.programs[program].helpers, program)
			}
			for event, e := range spec.Events {
				var r record
				require.NoError(t, json.Unmarshal([]byte(sample(event, e, o.kinds[event])), &r))
				assert.NotContains(t, r.Body, "{", event)
				for attribute, value := range r.Attributes {
					assert.NotNil(t, value, "%s: %s", event, attribute)
					assert.Equal(t, o.kinds[event][attribute], kindOf(value, o.kinds[event][attribute]),
						"%s: the sample of %s is of another type than its field", event, attribute)
				}
			}
		})
	}
}

// kindOf is the type of a sample; what JSON can not tell apart is taken as it should be.
func kindOf(value any, want kind) kind {
	switch v := value.(type) {
	case bool:
		return kindBool
	case []any:
		return kindStrings
	case float64:
		if v == float64(int64(v)) && want == kindInt {
			return kindInt
		}
		return kindDouble
	case string:
		if want == kindBytes {
			return kindBytes
		}
		return kindString
	}
	return ""
}
