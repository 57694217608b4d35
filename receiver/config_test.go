// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

// fakeProbes stand in for the built-in ones, so that the catalogue can grow without changing a test.
func fakeProbes(t *testing.T) map[string]*probe.Spec {
	t.Helper()
	specs, err := probe.Builtin(os.DirFS(filepath.Join("testdata", "probes")))
	require.NoError(t, err)
	return specs
}

func load(t *testing.T, name string) *Config {
	t.Helper()
	conf, err := confmaptest.LoadConf(filepath.Join("testdata", "config", name+".yaml"))
	require.NoError(t, err)
	cfg := NewFactory().CreateDefaultConfig().(*Config)
	require.NoError(t, conf.Unmarshal(cfg))
	return cfg
}

func TestConfigDefaults(t *testing.T) {
	for _, name := range []string{"nothing", "null_probes"} {
		cfg := load(t, name)
		require.NoError(t, cfg.validate(fakeProbes(t)))
		assert.Equal(t, NewFactory().CreateDefaultConfig(), cfg)
		assert.Equal(t, []string{"cpu", "process"}, cfg.probeNames())
		p, err := cfg.resolve("cpu", fakeProbes(t)["cpu"])
		require.NoError(t, err)
		assert.Equal(t, map[string]probe.MetricSettings{
			"ebpf.cpu.run_queue.latency": {Attributes: []string{"container"}},
		}, p.Settings.Metrics)
		assert.Equal(t, probe.DefaultMaxSeries, p.Settings.MaxSeries)
		assert.Equal(t, probe.DefaultRingSize, p.Settings.RingSize)
		assert.Equal(t, probe.DefaultSeriesTTL, p.SeriesTTL)
		assert.False(t, p.Required)
	}
}

// The catalogue that is really built in must suit the default configuration.
func TestConfigDefaultsAreValid(t *testing.T) {
	require.NoError(t, confmap.Validate(NewFactory().CreateDefaultConfig()))
}

func TestConfigEverything(t *testing.T) {
	cfg, specs := load(t, "everything"), fakeProbes(t)
	require.NoError(t, cfg.validate(specs))
	assert.Equal(t, 5*time.Second, cfg.CollectionInterval)
	assert.Equal(t, Delta, cfg.Temporality)
	assert.Equal(t, "/hostfs", cfg.RootPath)
	assert.Equal(t, "memory", cfg.CgroupHierarchy)
	assert.True(t, cfg.ResourceAttributes.ContainerID.Enabled)
	assert.False(t, cfg.ResourceAttributes.ContainerRuntimeName.Enabled)

	cpu, err := cfg.resolve("cpu", specs["cpu"])
	require.NoError(t, err)
	assert.True(t, cpu.Required)
	assert.Equal(t, 2*time.Minute, cpu.SeriesTTL)
	assert.Equal(t, 600, cpu.Settings.MaxSeries)
	assert.Equal(t, map[string]any{"min_latency": int64(10 * time.Millisecond), "per_thread": true}, cpu.Settings.Options)
	assert.Equal(t, map[string]probe.MetricSettings{
		"process.cpu.time": {Attributes: []string{"process"}},
	}, cpu.Settings.Metrics, "the probe's own keys go before the top-level ones")

	process, err := cfg.resolve("process", specs["process"])
	require.NoError(t, err)
	assert.False(t, process.Required)
	assert.Equal(t, time.Minute, process.SeriesTTL)
	assert.Equal(t, 500, process.Settings.MaxSeries)
	assert.Equal(t, 4<<20, process.Settings.RingSize)
	require.Len(t, process.Redact, 1)
	assert.Equal(t, "x", process.Redact[0].ReplaceAllString("--password=secret", "x"))
	assert.Equal(t, map[string]probe.EventSettings{
		"ebpf.process.fork": {RateLimit: 1000, Filter: probe.Filter{
			UIDs: []uint32{0, 1000}, Commands: []string{"nginx"}, CgroupPaths: []string{"/system.slice"},
		}},
	}, process.Settings.Events)
}

