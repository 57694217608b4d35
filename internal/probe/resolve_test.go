// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func demo(t *testing.T) *Spec {
	t.Helper()
	spec, err := Parse(os.DirFS("testdata/demo"), "testdata/demo/probe.yaml")
	require.NoError(t, err)
	return spec
}

func ptr[T any](v T) *T { return &v }

func TestResolveDefaults(t *testing.T) {
	settings, err := demo(t).Resolve(Config{})
	require.NoError(t, err)
	assert.Equal(t, Settings{
		Options: map[string]any{"min_latency": int64(0), "per_thread": false, "buffer": int64(65536), "depth": int64(3)},
		Metrics: map[string]MetricSettings{
			"ebpf.demo.latency": {Attributes: []string{"container"}},
			"system.disk.io":    {Attributes: []string{}},
		},
		Events:    map[string]EventSettings{},
		MaxSeries: 10_000,
		RingSize:  2 << 20,
	}, settings)
}

func TestResolve(t *testing.T) {
	settings, err := demo(t).Resolve(Config{
		Options: map[string]any{"min_latency": "10ms", "per_thread": true, "buffer": 8192, "depth": nil},
		Metrics: map[string]MetricConfig{
			"ebpf.demo.latency": {Attributes: []string{"state", "process"}, MaxSeries: 5},
			"ebpf.demo.queue":   {Enabled: ptr(true)},
			"system.disk.io":    {Enabled: ptr(false)},
		},
		Events: map[string]EventConfig{
			"ebpf.demo.exec": {Enabled: ptr(true), RateLimit: 0.5, Filter: FilterConfig{
				PIDs: []uint32{7, 1, 7}, UIDs: []uint32{0}, Commands: []string{"fifteen_letters", "bash"},
				Cgroups: []string{"/user.slice/", "/system.slice//cron.service", "/user.slice"},
			}},
		},
		MaxSeries: 10_000_000,
		RingSize:  1 << 30,
	})
	require.NoError(t, err)
	assert.Equal(t, Settings{
		Options: map[string]any{
			"min_latency": int64(10_000_000), "per_thread": true, "buffer": int64(8192), "depth": int64(3),
		},
		Metrics: map[string]MetricSettings{
			"ebpf.demo.latency": {Attributes: []string{"process", "state"}, MaxSeries: 5},
			"ebpf.demo.queue":   {Attributes: []string{}},
		},
		Events: map[string]EventSettings{"ebpf.demo.exec": {RateLimit: 0.5, Filter: Filter{
			PIDs: []uint32{1, 7}, UIDs: []uint32{0}, Commands: []string{"bash", "fifteen_letters"},
			CgroupPaths: []string{"/system.slice/cron.service", "/user.slice"},
		}}},
		MaxSeries: 10_000_000,
		RingSize:  1 << 30,
	}, settings)
}

// Not to choose attributes and to choose none are two things.
func TestResolveNoAttributes(t *testing.T) {
	settings, err := demo(t).Resolve(Config{Metrics: map[string]MetricConfig{"ebpf.demo.latency": {Attributes: []string{}}}})
	require.NoError(t, err)
	assert.Equal(t, MetricSettings{Attributes: []string{}}, settings.Metrics["ebpf.demo.latency"])
}

