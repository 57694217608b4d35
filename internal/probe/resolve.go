// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"strings"
)

// Bounds of what a user may ask for.
const (
	// MaxSeriesLimit bounds max_series: a map's memory is taken when it is made.
	MaxSeriesLimit = 10_000_000
	// RingSizeLimit bounds ring_size, in bytes.
	RingSizeLimit = 1 << 30
	// CommandLength is the longest name of a thread, in bytes: TASK_COMM_LEN less its end.
	CommandLength = 15
	// RateLimitMin and RateLimitMax bound a rate_limit other than 0, in events a second. The kernel half
	// keeps the time between two events in ns.
	RateLimitMin = 0.001
	RateLimitMax = 1e9
)

// resolver collects the mistakes in a configuration.
type resolver struct {
	spec *Spec
	errs []error
}

// fail notes what err is or joins as mistakes at a place.
func (r *resolver) fail(err error, keys ...string) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			r.fail(err, keys...)
		}
		return
	}
	r.errs = append(r.errs, &ConfigError{Path: keys, Err: err})
}

// Resolve holds a user's configuration against the spec and fills in the defaults. It reports all mistakes at once, as
// a join of *[ConfigError] whose paths are relative to the probe's configuration. It touches neither kernel nor files.
func (s *Spec) Resolve(c Config) (Settings, error) {
	r := &resolver{spec: s}
	settings := Settings{
		Options:   r.options(c.Options),
		Metrics:   r.metrics(c.Metrics, c.Attributes),
		Events:    r.events(c.Events),
		MaxSeries: r.maxSeries(c.MaxSeries, "max_series"),
		RingSize:  r.ringSize(c.RingSize),

		Interfaces:   r.interfaces(c.Packets),
		PacketFilter: r.packetFilter(c.Packets.Filter),
	}
	if settings.MaxSeries == 0 {
		settings.MaxSeries = DefaultMaxSeries
	}
	if err := errors.Join(r.errs...); err != nil {
		return Settings{}, err
	}
	return settings, nil
}

func (r *resolver) options(config map[string]any) map[string]any {
	for _, name := range sortedKeys(config) {
		if _, ok := r.spec.Options[name]; !ok {
			r.fail(Unknown("option", name, slices.Concat(sortedKeys(r.spec.Options), commonKeys)))
		}
	}
	options := make(map[string]any, len(r.spec.Options))
	for _, name := range sortedKeys(r.spec.Options) {
		option := r.spec.Options[name]
		written := config[name]
		if written == nil { // absent, or a key without a value
			written = option.Default
		}
		v, err := option.value(written)
		if err != nil {
			r.fail(err, name)
			continue
		}
		options[name] = v
	}
	return options
}

// interfaces checks the choice of interfaces. Of a probe that sees no packets, each of its keys is a mistake.
func (r *resolver) interfaces(c PacketsConfig) Interfaces {
	if !r.spec.Packets {
		if len(c.Interfaces.Include)+len(c.Interfaces.Exclude) > 0 {
			r.fail(errNoPackets, "interfaces")
		}
		if c.NetworkNamespaces != "" {
			r.fail(errNoPackets, "network_namespaces")
		}
		return Interfaces{}
	}
	r.globs(c.Interfaces.Include, "include")
	r.globs(c.Interfaces.Exclude, "exclude")
	switch c.NetworkNamespaces {
	case "", "host", "all":
	default:
		r.fail(Unknown("choice", c.NetworkNamespaces, []string{"all", "host"}), "network_namespaces")
	}
	return Interfaces{
		Include: distinct(c.Interfaces.Include), Exclude: distinct(c.Interfaces.Exclude), AllNamespaces: c.NetworkNamespaces == "all",
	}
}

func (r *resolver) globs(globs []string, key string) {
	for _, glob := range globs {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			r.fail(fmt.Errorf("%q is not the name of an interface, nor a pattern of such", glob), "interfaces", key)
		}
	}
}

func (r *resolver) packetFilter(expression string) string {
	if expression == "" {
		return ""
	}
	if !r.spec.Packets {
		r.fail(errNoPackets, "filter")
		return ""
	}
	if _, err := compileFilter(expression); err != nil {
		r.fail(errors.New(strings.TrimPrefix(err.Error(), "filter: ")), "filter") // which the key says
	}
	return expression
}

var errNoPackets = errors.New("the probe sees no packets")

func (r *resolver) metrics(config map[string]MetricConfig, common []string) map[string]MetricSettings {
	r.commonAttributes(common)
	for _, name := range sortedKeys(config) {
		if _, ok := r.spec.Metrics[name]; !ok {
			r.fail(Unknown("metric", name, sortedKeys(r.spec.Metrics)), "metrics")
		}
	}
	metrics := make(map[string]MetricSettings)
	for _, name := range sortedKeys(r.spec.Metrics) {
		metric, c := r.spec.Metrics[name], config[name]
		if c.Attributes == nil && common != nil {
			c.Attributes = slices.DeleteFunc(distinct(common), func(attribute string) bool {
				_, ok := metric.Attributes[attribute]
				return !ok
			})
			if c.Attributes == nil {
				c.Attributes = []string{}
			}
		}
		m := MetricSettings{
			Attributes: r.attributes(name, metric, c.Attributes),
			MaxSeries:  r.maxSeries(c.MaxSeries, "metrics", name, "max_series"),
		}
		if pick(c.Enabled, metric.Enabled) {
			metrics[name] = m
		}
	}
	return metrics
}