func TestConfigTopLevelMetric(t *testing.T) {
	cfg, specs := load(t, "everything"), fakeProbes(t)
	cfg.Probes["cpu"] = ProbeConfig{}
	cpu, err := cfg.resolve("cpu", specs["cpu"])
	require.NoError(t, err)
	assert.Equal(t, map[string]probe.MetricSettings{
		"ebpf.cpu.run_queue.latency": {Attributes: []string{"process"}, MaxSeries: 2000},
	}, cpu.Settings.Metrics)
}

func TestConfigProbeWithoutValue(t *testing.T) {
	cfg, specs := load(t, "null_probe"), fakeProbes(t)
	require.NoError(t, cfg.validate(specs))
	assert.Equal(t, []string{"file"}, cfg.probeNames())
	file, err := cfg.resolve("file", specs["file"])
	require.NoError(t, err)
	assert.Contains(t, file.Settings.Metrics, "ebpf.file.io")
}

// provider is a [confmap.Provider] for one scheme.
type provider struct {
	scheme string
	read   func(name string) ([]byte, error)
}

func newProvider(scheme string, read func(name string) ([]byte, error)) confmap.ProviderFactory {
	return confmap.NewProviderFactory(func(confmap.ProviderSettings) confmap.Provider { return provider{scheme, read} })
}

func (p provider) Scheme() string { return p.scheme }

func (p provider) Retrieve(_ context.Context, uri string, _ confmap.WatcherFunc) (*confmap.Retrieved, error) {
	text, err := p.read(strings.TrimPrefix(uri, p.scheme+":"))
	if err != nil {
		return nil, err
	}
	return confmap.NewRetrievedFromYAML(text)
}

func (provider) Shutdown(context.Context) error { return nil }

func getenv(name string) ([]byte, error) { return []byte(os.Getenv(name)), nil }

// Values of environment variables keep their types on the way to a probe's own keys.
func TestConfigEnvironment(t *testing.T) {
	t.Setenv("EBPF_TEST_MAX_SERIES", "77")
	t.Setenv("EBPF_TEST_LATENCY", "3ms")
	t.Setenv("EBPF_TEST_THREADS", "true")
	resolver, err := confmap.NewResolver(confmap.ResolverSettings{
		URIs:              []string{"file:" + filepath.Join("testdata", "config", "environment.yaml")},
		ProviderFactories: []confmap.ProviderFactory{newProvider("file", os.ReadFile), newProvider("env", getenv)},
	})
	require.NoError(t, err)
	conf, err := resolver.Resolve(t.Context())
	require.NoError(t, err)
	cfg, specs := NewFactory().CreateDefaultConfig().(*Config), fakeProbes(t)
	require.NoError(t, conf.Unmarshal(cfg))
	require.NoError(t, cfg.validate(specs))
	cpu, err := cfg.resolve("cpu", specs["cpu"])
	require.NoError(t, err)
	assert.Equal(t, 77, cpu.Settings.MaxSeries)
	assert.Equal(t, map[string]any{"min_latency": int64(3 * time.Millisecond), "per_thread": true}, cpu.Settings.Options)
}

// Validate does not look into a user's folder; what it finds there is an error of Start.
func TestConfigOwnProbe(t *testing.T) {
	cfg, specs := load(t, "own_probe"), fakeProbes(t)
	require.NoError(t, cfg.validate(specs))

	_, err := cfg.spec("mine", specs)
	require.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, "probes::mine::path: reading /no/such/folder/probe.yaml: ")

	c := cfg.Probes["mine"]
	c.Path, err = filepath.Abs(filepath.Join("testdata", "mine"))
	require.NoError(t, err)
	cfg.Probes["mine"] = c
	spec, err := cfg.spec("mine", specs)
	require.NoError(t, err)
	_, err = cfg.resolve("mine", spec)
	require.EqualError(t, err, `probes::mine::metrics::mine.io::attributes: unknown attribute "x": there are none`)

	c.Metrics = nil
	cfg.Probes["mine"] = c
	mine, err := cfg.resolve("mine", spec)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"depth": int64(3)}, mine.Settings.Options)
	assert.Equal(t, 7, mine.Settings.MaxSeries)
	assert.Empty(t, mine.Settings.Metrics, "switched off by the top-level key")
}

