// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/metadata"
)

const (
	defaultCollectionInterval = 10 * time.Second
	// minCollectionInterval is well above what one exact snapshot of full maps takes.
	minCollectionInterval = 100 * time.Millisecond
)

// defaultProbes run when the configuration names none.
var defaultProbes = []string{"cpu", "process"}

// Temporality is how a sum or a histogram is reported.
type Temporality string

const (
	// Cumulative values count from a series' start.
	Cumulative Temporality = "cumulative"
	// Delta values count from the previous collection.
	Delta Temporality = "delta"
)

// The values of cgroup_hierarchy that are no v1 controllers.
const (
	hierarchyAuto = "auto"
	hierarchyV2   = "v2"
)

// cgroupHierarchies are the valid values of cgroup_hierarchy: the last five are v1 controllers.
var cgroupHierarchies = []string{hierarchyAuto, hierarchyV2, "cpu", "cpuacct", "cpuset", "memory", "pids"}

// Config is the receiver's configuration.
type Config struct {
	// CollectionInterval is the time between two snapshots of the metrics.
	CollectionInterval time.Duration `mapstructure:"collection_interval"`
	// Temporality of sums and histograms.
	Temporality Temporality `mapstructure:"temporality"`
	// RootPath is where the host's root file system is mounted, for a Collector in a container. Empty is "/".
	RootPath string `mapstructure:"root_path"`
	// SeriesTTL is how long a cumulative series is kept after its last change. 0 takes
	// [probe.DefaultSeriesTTL], or three collection intervals where that is longer.
	SeriesTTL time.Duration `mapstructure:"series_ttl"`
	// MaxSeries bounds each metric of which neither the probe nor the metric has a bound of its own.
	MaxSeries int `mapstructure:"max_series"`
	// CgroupHierarchy tells in which hierarchy containers have their cgroups: "v2", the name of a v1
	// controller, or "auto".
	CgroupHierarchy string `mapstructure:"cgroup_hierarchy"`
	// ProgramStatistics has the kernel count the runs of programs and their time, which costs every program on the host.
	ProgramStatistics bool `mapstructure:"program_statistics"`
	// ResourceAttributes can be switched off one by one.
	ResourceAttributes metadata.ResourceAttributesConfig `mapstructure:"resource_attributes"`
	// Metrics by name, of whichever probe. What a probe's own configuration says goes first.
	Metrics map[string]probe.MetricConfig `mapstructure:"metrics"`
	// Probes to run, by name. Empty: the default set. A key without a value takes the probe's defaults.
	Probes map[string]ProbeConfig `mapstructure:"probes"`

	// problems were found by Unmarshal. They are reported by Validate, with everything else that is wrong.
	problems []error
}

// ProbeConfig is one probe's configuration.
type ProbeConfig struct {
	// Path is the folder of a user's own probe: its probe.yaml and object. Empty for a built-in probe.
	Path string `mapstructure:"path"`
	// Required makes Start fail when any of the enabled metrics and events of the probe is not available.
	Required bool `mapstructure:"required"`
	// Metrics by name.
	Metrics map[string]probe.MetricConfig `mapstructure:"metrics"`
	// Events by name.
	Events map[string]probe.EventConfig `mapstructure:"events"`
	// MaxSeries takes the place of the receiver's.
	MaxSeries int `mapstructure:"max_series"`
	// SeriesTTL takes the place of the receiver's.
	SeriesTTL time.Duration `mapstructure:"series_ttl"`
	// Attributes of each metric that has a choice of them and none of its own.
	Attributes []string `mapstructure:"attributes"`
	// Interfaces that a probe which sees packets is attached to: globs of their names. Empty: the uplinks.
	Interfaces probe.InterfacesConfig `mapstructure:"interfaces"`
	// NetworkNamespaces is "host", which is the default, or "all".
	NetworkNamespaces string `mapstructure:"network_namespaces"`
	// Filter is an expression of pcap-filter(7), which the packets match that such a probe counts.
	Filter string `mapstructure:"filter"`
	// RingSize of the ring buffer for events; 0 takes [probe.DefaultRingSize].
	RingSize Size `mapstructure:"ring_size"`
	// Redact has regular expressions. What matches one is replaced in attributes that hold text from user memory.
	Redact []string `mapstructure:"redact"`
	// Options are the probe's own keys, as its probe.yaml declares them.
	Options map[string]any `mapstructure:",remain"`
}

var (
	_ confmap.Unmarshaler = (*Config)(nil)
	_ confmap.Validator   = (*Config)(nil)
)

func createDefaultConfig() component.Config {
	return &Config{
		CollectionInterval: defaultCollectionInterval,
		Temporality:        Cumulative,
		MaxSeries:          probe.DefaultMaxSeries,
		CgroupHierarchy:    hierarchyAuto,
		ResourceAttributes: metadata.DefaultResourceAttributesConfig(),
	}
}

// Unmarshal implements [confmap.Unmarshaler]. Unknown keys and values of a wrong type are kept for
// Validate, so that a user sees all mistakes at once, each with its place.
func (cfg *Config) Unmarshal(conf *confmap.Conf) error {
	cfg.problems = unknownKeys(cfg, conf.ToStringMap())
	if _, list := conf.Get("probes").([]any); list {
		cfg.problems = append(cfg.problems, probe.PrefixConfig(errors.New(`want names with a colon each: "probes: { cpu: , process: }"`), "probes"))
	}
	if err := conf.Merge(confmap.NewFromStringMap(longInterfaces(conf.ToStringMap()))); err != nil {
		return err
	}
	if err := conf.Unmarshal(cfg, confmap.WithIgnoreUnused()); err != nil {
		cfg.problems = append(cfg.problems, decodeProblems(cfg, err)...)
	}
	return nil
}