// commonAttributes checks the choice for all metrics: each name is one that some metric knows.
func (r *resolver) commonAttributes(selected []string) {
	known := make(map[string]bool)
	for _, metric := range r.spec.Metrics {
		for attribute := range metric.Attributes {
			known[attribute] = true
		}
	}
	for i, attribute := range selected {
		switch {
		case !known[attribute]:
			r.fail(Unknown("attribute", attribute, sortedKeys(known)), "attributes")
		case slices.Contains(selected[:i], attribute):
			r.fail(fmt.Errorf("%q is listed twice", attribute), "attributes")
		}
	}
}

// attributes returns the selected dimensions, sorted.
func (r *resolver) attributes(name string, metric Metric, selected []string) []string {
	attributes := make([]string, 0, len(metric.Attributes))
	if selected == nil {
		for _, attribute := range sortedKeys(metric.Attributes) {
			if metric.Attributes[attribute] {
				attributes = append(attributes, attribute)
			}
		}
		return attributes
	}
	for _, attribute := range selected {
		_, ok := metric.Attributes[attribute]
		switch {
		case !ok:
			r.fail(Unknown("attribute", attribute, sortedKeys(metric.Attributes)), "metrics", name, "attributes")
		case slices.Contains(attributes, attribute):
			r.fail(fmt.Errorf("%q is listed twice", attribute), "metrics", name, "attributes")
		default:
			attributes = append(attributes, attribute)
		}
	}
	slices.Sort(attributes)
	return attributes
}

func (r *resolver) events(config map[string]EventConfig) map[string]EventSettings {
	for _, name := range sortedKeys(config) {
		if _, ok := r.spec.Events[name]; !ok {
			r.fail(Unknown("event", name, sortedKeys(r.spec.Events)), "events")
		}
	}
	events := make(map[string]EventSettings)
	for _, name := range sortedKeys(r.spec.Events) {
		event, c := r.spec.Events[name], config[name]
		rate := c.RateLimit
		if rate != 0 && !(rate >= RateLimitMin && rate <= RateLimitMax) { // NaN is in no range
			r.fail(fmt.Errorf("want 0, for none, or %v to %v events a second, have %v", RateLimitMin, RateLimitMax, rate),
				"events", name, "rate_limit")
		}
		e := EventSettings{RateLimit: rate, Filter: r.filter(name, c.Filter)}
		if event.NoProcess && filterMask(e.Filter) != 0 {
			r.fail(errors.New("no process is behind the event, and its filters are by process"), "events", name, "filter")
		}
		if pick(c.Enabled, event.Enabled) {
			events[name] = e
		}
	}
	return events
}

func (r *resolver) filter(event string, c FilterConfig) Filter {
	for _, pid := range c.PIDs {
		if pid == 0 || pid > math.MaxInt32 {
			r.fail(fmt.Errorf("%d is not a process", pid), "events", event, "filter", "pids")
		}
	}
	for _, command := range c.Commands {
		switch {
		case command == "":
			r.fail(errors.New("a command must not be empty"), "events", event, "filter", "commands")
		case len(command) > CommandLength:
			r.fail(fmt.Errorf("%q is longer than the %d bytes that the kernel keeps, which would be %q",
				command, CommandLength, strings.ToValidUTF8(command[:CommandLength], "")), "events", event, "filter", "commands")
		case strings.Contains(command, "\x00"):
			r.fail(fmt.Errorf("%q has a zero byte", command), "events", event, "filter", "commands")
		}
	}
	var paths []string
	for _, cgroup := range c.Cgroups {
		if !strings.HasPrefix(cgroup, "/") || slices.Contains(strings.Split(cgroup, "/"), "..") {
			r.fail(fmt.Errorf("%q is not the path of a cgroup, such as /system.slice/cron.service", cgroup),
				"events", event, "filter", "cgroups")
			continue
		}
		paths = append(paths, path.Clean(cgroup))
	}
	return Filter{
		PIDs: distinct(c.PIDs), UIDs: distinct(c.UIDs), Commands: distinct(c.Commands), CgroupPaths: distinct(paths),
	}
}

func (r *resolver) maxSeries(n int, keys ...string) int {
	if n < 0 || n > MaxSeriesLimit {
		r.fail(fmt.Errorf("want 1 to %d, have %d", MaxSeriesLimit, n), keys...)
	}
	return n
}

// ringSize wants what the kernel wants of a ring buffer's max_entries (kernel/bpf/ringbuf.c, ringbuf_map_alloc).
func (r *resolver) ringSize(n int) int {
	page := os.Getpagesize()
	switch {
	case n == 0:
		return max(DefaultRingSize, page)
	case n < page || n > RingSizeLimit || n&(n-1) != 0:
		r.fail(fmt.Errorf("want a power of two from %d to %d bytes, have %d", page, RingSizeLimit, n), "ring_size")
	}
	return n
}

// pick is what the user chose, or else the default.
func pick(chosen *bool, otherwise bool) bool {
	if chosen != nil {
		return *chosen
	}
	return otherwise
}

// distinct returns a sorted copy without repetitions, nil for an empty list.
func distinct[E uint32 | string](list []E) []E {
	if len(list) == 0 {
		return nil
	}
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}