// A list of interfaces is short for those to include; a choice of attributes is for all metrics that have one.
func TestConfigPackets(t *testing.T) {
	cfg := load(t, "packets")
	require.NoError(t, cfg.Validate())
	builtin, err := probe.Builtin(bpf.Probes)
	require.NoError(t, err)
	p, err := cfg.resolve("flow", builtin["flow"])
	require.NoError(t, err)
	assert.Equal(t, probe.Interfaces{Include: []string{"eth*", "wlan0"}, AllNamespaces: true}, p.Settings.Interfaces)
	assert.Equal(t, "tcp and not port 22", p.Settings.PacketFilter)
	assert.Equal(t, []string{"server.port", "source.address"}, p.Settings.Metrics["ebpf.flow.packets"].Attributes)
	assert.Equal(t, []string{"network.transport"}, p.Settings.Metrics["ebpf.flow.io"].Attributes)
	assert.Empty(t, p.Settings.Metrics["ebpf.flow.broken_packets"].Attributes)
	assert.Equal(t, []probe.CIDR{
		{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Name: "office"},
		{Prefix: netip.MustParsePrefix("2001:db8::/32"), Name: "office"},
		{Prefix: netip.MustParsePrefix("192.0.2.7/32"), Name: "printer"},
	}, p.Settings.Options["cidrs"])
	assert.Equal(t, int64(0), p.Settings.Options["ports"])
}

func TestConfigPacketMistakes(t *testing.T) {
	err := load(t, "bad_packets").Validate()
	require.Error(t, err)
	assert.Equal(t, []string{
		`probes::flow::interfaces: unknown key "only": valid are exclude, include`,
		`probes::flow::cidrs: 10.0.0.1/8 has bits beyond its length: did you mean 10.0.0.0/8?`,
		`probes::flow::cidrs: "300.0.0.0/8" is not a range of addresses, such as 10.0.0.0/8`,
		`probes::flow::cidrs: want a name for 192.0.2.1, have the number 7`,
		`probes::flow::cidrs: 10.0.0.0/8 and 10.0.0.0/8 are the same range`,
		`probes::flow::cidrs: want a range with a name, such as "10.0.0.0/8: office", have the string "just-a-name"`,
		`probes::flow::ports: unknown value "both": valid are all, service`,
		`probes::flow::sampling: 0 is less than the minimum, 1`,
		`probes::flow::attributes: unknown attribute "source.adress", did you mean "source.address"?`,
		`probes::flow::attributes: "source.address" is listed twice`,
		`probes::flow::events::ebpf.flow::filter: no process is behind the event, and its filters are by process`,
		`probes::flow::interfaces::include: "eth[" is not the name of an interface, nor a pattern of such`,
		`probes::flow::interfaces::include: "" is not the name of an interface, nor a pattern of such`,
		`probes::flow::interfaces::exclude: "a[b" is not the name of an interface, nor a pattern of such`,
		`probes::flow::network_namespaces: unknown choice "mine": valid are all, host`,
		`probes::flow::filter: at "hsot" (column 13): hosts' names are not looked up; write an address`,
		`probes::process::interfaces: the probe sees no packets`,
		`probes::process::network_namespaces: the probe sees no packets`,
		`probes::process::filter: the probe sees no packets`,
	}, strings.Split(err.Error(), "\n    ")[1:])
}

