// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"embed"
	"io/fs"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
)

// The object is committed, so that tests need no compiler: `make internal/probe/testdata/fixture/fixture.bpf.o` builds it.
//
//go:embed testdata/fixture/probe.yaml testdata/fixture/fixture.bpf.o
var fixtureFiles embed.FS

// fixtureSpec is embedded so that a process without rights to the source tree has it too.
func fixtureSpec(t testing.TB) *Spec {
	t.Helper()
	fsys, err := fs.Sub(fixtureFiles, "testdata/fixture")
	require.NoError(t, err)
	spec, err := Parse(fsys, "testdata/fixture/probe.yaml")
	require.NoError(t, err)
	return spec
}

// choice is what a user enables: metrics with their attributes, and events.
type choice struct {
	metrics map[string][]string
	events  []string
}

func (c choice) settings(t testing.TB, spec *Spec) Settings {
	t.Helper()
	settings, err := spec.Resolve(Config{})
	require.NoError(t, err)
	settings.Metrics = make(map[string]MetricSettings)
	for name, attributes := range c.metrics {
		require.Contains(t, spec.Metrics, name)
		settings.Metrics[name] = MetricSettings{Attributes: slices.Sorted(slices.Values(attributes))}
	}
	settings.Events = make(map[string]EventSettings)
	for _, name := range c.events {
		require.Contains(t, spec.Events, name)
		settings.Events[name] = EventSettings{}
	}
	return settings
}

func testEnvironment() Environment {
	return Environment{Kernel: kernel.New(kernel.Options{}), CgroupController: -1}
}

func load(t testing.TB, spec *Spec, settings Settings) *Probe {
	t.Helper()
	p, err := Load(spec, settings, testEnvironment())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func tableOf(t testing.TB, p *Probe, name string) *Table {
	t.Helper()
	i := slices.IndexFunc(p.Tables, func(table *Table) bool { return table.Map == name })
	require.GreaterOrEqual(t, i, 0, "no table %s", name)
	return p.Tables[i]
}

// taken are the programs that were loaded.
func taken(p *Probe) []string {
	names := make(map[string]bool)
	for _, info := range p.Programs {
		if info.Taken {
			names[info.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
