// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNearest(t *testing.T) {
	valid := []string{"ebpf.cpu.off_cpu.time", "ebpf.cpu.run_queue.latency", "process.cpu.time", "s", "unit"}
	for _, test := range []struct {
		name, written, want string
	}{
		{"added", "unitt", "unit"},
		{"left out", "uni", "unit"},
		{"changed", "unid", "unit"},
		{"swapped", "uint", "unit"},
		{"upper case", "UNIT", "unit"},
		{"dash for underscore", "ebpf.cpu.run-queue.latency", "ebpf.cpu.run_queue.latency"},
		{"another word", "ebpf.cpu.runqueue.latencies", "ebpf.cpu.run_queue.latency"},
		{"the end of a name", "run_queue.latency", "ebpf.cpu.run_queue.latency"},
		{"the end of two names", "time", ""},
		{"part of a word at the end", "atency", ""},
		{"far", "memory", ""},
		{"every letter differs", "x", ""},
		{"nothing", "", ""},
		{"itself", "unit", "unit"},
		{"endless", strings.Repeat("u", 1<<20), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, Nearest(test.written, valid))
		})
	}
	assert.Empty(t, Nearest("unit", nil))
	assert.Equal(t, "abcd", Nearest("abcx", []string{"abcd", "abce"}), "the first of two equally near ones")
}

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "", 3},
		{"kitten", "sitting", 3},
		{"ab", "ba", 1},
		{"ca", "abc", 3}, // restricted: what was swapped is not changed again
		{"abcdef", "abdcef", 1},
	} {
		assert.Equal(t, test.want, distance(test.a, test.b), "%q and %q", test.a, test.b)
		assert.Equal(t, test.want, distance(test.b, test.a), "%q and %q", test.b, test.a)
	}
}

func TestUnknown(t *testing.T) {
	require.EqualError(t, Unknown("metric", "uint", []string{"unit", "type"}), `unknown metric "uint", did you mean "unit"?`)
	require.EqualError(t, Unknown("metric", "x", []string{"unit", "type"}), `unknown metric "x": valid are type, unit`)
	assert.EqualError(t, Unknown("metric", "x", nil), `unknown metric "x": there are none`)
}