func TestResolveMistakes(t *testing.T) {
	page := os.Getpagesize()
	ring := fmt.Sprintf("ring_size: want a power of two from %d to 1073741824 bytes, have ", page)
	metric := func(m MetricConfig) Config { return Config{Metrics: map[string]MetricConfig{"ebpf.demo.latency": m}} }
	event := func(e EventConfig) Config { return Config{Events: map[string]EventConfig{"ebpf.demo.exec": e}} }
	option := func(name string, v any) Config { return Config{Options: map[string]any{name: v}} }
	filter := func(f FilterConfig) Config { return event(EventConfig{Filter: f}) }
	for _, test := range []struct {
		name   string
		config Config
		want   string
	}{
		{"option", option("min_latenzy", "1s"), `unknown option "min_latenzy", did you mean "min_latency"?`},
		{"misspelt key", option("metrix", nil), `unknown option "metrix", did you mean "metrics"?`},
		{
			"far option", option("colour", 1),
			`unknown option "colour": valid are buffer, depth, events, max_series, metrics, min_latency, per_thread, redact, required, ring_size, series_ttl`,
		},
		{"duration without unit", option("min_latency", 5), "min_latency: want a duration with a unit, such as 5ms, have the number 5"},
		{"duration of another type", option("min_latency", true), "min_latency: want a duration such as 10ms, have the boolean true"},
		{"long duration", option("min_latency", "61m"), "min_latency: 61m is more than the maximum, 1h"},
		{"no bool", option("per_thread", "true"), `per_thread: want true or false, have the string "true"`},
		{"small size", option("buffer", "4kB"), "buffer: 4kB is less than the minimum, 4KiB"},
		{"no size", option("buffer", []any{}), "buffer: want a size such as 64KiB, have a list"},
		{"no integer", option("depth", 1.5), "depth: want an integer, have the number 1.5"},
		{"large integer", option("depth", 17), "depth: 17 is more than the maximum, 16"},
		{
			"metric",
			Config{Metrics: map[string]MetricConfig{"demo.latency": {}}},
			`metrics: unknown metric "demo.latency", did you mean "ebpf.demo.latency"?`,
		},
		{
			"attribute", metric(MetricConfig{Attributes: []string{"containr"}}),
			`metrics::ebpf.demo.latency::attributes: unknown attribute "containr", did you mean "container"?`,
		},
		{
			"attribute twice", metric(MetricConfig{Attributes: []string{"state", "state"}}),
			`metrics::ebpf.demo.latency::attributes: "state" is listed twice`,
		},
		{
			"attribute of a metric without",
			Config{Metrics: map[string]MetricConfig{"system.disk.io": {Attributes: []string{"state"}}}},
			`metrics::system.disk.io::attributes: unknown attribute "state": there are none`,
		},
		{
			"series of a metric", metric(MetricConfig{MaxSeries: 10_000_001}),
			"metrics::ebpf.demo.latency::max_series: want 1 to 10000000, have 10000001",
		},
		{"series", Config{MaxSeries: -1}, "max_series: want 1 to 10000000, have -1"},
		{"small ring", Config{RingSize: page / 2}, ring + strconv.Itoa(page/2)},
		{"odd ring", Config{RingSize: page * 3}, ring + strconv.Itoa(page*3)},
		{"large ring", Config{RingSize: 1 << 31}, ring + "2147483648"},
		{"negative ring", Config{RingSize: math.MinInt}, ring + strconv.Itoa(math.MinInt)},
		{
			"event",
			Config{Events: map[string]EventConfig{"ebpf.demo.exek": {}}},
			`events: unknown event "ebpf.demo.exek", did you mean "ebpf.demo.exec"?`,
		},
		{
			"rate", event(EventConfig{RateLimit: -1}),
			"events::ebpf.demo.exec::rate_limit: want 0, for none, or 0.001 to 1e+09 events a second, have -1",
		},
		{
			"no rate", event(EventConfig{RateLimit: math.NaN()}),
			"events::ebpf.demo.exec::rate_limit: want 0, for none, or 0.001 to 1e+09 events a second, have NaN",
		},
		{"pid", filter(FilterConfig{PIDs: []uint32{0}}), "events::ebpf.demo.exec::filter::pids: 0 is not a process"},
		{
			"command", filter(FilterConfig{Commands: []string{"sixteen_letters_"}}),
			`events::ebpf.demo.exec::filter::commands: "sixteen_letters_" is longer than the 15 bytes that the kernel keeps, which would be "sixteen_letters"`,
		},
		{"empty command", filter(FilterConfig{Commands: []string{""}}), "events::ebpf.demo.exec::filter::commands: a command must not be empty"},
		{"zero byte", filter(FilterConfig{Commands: []string{"a\x00"}}), `events::ebpf.demo.exec::filter::commands: "a\x00" has a zero byte`},
		{
			"cgroup", filter(FilterConfig{Cgroups: []string{"cron.service"}}),
			`events::ebpf.demo.exec::filter::cgroups: "cron.service" is not the path of a cgroup, such as /system.slice/cron.service`,
		},
		{
			"cgroup outside", filter(FilterConfig{Cgroups: []string{"/a/../../b"}}),
			`events::ebpf.demo.exec::filter::cgroups: "/a/../../b" is not the path of a cgroup, such as /system.slice/cron.service`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			settings, err := demo(t).Resolve(test.config)
			require.EqualError(t, err, test.want)
			assert.Zero(t, settings)
		})
	}
}

