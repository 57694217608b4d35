// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"strings"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

// unique tells whether two rows of a table are never one series of the metric: whether each byte of the key is known to
// make a difference in the attributes, or to be the same in all keys.
func (m *metric) unique(t *probe.Table, p *probe.Probe) bool {
	if m.container != nil {
		return false // of which several cgroups can be
	}
	known := make([]bool, t.KeySize)
	know := func(offset, size int) {
		for i := offset; i < min(offset+size, len(known)); i++ {
			known[i] = true
		}
	}
	for i := range m.columns {
		if !m.columns[i].Exact() {
			return false
		}
		know(m.columns[i].Offset, m.columns[i].Size)
	}
	on := variables(p)
	for _, d := range p.Spec.Dimensions {
		if f, err := layout.FieldOf(t.Key, d.Field); err == nil && d.Variable != "" && !on[d.Variable] {
			know(f.Offset, f.Size) // programs leave it zero
		}
	}
	leaves, err := layout.Leaves(t.Key)
	if err != nil {
		return false
	}
	for _, f := range leaves {
		if isPadding(f.Path) {
			continue
		}
		for i := f.Offset; i < min(f.Offset+f.Size, len(known)); i++ {
			if !known[i] {
				return false
			}
		}
	}
	return true
}

// variables are those that tell the programs that a dimension was selected, by whatever metric.
func variables(p *probe.Probe) map[string]bool {
	on := make(map[string]bool)
	for _, m := range p.Settings.Metrics {
		for _, name := range m.Attributes {
			on[p.Spec.Dimensions[name].Variable] = true
		}
	}
	return on
}

// isPadding knows a member that fills a gap by its name. Bytes that no member has are zero too, or the verifier would
// not let a program use the key.
func isPadding(name string) bool {
	return strings.HasPrefix(name, "unused") || strings.HasPrefix(name, "pad") || strings.HasPrefix(name, "_")
}
