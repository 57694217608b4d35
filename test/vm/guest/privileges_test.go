// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// pretended are a receiver's probes, which need CAP_BPF, and what is here on top: with everything, and b in any case. One of a's events is never there.
var pretended = map[string]string{"a": "CAP_DAC_READ_SEARCH", "b": "CAP_NET_RAW", "c": "CAP_DAC_READ_SEARCH"}

func pretendedSpecs() map[string]*probe.Spec {
	specs := make(map[string]*probe.Spec)
	for name := range pretended {
		specs[name] = &probe.Spec{Metrics: map[string]probe.Metric{name + ".always": {}, name + ".more": {}}}
	}
	specs["a"].Events = map[string]probe.Event{"a.never": {}}
	return specs
}

// pretend observes them. What is said without a capability may be changed.
func pretend(change func(missing string, o *observation)) trier {
	return func(set []string, config map[string]any) (o observation, err error) {
		if !slices.Contains(set, "CAP_BPF") {
			o.Complaints = []string{"not permitted without CAP_BPF (or CAP_SYS_ADMIN)"}
			change("CAP_BPF", &o)
			return o, nil
		}
		probes := config["probes"].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(probes)) {
			extra, _ := probes[name].(map[string]any)
			everything := extra["metrics"] != nil
			needed := pretended[name]
			switch allowed := slices.Contains(set, needed); {
			case name == "b" && !allowed:
				o.Complaints = append(o.Complaints, "attach probe b: not permitted without "+needed)
				continue
			case everything && !allowed:
				o.Complaints = append(o.Complaints, fmt.Sprintf("probe %s: %s.more is not available: not permitted without %s", name, name, needed))
			case everything:
				o.Data = append(o.Data, name+".more")
			}
			if everything && name == "a" {
				o.Complaints = append(o.Complaints, "probe a: a.never is not available: this kernel has no tracepoint")
			}
			o.Data = append(o.Data, name+".always")
		}
		for _, missing := range []string{"CAP_DAC_READ_SEARCH", "CAP_NET_RAW"} {
			if !slices.Contains(set, missing) {
				change(missing, &o)
			}
		}
		return o, nil
	}
}

func unchanged(string, *observation) {}

var searched = []string{"CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH", "CAP_NET_RAW", "CAP_BPF"}

// What is told comes in the same order every time.
func TestSearch(t *testing.T) {
	const never = "probe a: a.never is not available: this kernel has no tracepoint"
	const bpf = "not permitted without CAP_BPF (or CAP_SYS_ADMIN)"
	without := func(pairs ...string) map[string]string {
		m := map[string]string{"CAP_BPF": bpf}
		if len(pairs) > 0 {
			m[pairs[0]] = pairs[1]
		}
		return m
	}
	want := []outcome.Privileges{
		{Probe: "a", What: outcome.Defaults, Capabilities: []string{"CAP_BPF"}, Without: without()},
		{
			Probe: "a", What: outcome.Everything, Capabilities: []string{"CAP_DAC_READ_SEARCH", "CAP_BPF"}, Never: []string{never},
			Without: without("CAP_DAC_READ_SEARCH", "probe a: a.more is not available: not permitted without CAP_DAC_READ_SEARCH"),
		},
		{
			Probe: "b", What: outcome.Defaults, Capabilities: []string{"CAP_NET_RAW", "CAP_BPF"},
			Without: without("CAP_NET_RAW", "attach probe b: not permitted without CAP_NET_RAW"),
		},
		{
			Probe: "b", What: outcome.Everything, Capabilities: []string{"CAP_NET_RAW", "CAP_BPF"},
			Without: without("CAP_NET_RAW", "attach probe b: not permitted without CAP_NET_RAW"),
		},
		{Probe: "c", What: outcome.Defaults, Capabilities: []string{"CAP_BPF"}, Without: without()},
		{
			Probe: "c", What: outcome.Everything, Capabilities: []string{"CAP_DAC_READ_SEARCH", "CAP_BPF"},
			Without: without("CAP_DAC_READ_SEARCH", "probe c: c.more is not available: not permitted without CAP_DAC_READ_SEARCH"),
		},
	}
	for range 5 {
		var told []outcome.Privileges
		everything, err := search(pretendedSpecs(), searched, pretend(unchanged), func(line outcome.Line) { told = append(told, *line.Privileges) })
		require.NoError(t, err)
		require.Equal(t, want, told)
		require.Equal(t, map[string][]string{"a": want[1].Capabilities, "b": want[3].Capabilities, "c": want[5].Capabilities}, everything)
	}
}

