// SPDX-License-Identifier: Apache-2.0

package probes_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

const guideFile = "../../docs/writing-a-probe.md"

func guide(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(guideFile)
	require.NoError(t, err)
	return string(text)
}

// block is a fenced block of the guide. Its info string is a language and, behind it, what the block has to be:
// a file's name, excerpt=FILE or error=NAME.
type block struct{ info, text string }

var fence = regexp.MustCompile("(?ms)^ *```([^\n]*)\n(.*?)^ *```$")

func blocks(t *testing.T) []block {
	t.Helper()
	var found []block
	for _, m := range fence.FindAllStringSubmatch(guide(t), -1) {
		_, info, _ := strings.Cut(m[1], " ")
		found = append(found, block{info: info, text: m[2]})
	}
	return found
}

// The guide's files are those of the examples. What the examples do not have, a test below compiles and runs.
func TestGuideFiles(t *testing.T) {
	whole, excerpts := make(map[string]bool), 0
	for _, b := range blocks(t) {
		file, isExcerpt := strings.CutPrefix(b.info, "excerpt=")
		switch {
		case isExcerpt:
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Contains(t, string(text), b.text, "docs/writing-a-probe.md quotes %s", file)
			excerpts++
		case file == "", strings.HasPrefix(file, "error="), strings.HasPrefix(file, "ages/"):
		default:
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Equal(t, string(text), b.text, "docs/writing-a-probe.md shows %s", file)
			whole[file] = true
		}
	}
	assert.Equal(t, map[string]bool{"softirqs/softirqs.bpf.c": true, "softirqs/probe.yaml": true}, whole)
	assert.Positive(t, excerpts)
}

// write puts the guide's files of one folder into another, and returns that.
func write(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.Mkdir(dir, 0o755))
	for _, b := range blocks(t) {
		if file, ok := strings.CutPrefix(b.info, name+"/"); ok {
			require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(b.text), 0o600))
		}
	}
	return dir
}

// needClang skips a test of what the guide's readers compile.
func needClang(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"clang-19", "llvm-strip-19"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
}

// compile runs the guide's own commands in a folder, for the program of that name.
func compile(t *testing.T, dir, name string) {
	t.Helper()
	needClang(t)
	var script string
	for _, b := range blocks(t) {
		if strings.HasPrefix(b.text, "clang-19 ") {
			script = b.text
		}
	}
	require.Contains(t, script, "-c softirqs.bpf.c -o softirqs.bpf.o")
	include, err := filepath.Abs("../../bpf/include")
	require.NoError(t, err)
	cmd := exec.Command("sh", "-e", "-c", strings.ReplaceAll(script, "softirqs", name))
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "INCLUDE="+include)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

func TestGuideCompiles(t *testing.T) {
	for _, name := range []string{"softirqs", "ages"} {
		dir := write(t, name)
		compile(t, dir, name)
		spec, err := probe.Parse(os.DirFS(dir), name+"/probe.yaml")
		require.NoError(t, err)
		require.NoError(t, probe.CheckObject(spec))
	}
}

// The example of a histogram counts each process of a cgroup once, with the age that it has at least.
func TestKernelGuideAges(t *testing.T) {
	needClang(t)
	c := kernel.NewCgroup(t)
	dir := write(t, "ages")
	compile(t, dir, "ages")
	r := kernel.Start(t, fmt.Sprintf(`
probes:
  ages:
    path: %s
    min_age: 10ms
    metrics:
      ebpf.example.process.age: { attributes: [process.linux.cgroup, process.executable.name] }
`, dir))
	const n = 10
	for range n {
		require.NoError(t, c.Command("sleep", "0.02").Run())
	}
	r.Stop()
	points := kernel.With(r.Last("ebpf.example.process.age"), "process.linux.cgroup", c.Path)
	require.Len(t, points, 1)
	assert.Equal(t, "sleep", points[0].Attributes["process.executable.name"])
	assert.EqualValues(t, n, points[0].Count)
	assert.GreaterOrEqual(t, points[0].Sum, n*0.02)
}

// What the guide says of mistakes is what the receiver says.
func TestGuideErrors(t *testing.T) {
	const folder = "/etc/otelcol/probes/softirqs/"
	spec, err := os.ReadFile("softirqs/probe.yaml")
	require.NoError(t, err)
	object, err := os.ReadFile("softirqs/softirqs.bpf.o")
	require.NoError(t, err)
	with := func(replacements ...string) fs.FS {
		text := strings.NewReplacer(replacements...).Replace(string(spec))
		require.NotEqual(t, string(spec), text)
		return fstest.MapFS{"probe.yaml": {Data: []byte(text)}, "softirqs.bpf.o": {Data: object}}
	}
	errs := make(map[string]error)
	_, errs["spec"] = probe.Parse(with("counter", "conter", "value: count", "valeu: count"), folder+"probe.yaml")
	broken, err := probe.Parse(with("- count_softirq", "- count_softirqs", "value: count", "value: number"), folder+"probe.yaml")
	require.NoError(t, err)
	errs["object"] = probe.CheckObject(broken)
	for _, b := range blocks(t) {
		name, ok := strings.CutPrefix(b.info, "error=")
		if !ok {
			continue
		}
		require.Contains(t, errs, name)
		assert.EqualError(t, errs[name], strings.TrimSuffix(b.text, "\n"))
		delete(errs, name)
	}
	assert.Empty(t, errs, "not in the guide")
}

var tableRow = regexp.MustCompile(`(?m)^\| ([^|]+) \|`)

// rows are the names in the first column of the table below a heading.
func rows(t *testing.T, heading string) []string {
	t.Helper()
	_, section, ok := strings.Cut(guide(t), "\n"+heading+"\n")
	require.True(t, ok, heading)
	if i := strings.Index(section, "\n##"); i >= 0 {
		section = section[:i]
	}
	var names []string
	for _, m := range tableRow.FindAllStringSubmatch(section, -1) {
		for name := range strings.SplitSeq(m[1], ", ") {
			if strings.HasPrefix(name, "`") {
				names = append(names, strings.Trim(name, "`"))
			}
		}
	}
	return names
}

// Every key of the specification is in the reference, and no other.
func TestGuideKeys(t *testing.T) {
	for heading, value := range map[string]any{
		"### The file":             probe.Spec{},
		"### programs.ROLE":        probe.Role{},
		"### Candidates":           probe.Candidate{},
		"### options.NAME":         probe.Option{},
		"### dimensions.NAME":      probe.Dimension{},
		"### metrics.NAME":         probe.Metric{},
		"### Points":               probe.Point{},
		"### events.NAME":          probe.Event{},
		"### Attributes of events": probe.Attribute{},
	} {
		var keys []string
		for _, f := range reflect.VisibleFields(reflect.TypeOf(value)) {
			if key := f.Tag.Get("yaml"); key != "" && key != "-" {
				keys = append(keys, key)
			}
		}
		assert.ElementsMatch(t, keys, rows(t, heading), heading)
	}
}

func TestGuideDecoders(t *testing.T) {
	assert.ElementsMatch(t, layout.Decoders(), rows(t, "### Decoders"))
}

// A link within the repository leads to a file.
func TestGuideLinks(t *testing.T) {
	for _, m := range regexp.MustCompile(`\]\((\.\.?/[^)#]+)`).FindAllStringSubmatch(guide(t), -1) {
		_, err := os.Stat(filepath.Join(filepath.Dir(guideFile), m[1]))
		assert.NoError(t, err, m[1])
	}
}
