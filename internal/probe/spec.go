// SPDX-License-Identifier: Apache-2.0

// Package probe is a probe's life: its specification is parsed and checked, its object is
// loaded with the best programs that the running kernel can do, attached, and detached.
package probe

import (
	"io/fs"
	"net/netip"
	"time"
)

// SpecFile is the name of a probe's specification in its folder.
const SpecFile = "probe.yaml"

// Spec is a parsed probe.yaml: what the object's programs, maps and records mean.
type Spec struct {
	// Name is the probe's name, which is also its folder's name.
	Name string `yaml:"name"`
	// Summary is one line, without a full stop.
	Summary string `yaml:"summary"`
	// Description is Markdown: what the probe sees, what it misses, what it costs.
	Description string `yaml:"description"`
	// Object is the file name of the compiled object, relative to the spec.
	Object string `yaml:"object"`
	// Programs are the roles that the probe fills. See [Role].
	Programs map[string]Role `yaml:"programs"`
	// Packets tells that the probe's socket filters are attached to network interfaces, so that users have the keys interfaces,
	// network_namespaces and filter. The object includes packet.h.
	Packets bool `yaml:"packets"`
	// Iterate names the maps that iterators of the type bpf_map_elem go over, by program.
	Iterate map[string]string `yaml:"iterate"`
	// Enumerators are numbers of the running kernel that reach the object as constants: the enumerator's name, by the variable. They
	// are for what CO-RE can not ask for, since the enum has no name. Where the kernel has no such enumerator, the variable keeps what
	// the object gives it.
	Enumerators map[string]string `yaml:"enumerators"`
	// Options are user settings that reach the kernel as constants.
	Options map[string]Option `yaml:"options"`
	// Dimensions are what a metric of this probe can be broken down by.
	Dimensions map[string]Dimension `yaml:"dimensions"`
	// Metrics by name.
	Metrics map[string]Metric `yaml:"metrics"`
	// Events by name.
	Events map[string]Event `yaml:"events"`

	// FS is the probe's own folder: SpecFile and Object are in its root.
	FS fs.FS `yaml:"-"`
	// Path names the spec in messages: "bpf/cpu/probe.yaml".
	Path string `yaml:"-"`
}

// Role is one thing that has to be done in the kernel, with the ways of doing it in order of
// preference. The first way that the running kernel can do is taken; programs of the others, and
// maps that only they use, are never loaded. The hook of a program is its ELF section's name.
type Role struct {
	// For lists the metrics, events and dimensions that need this role; empty means all metrics and events of the probe. A dimension stands for the
	// enabled metrics that select it. A role none of whose metrics and events is enabled is not loaded.
	For []string `yaml:"for"`
	// Optional says in words what is missing where the role has no candidate, and its metrics and events work without it all the same. Empty: they do not.
	Optional string `yaml:"optional"`
	// Candidates in order of preference.
	Candidates []Candidate `yaml:"candidates"`
}

// Candidate is one way to fill a role: programs that are loaded together or not at all.
type Candidate struct {
	Programs []string `yaml:"programs"`
	// Requires names kernel features beyond those that the object itself shows (program, map and
	// helper types and hooks are found out without being listed):
	// "field/STRUCT.FIELD" (in the kernel's BTF), "func/NAME", "args/TRACEPOINT:N" (a typed tracepoint
	// with exactly N arguments), "args/TRACEPOINT:N=STRUCT" (whose argument N, from 0, points at STRUCT),
	// "map/TYPE", "config/NAME", "namespace/KIND" (this process is in the initial one: "namespace/pid").
	Requires []string `yaml:"requires"`
}

