// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// keyPath is the place of a value in a spec. Its parts are separated by a byte that no key holds, since names contain
// dots: "metrics.a.b" could be two places.
type keyPath string

const keyPathSeparator = "\x00"

func (p keyPath) key(name string) keyPath {
	name = strings.ReplaceAll(name, keyPathSeparator, "?")
	if p == "" {
		return keyPath(name)
	}
	return p + keyPathSeparator + keyPath(name)
}

func (p keyPath) index(i int) keyPath {
	return p.key(fmt.Sprintf("[%d]", i))
}

// parent is the place that holds p; the root is its own parent.
func (p keyPath) parent() keyPath {
	i := strings.LastIndex(string(p), keyPathSeparator)
	return p[:max(i, 0)]
}

func (p keyPath) String() string {
	s := strings.ReplaceAll(string(p), keyPathSeparator+"[", "[")
	return strings.ReplaceAll(s, keyPathSeparator, ".")
}

// decoder fills the structs of a spec from YAML nodes by their yaml tags. Unlike the YAML package's own it reports
// every mistake with its key, and converts nothing silently: a string is a string.
type decoder struct {
	file string
	errs []*SpecError
	// lines has the line of each value that was seen.
	lines map[keyPath]int
	// failed has what was reported while decoding; it is not reported again by later checks.
	failed map[keyPath]bool
}

func newDecoder(file string) *decoder {
	return &decoder{file: file, lines: make(map[keyPath]int), failed: make(map[keyPath]bool)}
}

// fail reports a value that could not be decoded.
func (d *decoder) fail(line int, p keyPath, format string, args ...any) {
	d.failed[p] = true
	d.add(line, p, format, args...)
}

// add reports a mistake.
func (d *decoder) add(line int, p keyPath, format string, args ...any) {
	d.errs = append(d.errs, &SpecError{File: d.file, Line: line, Key: p.String(), Message: fmt.Sprintf(format, args...)})
}

// line is that of the value, or of the nearest one around it that exists.
func (d *decoder) line(p keyPath) int {
	for {
		if line, ok := d.lines[p]; ok {
			return line
		}
		if p == "" {
			return 0
		}
		p = p.parent()
	}
}

// hasFailed tells whether the value, or one that holds it, has been reported already.
func (d *decoder) hasFailed(p keyPath) bool {
	for p != "" {
		if d.failed[p] {
			return true
		}
		p = p.parent()
	}
	return false
}

// decode fills the spec and returns false when the document is not even a mapping.
func (d *decoder) decode(root *yaml.Node, spec *Spec) bool {
	if root.Kind != yaml.MappingNode {
		d.fail(root.Line, "", "want a mapping of keys, have %s", describe(root))
		return false
	}
	d.value(root, "", reflect.ValueOf(spec).Elem())
	return true
}

// value decodes a node into v, whose kinds are those that the structs of a spec are made of.
func (d *decoder) value(n *yaml.Node, p keyPath, v reflect.Value) {
	if _, seen := d.lines[p]; !seen {
		d.lines[p] = n.Line
	}
	// An alias of what it is in ends soon: the types of a spec do not hold themselves.
	n = longhand(resolve(n), v.Type())
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, p, v)
	case reflect.Map:
		d.mapping(n, p, v)
	case reflect.Slice:
		d.sequence(n, p, v)
	default:
		d.scalar(n, p, v)
	}
}

// resolve returns what an alias stands for.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// longhand expands the short forms: a string for an [Attribute], a list for a [Role], a string or a list of strings
// for a [Candidate].
func longhand(n *yaml.Node, t reflect.Type) *yaml.Node {
	var key string
	value := n
	switch {
	case t == reflect.TypeFor[Attribute]() && n.ShortTag() == "!!str" && n.Kind == yaml.ScalarNode:
		key = "field"
	case t == reflect.TypeFor[Role]() && n.Kind == yaml.SequenceNode:
		key = "candidates"
	case t == reflect.TypeFor[Candidate]() && n.Kind == yaml.SequenceNode:
		key = "programs"
	case t == reflect.TypeFor[Candidate]() && n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str":
		key = "programs"
		value = &yaml.Node{Kind: yaml.SequenceNode, Line: n.Line, Content: []*yaml.Node{n}}
	default:
		return n
	}
	name := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key, Line: n.Line}
	return &yaml.Node{Kind: yaml.MappingNode, Line: n.Line, Content: []*yaml.Node{name, value}}
}

