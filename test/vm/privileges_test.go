// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// saying is what a probe said without a capability.
func saying(probe, what, capability, sentence string) outcome.Privileges {
	return outcome.Privileges{Probe: probe, What: what, Capabilities: []string{capability}, Without: map[string]string{capability: sentence}}
}

// Which of several sentences is published does not depend on who spoke last.
func TestSentences(t *testing.T) {
	const resource, raw = "CAP_SYS_RESOURCE", "CAP_NET_RAW"
	old := []outcome.Privileges{
		saying("flow", outcome.Defaults, resource, "probe flow: not permitted to create map .bss without CAP_SYS_RESOURCE"),
		saying("flow", outcome.Everything, resource, "probe flow: not permitted to create map .a without CAP_SYS_RESOURCE"),
		saying("process", outcome.Defaults, resource, "probe process: not permitted to create map .b without CAP_SYS_RESOURCE"),
		saying("flow", outcome.Defaults, raw, "old"),
	}
	newer := []outcome.Privileges{saying("flow", outcome.Defaults, raw, "newer, and longer"), saying("udp", outcome.Defaults, raw, "newer, and longer.")}
	want := []string{"without CAP_NET_RAW: “newer, and longer”", "without CAP_SYS_RESOURCE: “probe flow: not permitted to create map .a without CAP_SYS_RESOURCE”"}
	var results []*result
	for _, list := range [][]outcome.Privileges{old, newer} {
		results = append(results, &result{Environment: privileges, Privileges: list})
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		for _, r := range results {
			random.Shuffle(len(r.Privileges), func(i, j int) { r.Privileges[i], r.Privileges[j] = r.Privileges[j], r.Privileges[i] })
		}
		require.Equal(t, want, sentences(results))
	}
}

// The page is the same, whatever the order in which a guest told of its probes; the notes' numbers are, too.
func TestPrivilegesDocumentInAnyOrder(t *testing.T) {
	var list []outcome.Privileges
	for _, probe := range []string{"cpu", "flow", "udp"} {
		for _, what := range []string{outcome.Defaults, outcome.Everything} {
			p := saying(probe, what, "CAP_BPF", "not permitted for "+probe)
			p.Never = []string{probe + " " + what}
			list = append(list, p)
		}
	}
	text := func() string {
		return privilegesDocument([]*result{{Column: "6.1 amd64", Environment: privileges, Privileges: slices.Clone(list)}})
	}
	want := text()
	assert.Contains(t, want, "\n- [1] cpu by default\n- [2] cpu with everything\n- [3] flow by default\n")
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		require.Equal(t, want, text())
	}
}