// Option is a user's setting that becomes a `const volatile` variable of the object, or the content or size of a map.
type Option struct {
	Description string `yaml:"description"`
	// Variable is the object's variable. Of cidrs, it is a bool that tells whether there are any; entries have none.
	Variable string `yaml:"variable"`
	// Type is bool, int, duration (the variable is in ns), size (bytes, "64KiB" accepted), choice (one of Values),
	// cidrs (address ranges and their names, which fill Map) or entries (the number of entries that Map has room for).
	Type string `yaml:"type"`
	// Default, Min and Max are written as the user would write them. Default is required, but for cidrs.
	Default any `yaml:"default"`
	Min     any `yaml:"min"`
	Max     any `yaml:"max"`
	// Values are the names of a choice, by the number that the variable gets.
	Values map[int64]string `yaml:"values"`
	// Map of the object. For cidrs it is a trie of struct { u32 length; u8 address[16]; } with values of 16 bytes: what a
	// program puts into a key in the address's place.
	Map string `yaml:"map"`
	// Attribute is what all data points of the probe have when the option is not at its default: whoever reads the values
	// must know of it.
	Attribute string `yaml:"attribute"`
}

// Dimension is something that a metric can be broken down by: fields of map keys and the attributes that they
// become.
type Dimension struct {
	Description string `yaml:"description"`
	// Field of the map's key struct, dotted for nested structs; "." is the whole key.
	Field string `yaml:"field"`
	// As is the decoder's name; empty takes the default of the field's BTF type. See package layout.
	As string `yaml:"as"`
	// Attribute is the attribute's name; empty takes the dimension's own name. Decoders that
	// make several attributes name them themselves.
	Attribute string `yaml:"attribute"`
	// Values names numbers, for the enum decoder.
	Values map[int64]string `yaml:"values"`
	// Kernel is an enum of the running kernel, after which numbers are named where Values does not: its numbers are another kernel's
	// other reasons. A name is the enumerator's in lower case, without Prefix.
	Kernel string `yaml:"kernel"`
	Prefix string `yaml:"prefix"`
	// OmitZero leaves the attribute out when all bytes of the field are zero.
	OmitZero bool `yaml:"omit_zero"`
	// Variable is a `const volatile bool` of the object that is true when at least one enabled metric selected
	// the dimension. Empty: always part of the key.
	Variable string `yaml:"variable"`
}

// MetricType is a metric's kind.
type MetricType string

// The kinds of metric.
const (
	Counter       MetricType = "counter"       // monotonic sum
	UpDownCounter MetricType = "updowncounter" // non-monotonic sum
	Gauge         MetricType = "gauge"
	Histogram     MetricType = "histogram" // explicit bounds, from the field's slots
)

// Metric says how one map becomes one metric.
type Metric struct {
	Description string     `yaml:"description"`
	Unit        string     `yaml:"unit"`
	Type        MetricType `yaml:"type"`
	// Map in the object. An array of maps is swapped, any other is plain.
	Map string `yaml:"map"`
	// Value is the field of the map's value that is the metric, dotted for nested structs; "." is the whole value.
	Value string `yaml:"value"`
	// Points, instead of Value, makes several data points of one row.
	Points []Point `yaml:"points"`
	// Scale multiplies the raw value to give Unit; 0 means 1. A sum with a scale is a double, without an integer.
	Scale float64 `yaml:"scale"`
	// Enabled is the default.
	Enabled bool `yaml:"enabled"`
	// Attributes are the dimensions that the user may select, true for those selected by default.
	Attributes map[string]bool `yaml:"attributes"`
	// Variable is a `const volatile bool` of the object that tells whether the metric is enabled.
	Variable string `yaml:"variable"`
	// SemConv is true when the name is an OpenTelemetry semantic convention.
	SemConv bool `yaml:"semconv"`
}

// Point is one data point of a row: a field and what distinguishes it from its siblings.
type Point struct {
	Value      string            `yaml:"value"`
	Attributes map[string]string `yaml:"attributes"`
}

