// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
)

// Names of probes, roles and options: what a user types as one word.
var wordExpression = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// Names of metrics, events and attributes: words with dots between.
// https://opentelemetry.io/docs/specs/semconv/general/naming/
var nameExpression = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z0-9][a-z0-9_]*)*$`)

// What C and BTF call things.
var (
	identifierExpression = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	fieldExpression      = regexp.MustCompile(`^(\.|[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*)$`)
)

// What a requirement may consist of; its form is the kernel package's to know.
var requirementExpression = regexp.MustCompile(`^[A-Za-z0-9_./:=]+$`)

// commonKeys are the keys of every probe's configuration; no option has their name.
var commonKeys = []string{"events", "max_series", "metrics", "redact", "required", "ring_size", "series_ttl"}

// reservedKeys are kept for keys that some probes' configurations have, with the same meaning in all of them.
var reservedKeys = []string{"attributes", "enabled", "filter", "interfaces", "network_namespaces", "path"}

// checker holds a decoded spec to the rules that need no kernel and no object.
type checker struct {
	*decoder
	spec *Spec
}

// report adds a mistake, unless decoding has already said something about the same value.
func (c *checker) report(p keyPath, format string, args ...any) {
	if !c.hasFailed(p) {
		c.add(c.line(p), p, format, args...)
	}
}

// has tells whether the spec has the key.
func (c *checker) has(p keyPath) bool {
	_, ok := c.lines[p]
	return ok
}

// required reports an empty value and returns false for it.
func (c *checker) required(p keyPath, value string) bool {
	switch {
	case value != "":
		return true
	case c.has(p):
		c.report(p, "empty")
	default:
		c.report(p, "missing")
	}
	return false
}

// matches reports a value that is missing or not of the form.
func (c *checker) matches(p keyPath, value string, form *regexp.Regexp) bool {
	if !c.required(p, value) {
		return false
	}
	return c.optional(p, value, form)
}

// optional reports a value that is there but not of the form.
func (c *checker) optional(p keyPath, value string, form *regexp.Regexp) bool {
	if value == "" || form.MatchString(value) {
		return true
	}
	switch form {
	case wordExpression:
		c.report(p, "%q is not a name: want lower-case letters, digits and underscores", value)
	case nameExpression:
		c.report(p, "%q is not a name: want lower-case letters, digits and underscores, with dots between", value)
	case fieldExpression:
		c.report(p, `%q is not a field: want the names of members with dots between, or "." for the whole`, value)
	default:
		c.report(p, "%q is not an identifier of C", value)
	}
	return false
}

func (c *checker) check() {
	s := c.spec
	c.matches(keyPath("name"), s.Name, wordExpression)
	if c.required("summary", s.Summary) && (strings.Contains(s.Summary, "\n") || strings.HasSuffix(s.Summary, ".")) {
		c.report("summary", "want one line without a full stop")
	}
	c.required("description", s.Description)
	c.object()
	c.options()
	c.dimensions()
	c.metrics()
	c.events()
	c.roles()
	c.iterate()
	c.enumerators()
	if len(s.Metrics)+len(s.Events) == 0 && !c.hasFailed("metrics") && !c.hasFailed("events") {
		c.report("", "want at least one metric or event")
	}
	for _, name := range sortedKeys(s.Events) {
		if _, both := s.Metrics[name]; both {
			c.report(keyPath("events").key(name), "a metric has the same name")
		}
	}
}

// object must be in the probe's folder: what a spec names is loaded into the kernel.
func (c *checker) object() {
	name := c.spec.Object
	if !c.required("object", name) {
		return
	}
	if strings.ContainsAny(name, "/\\\x00") || name == "." || name == ".." {
		c.report("object", "%q is not the name of a file in the probe's folder", name)
	}
}

func (c *checker) options() {
	variables := make(map[string]string)
	cidrs := "" // the ranges of two would stand for each other
	for _, name := range sortedKeys(c.spec.Options) {
		p, o := keyPath("options").key(name), c.spec.Options[name]
		if c.optional(p, name, wordExpression) && (slices.Contains(commonKeys, name) || slices.Contains(reservedKeys, name)) {
			c.report(p, "the name is taken by a key that probes have in common")
		}
		c.required(p.key("description"), o.Description)
		c.optionMap(p, o)
		if o.Type != OptionEntries && c.matches(p.key("variable"), o.Variable, identifierExpression) {
			if other, taken := variables[o.Variable]; taken {
				c.report(p.key("variable"), "option %s sets %s too", other, o.Variable)
			}
			variables[o.Variable] = name
		}
		if c.required(p.key("type"), o.Type) && !slices.Contains(optionTypes, o.Type) {
			c.report(p.key("type"), "%v", Unknown("option type", o.Type, optionTypes))
			continue
		}
		if o.Type == OptionCIDRs {
			if cidrs != "" {
				c.report(p.key("type"), "option %s has cidrs too, and a probe has one such option", cidrs)
			}
			cidrs = name
		}
		c.bounds(p, o)
	}
}

// optionMap holds those keys of an option that only some types have to its type.
func (c *checker) optionMap(p keyPath, o Option) {
	switch o.Type {
	case OptionCIDRs, OptionEntries:
		c.matches(p.key("map"), o.Map, identifierExpression)
	default:
		if o.Map != "" {
			c.report(p.key("map"), "an option of the type %s has no map", o.Type)
		}
	}
	if o.Type == OptionEntries && o.Variable != "" {
		c.report(p.key("variable"), "an option of the type entries has no variable")
	}
	switch {
	case o.Type != OptionChoice && o.Values != nil:
		c.report(p.key("values"), "an option of the type %s has no values", o.Type)
	case o.Type == OptionChoice && len(o.Values) < 2:
		c.report(p.key("values"), "want two values at least")
	case !distinctNames(o.Values):
		c.report(p.key("values"), "want names, and no two the same")
	}
	c.optional(p.key("attribute"), o.Attribute, nameExpression)
	if o.Attribute != "" && o.Type != OptionInt {
		c.report(p.key("attribute"), "only an int can be an attribute")
	}
}

func distinctNames(values map[int64]string) bool {
	seen := map[string]bool{"": true}
	for _, name := range values {
		if seen[name] {
			return false
		}
		seen[name] = true
	}
	return true
}

// bounds holds an option's default, minimum and maximum to its type and to each other.
func (c *checker) bounds(p keyPath, o Option) {
	if o.Type == "" {
		return
	}
	if o.Type == OptionCIDRs {
		if o.Default != nil || o.Min != nil || o.Max != nil {
			c.report(p, "cidrs have neither a default nor bounds")
		}
		return
	}
	if o.Default == nil {
		c.report(p.key("default"), "missing")
	}
	var least, most any
	for _, bound := range []struct {
		key    string
		value  any
		parsed *any
	}{{"min", o.Min, &least}, {"max", o.Max, &most}} {
		if bound.value == nil {
			continue
		}
		if o.Type == OptionBool || o.Type == OptionChoice {
			c.report(p.key(bound.key), "a %s has no bounds", o.Type)
			continue
		}
		parsed, err := parseValue(o.Type, bound.value)
		if err != nil {
			c.report(p.key(bound.key), "%v", err)
			return
		}
		*bound.parsed = parsed
	}
	if least != nil && most != nil && least.(int64) > most.(int64) {
		c.report(p.key("min"), "%v is more than the maximum, %v", o.Min, o.Max)
		return
	}
	if o.Default != nil {
		if _, err := o.value(o.Default); err != nil {
			c.report(p.key("default"), "%v", err)
		}
	}
}

func (c *checker) roles() {
	s := c.spec
	if len(s.Programs) == 0 {
		c.report("programs", "want at least one program")
		return
	}
	served := make(map[string]bool)
	everything := false
	for _, name := range sortedKeys(s.Programs) {
		p, role := keyPath("programs").key(name), s.Programs[name]
		c.optional(p, name, wordExpression)
		everything = everything || len(role.For) == 0
		for i, target := range role.For {
			_, isMetric := s.Metrics[target]
			_, isEvent := s.Events[target]
			_, isDimension := s.Dimensions[target]
			if !isMetric && !isEvent && !isDimension {
				valid := slices.Concat(sortedKeys(s.Metrics), sortedKeys(s.Events), sortedKeys(s.Dimensions))
				c.report(p.key("for").index(i), "%v", Unknown("metric, event or dimension", target, valid))
			}
			served[target] = true
		}
		if len(role.Candidates) == 0 {
			c.report(p.key("candidates"), "want at least one candidate")
		}
		for i, candidate := range role.Candidates {
			c.candidate(p.key("candidates").index(i), candidate)
		}
	}
	if everything || c.hasFailed("programs") {
		return
	}
	for _, name := range sortedKeys(s.Metrics) {
		if !served[name] {
			c.report(keyPath("metrics").key(name), "no role under programs is for it")
		}
	}
	for _, name := range sortedKeys(s.Events) {
		if !served[name] {
			c.report(keyPath("events").key(name), "no role under programs is for it")
		}
	}
}

// iterate wants maps for programs that are there.
func (c *checker) iterate() {
	for _, program := range sortedKeys(c.spec.Iterate) {
		p := keyPath("iterate").key(program)
		c.matches(p, c.spec.Iterate[program], identifierExpression)
		listed := false
		for _, role := range c.spec.Programs {
			for _, candidate := range role.Candidates {
				listed = listed || slices.Contains(candidate.Programs, program)
			}
		}
		if !listed {
			c.report(p, "no candidate under programs has a program %s", program)
		}
	}
}

// enumerators wants names of C on both sides, and no variable that an option sets.
func (c *checker) enumerators() {
	for _, variable := range sortedKeys(c.spec.Enumerators) {
		p := keyPath("enumerators").key(variable)
		c.optional(p, variable, identifierExpression)
		c.matches(p, c.spec.Enumerators[variable], identifierExpression)
		for _, name := range sortedKeys(c.spec.Options) {
			if c.spec.Options[name].Variable == variable {
				c.report(p, "option %s sets it too", name)
			}
		}
	}
}

func (c *checker) candidate(p keyPath, candidate Candidate) {
	if len(candidate.Programs) == 0 {
		c.report(p.key("programs"), "want at least one program")
	}
	seen := make(map[string]bool)
	for i, program := range candidate.Programs {
		if c.matches(p.key("programs").index(i), program, identifierExpression) && seen[program] {
			c.report(p.key("programs").index(i), "%s is listed twice", program)
		}
		seen[program] = true
	}
	for i, requirement := range candidate.Requires {
		at := p.key("requires").index(i)
		if _, err := kernel.ParseRequirement(requirement); err != nil {
			c.report(at, "%v", err)
		} else if !requirementExpression.MatchString(requirement) {
			c.report(at, "%q has a character that no name has", requirement)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
