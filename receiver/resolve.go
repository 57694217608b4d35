// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

// resolvedProbe is a probe's configuration with every default filled in.
type resolvedProbe struct {
	Name      string
	Spec      *probe.Spec
	Settings  probe.Settings
	Required  bool
	SeriesTTL time.Duration
	Redact    []*regexp.Regexp
}

// spec returns what a probe declares. A user's own probe is read from its folder.
func (cfg *Config) spec(name string, builtin map[string]*probe.Spec) (*probe.Spec, error) {
	folder := cfg.Probes[name].Path
	if folder == "" {
		if spec, ok := builtin[name]; ok {
			return spec, nil
		}
		return nil, probe.PrefixConfig(unknownProbe(name, nil), "probes")
	}
	spec, err := probe.Parse(os.DirFS(folder), filepath.Join(folder, probe.SpecFile))
	if err != nil {
		return nil, probe.PrefixConfig(err, "probes", name, "path")
	}
	spec.Name = name // the configuration's: two probes of it may come from one folder
	return spec, nil
}

// resolve holds a probe's configuration, and what the top-level keys say of it, against its spec. All
// mistakes are reported at once as [probe.ConfigError], their paths relative to the receiver's configuration. With
// a nil spec it checks what holds for every probe.
func (cfg *Config) resolve(name string, spec *probe.Spec) (resolvedProbe, error) {
	c := cfg.Probes[name]
	own := probe.Config{
		Options: c.Options, Metrics: c.Metrics, Events: c.Events, MaxSeries: c.MaxSeries, RingSize: int(c.RingSize),
		Attributes: c.Attributes,
		Packets:    probe.PacketsConfig{Interfaces: c.Interfaces, NetworkNamespaces: c.NetworkNamespaces, Filter: c.Filter},
	}
	checked := spec
	if checked == nil {
		checked, own.Options = permissive(c), nil
	}
	top := make(map[string]probe.MetricConfig)
	for metric := range checked.Metrics {
		if m, ok := cfg.Metrics[metric]; ok {
			top[metric] = m
		}
	}
	var p problems
	_, err := checked.Resolve(probe.Config{Metrics: top})
	p.join(err)
	_, err = checked.Resolve(own)
	p.join(probe.PrefixConfig(withCommonKeys(err), "probes", name))
	redact, err := compilePatterns(c.Redact)
	if err != nil {
		p.add(err, "probes", name, "redact")
	}
	if err := p.err(); err != nil || spec == nil {
		return resolvedProbe{}, err
	}

	own.Metrics = merge(top, c.Metrics)
	own.MaxSeries = cmp.Or(c.MaxSeries, cfg.MaxSeries)
	settings, err := spec.Resolve(own)
	if err != nil {
		return resolvedProbe{}, probe.PrefixConfig(err, "probes", name)
	}
	return resolvedProbe{
		Name:      name,
		Spec:      spec,
		Settings:  settings,
		Required:  c.Required,
		SeriesTTL: cmp.Or(c.SeriesTTL, cfg.SeriesTTL, max(probe.DefaultSeriesTTL, 3*cfg.CollectionInterval)),
		Redact:    redact,
	}, nil
}

// merge lays what a probe's own configuration says of its metrics over what the top-level keys say.
func merge(top, own map[string]probe.MetricConfig) map[string]probe.MetricConfig {
	merged := make(map[string]probe.MetricConfig, len(top)+len(own))
	for name, m := range top {
		merged[name] = m
	}
	for name, m := range own {
		below := merged[name]
		if m.Enabled == nil {
			m.Enabled = below.Enabled
		}
		if m.Attributes == nil {
			m.Attributes = below.Attributes
		}
		m.MaxSeries = cmp.Or(m.MaxSeries, below.MaxSeries)
		merged[name] = m
	}
	return merged
}

// permissive is a spec that declares whatever the configuration names: against it, only what holds for
// every probe is a mistake.
func permissive(c ProbeConfig) *probe.Spec {
	spec := &probe.Spec{
		Packets: true,
		Metrics: make(map[string]probe.Metric, len(c.Metrics)),
		Events:  make(map[string]probe.Event, len(c.Events)),
	}
	for name, m := range c.Metrics {
		attributes := make(map[string]bool, len(m.Attributes))
		for _, a := range m.Attributes {
			attributes[a] = true
		}
		spec.Metrics[name] = probe.Metric{Attributes: attributes}
	}
	for name := range c.Events {
		spec.Events[name] = probe.Event{}
	}
	if len(c.Attributes) > 0 {
		attributes := make(map[string]bool, len(c.Attributes))
		for _, a := range c.Attributes {
			attributes[a] = true
		}
		spec.Metrics["any"] = probe.Metric{Attributes: attributes}
	}
	return spec
}

// compilePatterns returns nil for an empty list.
func compilePatterns(patterns []string) ([]*regexp.Regexp, error) {
	var (
		compiled []*regexp.Regexp
		errs     []error
	)
	for _, pattern := range patterns {
		re, err := regexp.Compile(pattern)
		if err != nil {
			errs = append(errs, fmt.Errorf("%q is not a regular expression: %w", pattern, err))
			continue
		}
		compiled = append(compiled, re)
	}
	return compiled, errors.Join(errs...)
}