// longInterfaces has what a list of interfaces, or one alone, is short for: those to include.
func longInterfaces(written map[string]any) map[string]any {
	probes := make(map[string]any)
	all, _ := written["probes"].(map[string]any)
	for name, p := range all {
		keys, _ := p.(map[string]any)
		switch list := keys["interfaces"].(type) {
		case []any:
			probes[name] = map[string]any{"interfaces": map[string]any{"include": list}}
		case string:
			probes[name] = map[string]any{"interfaces": map[string]any{"include": []any{list}}}
		}
	}
	if len(probes) == 0 {
		return nil
	}
	return map[string]any{"probes": probes}
}

// Validate implements [confmap.Validator]. It touches neither the kernel nor a file: of a user's own
// probe it checks what holds for every probe, Start the rest.
func (cfg *Config) Validate() error {
	builtin, err := probe.Builtin(bpf.Probes)
	if err != nil {
		return fmt.Errorf("reading the built-in probes: %w", err)
	}
	return cfg.validate(builtin)
}

func (cfg *Config) validate(builtin map[string]*probe.Spec) error {
	p := problems{errs: slices.Clone(cfg.problems)}
	if cfg.CollectionInterval < minCollectionInterval {
		p.add(tooShort(cfg.CollectionInterval), "collection_interval")
	}
	if cfg.Temporality != Cumulative && cfg.Temporality != Delta {
		p.add(probe.Unknown("temporality", string(cfg.Temporality), []string{string(Cumulative), string(Delta)}), "temporality")
	}
	if cfg.RootPath != "" && !filepath.IsAbs(cfg.RootPath) {
		p.add(fmt.Errorf("%q is not an absolute path", cfg.RootPath), "root_path")
	}
	if !slices.Contains(cgroupHierarchies, cfg.CgroupHierarchy) {
		p.add(probe.Unknown("hierarchy", cfg.CgroupHierarchy, cgroupHierarchies), "cgroup_hierarchy")
	}
	p.add(checkMaxSeries(cfg.MaxSeries), "max_series")
	p.add(cfg.checkSeriesTTL(cfg.SeriesTTL), "series_ttl")
	p.join(cfg.checkMetrics(builtin))

	known := slices.Sorted(maps.Keys(builtin))
	for _, name := range cfg.probeNames() {
		p.join(cfg.checkProbe(name))
		spec := builtin[name]
		switch {
		case cfg.Probes[name].Path != "":
			spec = nil
		case spec == nil:
			p.add(unknownProbe(name, known), "probes")
			continue
		}
		_, err := cfg.resolve(name, spec)
		p.join(err)
	}
	return p.err()
}

// probeNames are the probes to run, sorted.
func (cfg *Config) probeNames() []string {
	if len(cfg.Probes) == 0 {
		return defaultProbes
	}
	return slices.Sorted(maps.Keys(cfg.Probes))
}

// checkProbe checks those keys of every probe that its spec knows nothing of.
func (cfg *Config) checkProbe(name string) error {
	c := cfg.Probes[name]
	var p problems
	if c.Path != "" && !filepath.IsAbs(c.Path) {
		p.add(fmt.Errorf("%q is not an absolute path", c.Path), "probes", name, "path")
	}
	p.add(cfg.checkSeriesTTL(c.SeriesTTL), "probes", name, "series_ttl")
	return p.err()
}

// checkMetrics checks the names of the top-level metrics. A user's own probe may declare any, which
// is not known before Start.
func (cfg *Config) checkMetrics(builtin map[string]*probe.Spec) error {
	var (
		p       problems
		running = cfg.probeNames()
		custom  = false
		valid   []string
		owner   = make(map[string]string)
	)
	for name, spec := range builtin {
		for metric := range spec.Metrics {
			owner[metric] = name
			if slices.Contains(running, name) {
				valid = append(valid, metric)
			}
		}
	}
	for _, c := range cfg.Probes {
		custom = custom || c.Path != ""
	}
	for _, metric := range slices.Sorted(maps.Keys(cfg.Metrics)) {
		name, builtIn := owner[metric]
		switch {
		case slices.Contains(valid, metric) || custom:
		case builtIn:
			p.add(fmt.Errorf("it belongs to the probe %q, which is not among the probes to run", name), "metrics", metric)
		default:
			p.add(probe.Unknown("metric", metric, valid), "metrics")
		}
	}
	return p.err()
}

func checkMaxSeries(n int) error {
	if n < 1 || n > probe.MaxSeriesLimit {
		return fmt.Errorf("want 1 to %d, have %d", probe.MaxSeriesLimit, n)
	}
	return nil
}

// checkSeriesTTL refuses what would end a series before its next value could come.
func (cfg *Config) checkSeriesTTL(ttl time.Duration) error {
	switch {
	case ttl < 0:
		return errors.New("a duration must not be negative")
	case ttl > 0 && ttl < cfg.CollectionInterval:
		return fmt.Errorf("%v is shorter than the collection_interval, %v", ttl, cfg.CollectionInterval)
	}
	return nil
}

func tooShort(interval time.Duration) error {
	if interval > 0 && interval < time.Microsecond {
		return fmt.Errorf("want at least %v, have %v: a number without a unit is in nanoseconds", minCollectionInterval, interval)
	}
	return fmt.Errorf("want at least %v, have %v", minCollectionInterval, interval)
}