func TestConfigMistakes(t *testing.T) {
	tests := map[string][]string{
		"bad_keys": {
			`unknown key "colection_interval", did you mean "collection_interval"?`,
			`metrics::ebpf.cpu.run_queue.latency: unknown key "enable", did you mean "enabled"?`,
			`probes::cpu::metrics::process.cpu.time: unknown key "atributes", did you mean "attributes"?`,
			`probes::process::events::ebpf.process.exec::filter: unknown key "uid", did you mean "uids"?`,
			`probes::cpu: unknown key "max_serie", did you mean "max_series"?`,
			`probes::cpu: unknown key "min_latncy", did you mean "min_latency"?`,
		},
		"bad_names": {
			`metrics: unknown metric "ebpf.cpu.run_queue.latncy", did you mean "ebpf.cpu.run_queue.latency"?`,
			`metrics::ebpf.file.io: it belongs to the probe "file", which is not among the probes to run`,
			`metrics::process.cpu.time::attributes: unknown attribute "proces", did you mean "process"?`,
			`probes::cpu::metrics::ebpf.cpu.run_queue.latency::attributes: unknown attribute "contaner", did you mean "container"?`,
			`probes: unknown probe "proces", did you mean "process"? (a probe of your own needs a path)`,
		},
		"bad_values": {
			`collection_interval: want at least 100ms, have 1ms`,
			`temporality: unknown temporality "detla", did you mean "delta"?`,
			`root_path: "hostfs" is not an absolute path`,
			`cgroup_hierarchy: unknown hierarchy "memroy", did you mean "memory"?`,
			`max_series: want 1 to 10000000, have 0`,
			`series_ttl: a duration must not be negative`,
			`probes::cpu::series_ttl: 100µs is shorter than the collection_interval, 1ms`,
			`probes::cpu::min_latency: 2s is more than the maximum, 1s`,
			`probes::cpu::per_thread: want true or false, have the number 1`,
			`probes::cpu::max_series: want 1 to 10000000, have -1`,
			`probes::process::events::ebpf.process.exec::rate_limit: want 0, for none, or 0.001 to 1e+09 events a second, have -1`,
			`probes::process::ring_size: want a power of two from 4096 to 1073741824 bytes, have 5000`,
			"probes::process::redact: \"(\" is not a regular expression: error parsing regexp: missing closing ): `(`",
			"probes::process::redact: \")\" is not a regular expression: error parsing regexp: unexpected ): `)`",
		},
		"bad_own_probe": {
			`probes::mine::path: "relative/folder" is not an absolute path`,
			`probes::mine::events::mine.event::rate_limit: want 0, for none, or 0.001 to 1e+09 events a second, have -5`,
			`probes::mine::max_series: want 1 to 10000000, have -1`,
		},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			err := load(t, name).validate(fakeProbes(t))
			require.Error(t, err)
			lines := strings.Split(err.Error(), "\n    ")
			assert.Equal(t, want, lines[1:])
		})
	}
}

// The decoder's own words are not ours to test, the places and their number are.
func TestConfigWrongTypes(t *testing.T) {
	err := load(t, "bad_types").validate(fakeProbes(t))
	require.Error(t, err)
	var places []string
	for _, line := range strings.Split(err.Error(), "\n    ")[1:] {
		place, _, _ := strings.Cut(line, ": ")
		places = append(places, place)
	}
	assert.Equal(t, []string{
		"collection_interval",
		"metrics::process.cpu.time::max_series",
		"probes::cpu::metrics::process.cpu.time::enabled",
		"probes::cpu::required",
		"probes::file::ring_size",
		"probes::process",
		"resource_attributes::container.id::enabled",
	}, places, "%v", err)
}

// Everything that was read can be shown again: the Collector prints its configuration.
func TestConfigRoundTrip(t *testing.T) {
	cfg, specs := load(t, "everything"), fakeProbes(t)
	conf := confmap.New()
	require.NoError(t, conf.Marshal(cfg))
	again := NewFactory().CreateDefaultConfig().(*Config)
	require.NoError(t, conf.Unmarshal(again))
	require.NoError(t, again.validate(specs))
	for _, name := range cfg.probeNames() {
		want, err := cfg.resolve(name, specs[name])
		require.NoError(t, err)
		got, err := again.resolve(name, specs[name])
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "4096": 4096, "64KiB": 64 << 10, "4 MiB": 4 << 20, " 1GiB ": 1 << 30, "4MB": 4_000_000} {
		var s Size
		require.NoError(t, s.UnmarshalText([]byte(text)))
		assert.Equal(t, want, s, text)
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "99999999999999999999", "4MiBKiB"} {
		var s Size
		require.Error(t, s.UnmarshalText([]byte(text)), text)
	}
}
