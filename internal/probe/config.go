// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"strings"
)

// Config is what a user wrote for one probe, before it is held against the probe's spec by [Spec.Resolve].
type Config struct {
	// Options are the probe's own keys, as decoded from YAML.
	Options map[string]any `mapstructure:",remain"`
	// Metrics by name.
	Metrics map[string]MetricConfig `mapstructure:"metrics"`
	// Events by name.
	Events map[string]EventConfig `mapstructure:"events"`
	// MaxSeries bounds each map of which a metric has no bound of its own; 0 takes [DefaultMaxSeries].
	MaxSeries int `mapstructure:"max_series"`
	// RingSize in bytes; 0 takes [DefaultRingSize].
	RingSize int `mapstructure:"ring_size"`
	// Attributes are the selected dimensions of each metric that has a choice of them and none of its own here; nil: the defaults.
	Attributes []string `mapstructure:"attributes"`
	// Packets are the keys of probes that see packets; it is a mistake to set one for another.
	Packets PacketsConfig `mapstructure:"-"`
}

// PacketsConfig is what a user wrote about the packets that a probe sees.
type PacketsConfig struct {
	// Interfaces to attach to; empty: the uplinks.
	Interfaces InterfacesConfig `mapstructure:"interfaces"`
	// NetworkNamespaces is "host", which is the default, or "all".
	NetworkNamespaces string `mapstructure:"network_namespaces"`
	// Filter is an expression of pcap-filter(7); empty: all packets.
	Filter string `mapstructure:"filter"`
}

// InterfacesConfig are globs of interfaces' names. A list alone is short for Include.
type InterfacesConfig struct {
	Include []string `mapstructure:"include"`
	Exclude []string `mapstructure:"exclude"`
}

// MetricConfig is what a user wrote for one metric.
type MetricConfig struct {
	// Enabled is nil for the metric's default.
	Enabled *bool `mapstructure:"enabled"`
	// Attributes are the selected dimensions; nil takes the metric's default, empty selects none.
	Attributes []string `mapstructure:"attributes"`
	// MaxSeries bounds the metric's map; 0 takes the probe's.
	MaxSeries int `mapstructure:"max_series"`
}

// EventConfig is what a user wrote for one event.
type EventConfig struct {
	// Enabled is nil for the event's default.
	Enabled *bool `mapstructure:"enabled"`
	// RateLimit in events a second; 0 for none.
	RateLimit float64 `mapstructure:"rate_limit"`
	// Filter tells which occurrences are reported.
	Filter FilterConfig `mapstructure:"filter"`
}

// FilterConfig lets an occurrence pass when each of its non-empty lists has a match.
type FilterConfig struct {
	// PIDs of processes, in the initial pid namespace.
	PIDs []uint32 `mapstructure:"pids"`
	// UIDs are effective user ids, in the initial user namespace.
	UIDs []uint32 `mapstructure:"uids"`
	// Commands are the names of processes (of their main threads), at most 15 bytes each.
	Commands []string `mapstructure:"commands"`
	// Cgroups are paths below the cgroup file system's root: "/system.slice/cron.service".
	Cgroups []string `mapstructure:"cgroups"`
}

// ConfigError is one mistake in a probe's configuration.
type ConfigError struct {
	// Path of keys to the mistake, from the probe's configuration down; empty for the whole of it.
	Path []string
	// Err says what is wrong.
	Err error
}

// Error separates keys as the Collector does: "metrics::ebpf.cpu.time::attributes: ...".
func (e *ConfigError) Error() string {
	if len(e.Path) == 0 {
		return e.Err.Error()
	}
	return strings.Join(e.Path, "::") + ": " + e.Err.Error()
}

// Unwrap returns what is wrong, without its place.
func (e *ConfigError) Unwrap() error {
	return e.Err
}

// PrefixConfig puts keys before the path of each [ConfigError] that err is or joins; any other error is wrapped in one.
func PrefixConfig(err error, keys ...string) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*ConfigError); ok { //nolint:errorlint // a wrapped one has lost its place already
		return &ConfigError{Path: append(append([]string(nil), keys...), e.Path...), Err: e.Err}
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range joined.Unwrap() {
			errs = append(errs, PrefixConfig(e, keys...))
		}
		return errors.Join(errs...)
	}
	return &ConfigError{Path: append([]string(nil), keys...), Err: err}
}