// A mistake in what is switched off is a mistake, and all are reported at once, each with its place.
func TestResolveAllMistakes(t *testing.T) {
	_, err := demo(t).Resolve(Config{
		Options:   map[string]any{"depth": "x"},
		Metrics:   map[string]MetricConfig{"ebpf.demo.queue": {Enabled: ptr(false), Attributes: []string{"a"}}, "b": {}},
		MaxSeries: -1,
	})
	require.Error(t, err)
	assert.Equal(t, []string{
		`depth: want an integer, have the string "x"`,
		`metrics: unknown metric "b": valid are ebpf.demo.latency, ebpf.demo.queue, system.disk.io`,
		`metrics::ebpf.demo.queue::attributes: unknown attribute "a": there are none`,
		`max_series: want 1 to 10000000, have -1`,
	}, strings.Split(err.Error(), "\n"))

	var unknown *UnknownError
	require.ErrorAs(t, err, &unknown)
	assert.Equal(t, "b", unknown.Name)
	var typed *ConfigError
	require.ErrorAs(t, err, &typed)
	assert.Equal(t, []string{"depth"}, typed.Path)
}

func TestPrefixConfig(t *testing.T) {
	cause := errors.New("cause")
	joined := errors.Join(&ConfigError{Path: []string{"ring_size"}, Err: cause}, &ConfigError{Err: cause}, cause)
	err := PrefixConfig(joined, "probes", "cpu")
	require.EqualError(t, err, "probes::cpu::ring_size: cause\nprobes::cpu: cause\nprobes::cpu: cause")
	require.ErrorIs(t, err, cause)
	require.NoError(t, PrefixConfig(nil, "probes"))
	assert.EqualError(t, &ConfigError{Err: cause}, "cause")
}

func TestParseValue(t *testing.T) {
	for _, test := range []struct {
		optionType string
		written    any
		want       any
	}{
		{OptionBool, true, true},
		{OptionInt, int64(-1), int64(-1)},
		{OptionInt, uint64(math.MaxInt64), int64(math.MaxInt64)},
		{OptionInt, uint64(math.MaxInt64 + 1), nil},
		{OptionInt, 1e3, int64(1000)},
		{OptionInt, math.Pow(2, 63), nil},
		{OptionInt, -math.Pow(2, 63), int64(math.MinInt64)},
		{OptionInt, math.NaN(), nil},
		{OptionDuration, "1h2m3s4ms5us6ns", int64(3_723_004_005_006)},
		{OptionDuration, time.Second, int64(1e9)},
		{OptionDuration, -time.Second, nil},
		{OptionDuration, "0", int64(0)},
		{OptionDuration, 0, int64(0)},
		{OptionDuration, "", nil},
		{OptionDuration, "-1ns", nil},
		{OptionDuration, nil, nil},
		{OptionSize, "0", int64(0)},
		{OptionSize, "1", int64(1)},
		{OptionSize, "12B", int64(12)},
		{OptionSize, "12 KiB", int64(12_288)},
		{OptionSize, "3kb", int64(3000)},
		{OptionSize, "1MB", int64(1e6)},
		{OptionSize, "1MiB", int64(1 << 20)},
		{OptionSize, "2GB", int64(2e9)},
		{OptionSize, "2gib", int64(2 << 30)},
		{OptionSize, "1TB", int64(1e12)},
		{OptionSize, "1TiB", int64(1 << 40)},
		{OptionSize, "9223372036854775807", int64(math.MaxInt64)},
		{OptionSize, "9223372036854775808", nil},
		{OptionSize, "8388608TiB", nil}, // 2^63
		{OptionSize, "8388607TiB", int64(8388607 << 40)},
		{OptionSize, "KiB", nil},
		{OptionSize, "-1KiB", nil},
		{OptionSize, "1.5KiB", nil},
		{OptionSize, -1, nil},
		{"colour", "red", nil},
	} {
		t.Run(fmt.Sprintf("%s %v", test.optionType, test.written), func(t *testing.T) {
			got, err := parseValue(test.optionType, test.written)
			assert.Equal(t, test.want == nil, err != nil, "%v", err)
			if err == nil {
				assert.Equal(t, test.want, got)
			}
		})
	}
}
