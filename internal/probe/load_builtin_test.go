// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

func TestBuiltinObjects(t *testing.T) {
	specs, err := Builtin(bpf.Probes)
	require.NoError(t, err)
	for _, name := range sortedKeys(specs) {
		assert.NoError(t, CheckObject(specs[name]), name)
	}
}

// everything that a probe has.
func everything(t *testing.T, spec *Spec) Settings {
	t.Helper()
	all := choice{metrics: make(map[string][]string), events: sortedKeys(spec.Events)}
	for metric := range spec.Metrics {
		all.metrics[metric] = sortedKeys(spec.Metrics[metric].Attributes)
	}
	return all.settings(t, spec)
}

// The verifier sees other programs where containers live in a v1 hierarchy.
func TestKernelBuiltinByController(t *testing.T) {
	needs.Root(t)
	specs, err := Builtin(bpf.Probes)
	require.NoError(t, err)
	env := testEnvironment()
	env.CgroupController = 3
	for _, name := range sortedKeys(specs) {
		p, err := Load(specs[name], everything(t, specs[name]), env)
		require.NoError(t, err, name)
		for missing, why := range p.Missing {
			assert.ErrorIs(t, why, kernel.ErrNotSupported, "%s: %s", name, missing)
		}
		require.NoError(t, p.Close())
	}
}

// Each probe with all that it has: what this kernel can not do, it says why.
func TestKernelBuiltin(t *testing.T) {
	needs.Root(t)
	specs, err := Builtin(bpf.Probes)
	require.NoError(t, err)
	for _, name := range sortedKeys(specs) {
		t.Run(name, func(t *testing.T) {
			spec := specs[name]
			p := load(t, spec, everything(t, spec))
			for missing, why := range p.Missing {
				assert.ErrorIs(t, why, kernel.ErrNotSupported, missing)
			}
			require.NoError(t, p.Attach())
			require.NoError(t, p.Collect(t.Context()))
			for _, table := range p.Tables {
				readRows(t, table)
			}
			require.NoError(t, p.Detach())
			stats, err := p.EventStats()
			require.NoError(t, err)
			assert.Len(t, stats, len(p.EventIDs))
			for event, s := range stats {
				assert.Equal(t, s.Produced, s.Submitted+s.Dropped+s.Filtered+s.Limited, event)
			}
		})
	}
}