// Each probe that needs what is missing has to say so, once, and the others nothing.
func TestOneMissing(t *testing.T) {
	needs := map[string][]string{"a": {"CAP_DAC_READ_SEARCH", "CAP_BPF"}, "b": {"CAP_NET_RAW", "CAP_BPF"}, "c": {"CAP_DAC_READ_SEARCH", "CAP_BPF"}}
	for _, tt := range []struct {
		name   string
		change func(missing string, o *observation)
		fails  []string // a line each
	}{
		{name: "as it should", change: unchanged},
		{
			name: "a probe does not say so",
			change: func(_ string, o *observation) {
				o.Complaints = slices.DeleteFunc(o.Complaints, func(s string) bool { return strings.HasPrefix(s, "probe c:") })
			},
			fails: []string{"without CAP_DAC_READ_SEARCH, c tells of it in 0 sentences, and not in 1: "},
		},
		{
			name: "none does",
			change: func(missing string, o *observation) {
				if missing == "CAP_BPF" {
					o.Complaints = nil
				}
			},
			fails: []string{
				"without CAP_BPF, a tells of it in 0 sentences", "without CAP_BPF, b tells of it in 0 sentences", "without CAP_BPF, c tells of it in 0 sentences",
			},
		},
		{
			name: "a probe says it twice",
			change: func(missing string, o *observation) {
				if missing == "CAP_NET_RAW" {
					o.Complaints = append(o.Complaints, "probe b: b.more is not available: not permitted without CAP_NET_RAW")
				}
			},
			fails: []string{"without CAP_NET_RAW, b tells of it in 2 sentences, and not in 1: "},
		},
		{
			name: "something else is said",
			change: func(missing string, o *observation) {
				if missing == "CAP_NET_RAW" {
					o.Complaints[1] = "attach probe b: operation not permitted"
				}
			},
			fails: []string{`without CAP_NET_RAW, something else is said to be missing: "attach probe b: operation not permitted"`},
		},
		{
			name: "one that does not need it complains",
			change: func(missing string, o *observation) {
				if missing == "CAP_NET_RAW" {
					o.Complaints = append(o.Complaints, "probe c: interface lo is not available: not permitted without CAP_NET_RAW")
				}
			},
			fails: []string{"without CAP_NET_RAW, c tells of it in 1 sentences, and not in 0: "},
		},
		{
			name: "one that does not need it loses its data",
			change: func(missing string, o *observation) {
				if missing == "CAP_NET_RAW" {
					o.Data = slices.DeleteFunc(o.Data, func(s string) bool { return strings.HasSuffix(s, ".more") })
				}
			},
			fails: []string{
				"a needs no CAP_NET_RAW, and without it a.more does not arrive: ", "c needs no CAP_NET_RAW, and without it c.more does not arrive: ",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 3 {
				err := oneMissing(pretendedSpecs(), needs, pretend(tt.change))
				if len(tt.fails) == 0 {
					require.NoError(t, err)
					continue
				}
				require.Error(t, err)
				lines := strings.Split(err.Error(), "\n")
				require.Len(t, lines, len(tt.fails), err)
				for i, line := range lines {
					assert.Contains(t, line, tt.fails[i])
				}
			}
		})
	}
}