// pairs calls fn with the keys and values of a mapping, without doubled keys and keys that are no scalars. Those of a mapping that
// is merged into it (`<<: *anchor`) come after its own, which are in their place.
func (d *decoder) pairs(n *yaml.Node, p keyPath, fn func(key, value *yaml.Node, p keyPath)) {
	if n.Kind != yaml.MappingNode {
		d.fail(n.Line, p, "want a mapping, have %s", describe(n))
		return
	}
	var merged []*yaml.Node
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.fail(key.Line, p, "want a plain key, have %s", describe(key))
			continue
		}
		at := p.key(key.Value)
		if first, doubled := seen[key.Value]; doubled {
			d.fail(key.Line, at, "duplicate key, first on line %d", first)
			continue
		}
		seen[key.Value] = key.Line
		if key.ShortTag() == "!!merge" {
			merged = d.merged(value, at)
			continue
		}
		if _, known := d.lines[at]; !known {
			d.lines[at] = key.Line
		}
		fn(key, value, at)
	}
	for i := 0; i+1 < len(merged); i += 2 {
		if _, own := seen[merged[i].Value]; !own {
			fn(merged[i], merged[i+1], p.key(merged[i].Value))
		}
	}
}

// merged are the keys and values of a mapping that is merged into another. That it is a plain one keeps them from coming in a circle.
func (d *decoder) merged(n *yaml.Node, p keyPath) []*yaml.Node {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		d.fail(n.Line, p, "want a mapping to merge, have %s", describe(n))
		return nil
	}
	for i := 0; i < len(n.Content); i += 2 {
		if key := n.Content[i]; key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
			d.fail(key.Line, p, "want a mapping of plain keys to merge")
			return nil
		}
	}
	return n.Content
}

func (d *decoder) structure(n *yaml.Node, p keyPath, v reflect.Value) {
	fields := yamlFields(v.Type())
	d.pairs(n, p, func(key, value *yaml.Node, at keyPath) {
		field, known := fields[key.Value]
		if known {
			d.value(value, at, v.Field(field))
			return
		}
		valid := slices.Sorted(maps.Keys(fields))
		d.fail(key.Line, at, "unknown key%s", suggestion(key.Value, valid))
		// That the right key is missing is the same mistake.
		if near := Nearest(key.Value, valid); near != "" {
			d.failed[p.key(near)] = true
		}
	})
}

// yamlFields are the indices of a struct's fields by key.
func yamlFields(t reflect.Type) map[string]int {
	fields := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "" && name != "-" {
			fields[name] = i
		}
	}
	return fields
}

func (d *decoder) mapping(n *yaml.Node, p keyPath, v reflect.Value) {
	t := v.Type()
	v.Set(reflect.MakeMap(t))
	d.pairs(n, p, func(key, value *yaml.Node, at keyPath) {
		k := reflect.New(t.Key()).Elem()
		if !d.mapKey(key, at, k) {
			return
		}
		if v.MapIndex(k).IsValid() { // 1 and 0x1
			d.fail(key.Line, at, "duplicate key, as another number")
			return
		}
		element := reflect.New(t.Elem()).Elem()
		d.value(value, at, element)
		// A value that failed is kept too: other keys may refer to its name.
		v.SetMapIndex(k, element)
	})
}

// mapKey decodes a key of a map, which is a string or an int64. Strings are taken as they are written: a name that
// YAML takes for a number is still a name.
func (d *decoder) mapKey(n *yaml.Node, p keyPath, v reflect.Value) bool {
	if v.Kind() == reflect.String {
		v.SetString(n.Value)
		return true
	}
	i, err := strconv.ParseInt(n.Value, 0, 64)
	if err != nil {
		d.fail(n.Line, p, "want an integer as the key, have %s", describe(n))
		return false
	}
	v.SetInt(i)
	return true
}

func (d *decoder) sequence(n *yaml.Node, p keyPath, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n.Line, p, "want a list, have %s", describe(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(item, p.index(i), v.Index(i))
	}
}

func (d *decoder) scalar(n *yaml.Node, p keyPath, v reflect.Value) {
	tag := ""
	if n.Kind == yaml.ScalarNode {
		tag = n.ShortTag()
	}
	want := ""
	switch v.Kind() {
	case reflect.String:
		if tag == "!!str" {
			v.SetString(n.Value)
			return
		}
		want = "a string"
		if tag == "!!int" || tag == "!!float" || tag == "!!bool" || tag == "!!timestamp" {
			d.fail(n.Line, p, "want a string, have %s: quote it", describe(n))
			return
		}
	case reflect.Bool:
		if tag == "!!bool" && n.Decode(v.Addr().Interface()) == nil {
			return
		}
		want = "true or false"
	case reflect.Float64:
		if (tag == "!!int" || tag == "!!float") && n.Decode(v.Addr().Interface()) == nil {
			return
		}
		want = "a number"
	case reflect.Interface:
		switch tag {
		case "!!str", "!!int", "!!float", "!!bool":
			var value any
			if n.Decode(&value) == nil {
				v.Set(reflect.ValueOf(value))
				return
			}
		}
		want = "a string, a number or a boolean"
	}
	d.fail(n.Line, p, "want %s, have %s", want, describe(n))
}

// describe names what a node is, for messages.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	const most = 40
	text := n.Value
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!str":
		return fmt.Sprintf("the string %q", text)
	case "!!int":
		return "the integer " + text
	case "!!float":
		return "the number " + text
	case "!!bool":
		return "the boolean " + text
	case "!!timestamp":
		return "the date " + text
	}
	return fmt.Sprintf("%q with the tag %s", text, n.ShortTag())
}