// Event says how one type of ring-buffer record becomes a log record.
type Event struct {
	Description string `yaml:"description"`
	// Ring is the ring buffer's map.
	Ring string `yaml:"ring"`
	// ID is the enumerator in the object's BTF that records of this type carry in event_header.id.
	ID string `yaml:"id"`
	// Type is the record's struct in the object's BTF.
	Type string `yaml:"type"`
	// Severity is trace, debug, info, warn, error or fatal.
	Severity string `yaml:"severity"`
	// Body is a short display text, in which {attribute.name} stands for that attribute's value.
	Body string `yaml:"body"`
	// Enabled is the default.
	Enabled bool `yaml:"enabled"`
	// NoProcess tells that no process is behind an occurrence, so that there is nothing to filter by.
	NoProcess bool `yaml:"no_process"`
	// Attributes by name; the name of an attribute whose decoder makes several is only a label.
	Attributes map[string]Attribute `yaml:"attributes"`
}

// Attribute says how a field of a record becomes an attribute. In YAML a string is short for {field: STRING}.
type Attribute struct {
	Field string `yaml:"field"`
	// As is the decoder's name; empty takes the default of the field's BTF type.
	As string `yaml:"as"`
	// Values names numbers, for the enum decoder.
	Values map[int64]string `yaml:"values"`
	// Description for the documentation.
	Description string `yaml:"description"`
	// OmitZero leaves the attribute out when the field is zero or empty.
	OmitZero bool `yaml:"omit_zero"`
	// Redact applies the user's redaction patterns: for text that came from user memory.
	Redact bool `yaml:"redact"`
	// Scale multiplies a number, to give a double in the convention's unit.
	Scale float64 `yaml:"scale"`
	// SemConv is true when the name is an OpenTelemetry semantic convention.
	SemConv bool `yaml:"semconv"`
}

// Settings are a user's choices for one probe, resolved against its spec: every name exists, every
// default is filled in. See [Spec.Resolve].
type Settings struct {
	// Options by name: bool, int64 (durations in ns, sizes in bytes, choices as their number) or []CIDR.
	Options map[string]any
	// Interfaces that the probe's socket filters are attached to.
	Interfaces Interfaces
	// PacketFilter is an expression of pcap-filter(7), by which the kernel chooses packets; empty: all of them.
	PacketFilter string
	// Metrics that are enabled, by name.
	Metrics map[string]MetricSettings
	// Events that are enabled, by name.
	Events map[string]EventSettings
	// MaxSeries bounds each map of which a metric has no bound of its own.
	MaxSeries int
	// RingSize in bytes, a power of two and a multiple of the page size.
	RingSize int
}

// Interfaces are a choice of network interfaces.
type Interfaces struct {
	// Include and Exclude are globs, as of [path.Match], of their names. Without Include, they are the uplinks: see package packet.
	Include, Exclude []string
	// AllNamespaces adds the network namespaces of all processes to the host's.
	AllNamespaces bool
}

// CIDR is a range of addresses with a name. Those in a range without one stay themselves.
type CIDR struct {
	Prefix netip.Prefix
	Name   string
}

// MetricSettings are a user's choices for one enabled metric.
type MetricSettings struct {
	// Attributes are the selected dimensions, sorted.
	Attributes []string
	// MaxSeries bounds the metric's map; 0 takes the probe's.
	MaxSeries int
}

// EventSettings are a user's choices for one enabled event.
type EventSettings struct {
	// RateLimit in events a second, 0 for none. Up to one second's worth may come at once.
	RateLimit float64
	Filter    Filter
}

// Filter lets an occurrence pass when each of its non-empty lists has a match.
type Filter struct {
	PIDs     []uint32
	UIDs     []uint32
	Commands []string // at most 15 bytes each
	// CgroupPaths, as the user wrote them, are below the cgroup file system's root; the loader turns them into
	// Cgroups.
	CgroupPaths []string
	// Cgroups are ids; a cgroup passes when it or one above it is listed.
	Cgroups []uint64
}

// Defaults for Settings.
const (
	DefaultMaxSeries = 10_000
	DefaultRingSize  = 2 << 20
)

// DefaultSeriesTTL is how long a cumulative series is kept after its last change.
const DefaultSeriesTTL = 5 * time.Minute
