// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"go.opentelemetry.io/collector/confmap"

	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

// problems collects the mistakes in a configuration, each as a [probe.ConfigError].
type problems struct {
	errs []error
}

// add notes what err is or joins as mistakes at a place. A nil err is none.
func (p *problems) add(err error, keys ...string) {
	p.join(probe.PrefixConfig(err, keys...))
}

// join notes what err is or joins, which have their places already.
func (p *problems) join(err error) {
	switch e := err.(type) { //nolint:errorlint // only a join itself is taken apart
	case nil:
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			p.join(err)
		}
	default:
		p.errs = append(p.errs, err)
	}
}

// err is nil, or a join of all mistakes without repetitions.
func (p *problems) err() error {
	seen := make(map[string]bool, len(p.errs))
	return configErrors(slices.DeleteFunc(p.errs, func(err error) bool {
		known := seen[err.Error()]
		seen[err.Error()] = true
		return known
	})).orNil()
}

// configErrors is like the result of [errors.Join], and shows several errors as an indented list: the
// Collector puts the component's name before the first line only.
type configErrors []error

func (e configErrors) orNil() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

func (e configErrors) Unwrap() []error { return e }

func (e configErrors) Error() string {
	if len(e) == 1 {
		return e[0].Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d mistakes:", len(e))
	for _, err := range e {
		b.WriteString("\n    ")
		b.WriteString(strings.ReplaceAll(err.Error(), "\n", "\n    "))
	}
	return b.String()
}

func unknownProbe(name string, known []string) error {
	return fmt.Errorf("%w (a probe of your own needs a path)", probe.Unknown("probe", name, known))
}

// withCommonKeys adds the keys of every probe to those that an unknown option is compared with.
func withCommonKeys(err error) error {
	var p problems
	p.join(err)
	for i, err := range p.errs {
		var at *probe.ConfigError
		var unknown *probe.UnknownError
		if errors.As(err, &at) && len(at.Path) == 0 && errors.As(at.Err, &unknown) {
			valid := append(slices.Clone(unknown.Valid), tags(reflect.TypeFor[ProbeConfig]())...)
			p.errs[i] = &probe.ConfigError{Err: probe.Unknown("key", unknown.Name, valid)}
		}
	}
	return p.err()
}

// unknownKeys compares what was written with what can be decoded into the same struct.
func unknownKeys(target any, written map[string]any) []error {
	var p problems
	walkKeys(&p, reflect.TypeOf(target), written, nil)
	return p.errs
}

func walkKeys(p *problems, t reflect.Type, written any, path []string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if len(path) > 0 && reflect.PointerTo(t).Implements(reflect.TypeFor[confmap.Unmarshaler]()) {
		return // decodes its own keys, strictly
	}
	m, ok := written.(map[string]any)
	if !ok {
		return // nothing, a scalar or a list; whether that fits is for the decoder to say
	}
	switch t.Kind() {
	case reflect.Map:
		for _, key := range slices.Sorted(maps.Keys(m)) {
			walkKeys(p, t.Elem(), m[key], append(slices.Clone(path), key))
		}
	case reflect.Struct:
		fields, remain := structFields(t)
		for _, key := range slices.Sorted(maps.Keys(m)) {
			field, known := fields[key]
			switch {
			case known:
				walkKeys(p, field, m[key], append(slices.Clone(path), key))
			case !remain:
				p.add(probe.Unknown("key", key, slices.Sorted(maps.Keys(fields))), path...)
			}
		}
	}
}

// structFields are the types of a struct's keys, and whether it takes any other key too.
func structFields(t reflect.Type) (fields map[string]reflect.Type, remain bool) {
	fields = make(map[string]reflect.Type, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("mapstructure"), ",")
		if name != "" {
			fields[name] = f.Type
		}
		remain = remain || options == "remain"
	}
	return fields, remain
}

// tags are a struct's keys.
func tags(t reflect.Type) []string {
	fields, _ := structFields(t)
	return slices.Collect(maps.Keys(fields))
}

// decodeProblems turns the decoder's error into mistakes with their places in the target.
func decodeProblems(target any, err error) []error {
	var p problems
	var walk func(err error, t reflect.Type, path []string)
	walk = func(err error, t reflect.Type, path []string) {
		switch e := err.(type) { //nolint:errorlint // each layer is taken off by itself
		case *mapstructure.DecodeError:
			keys, t := decoderPath(t, e.Name())
			walk(e.Unwrap(), t, append(slices.Clone(path), keys...))
		case interface{ Unwrap() []error }:
			for _, err := range e.Unwrap() {
				walk(err, t, path)
			}
		default:
			// A sentence around mistakes says nothing that their places do not.
			var inner *mapstructure.DecodeError
			if errors.As(err, &inner) {
				walk(errors.Unwrap(err), t, path)
				return
			}
			p.add(err, path...)
		}
	}
	walk(err, reflect.TypeOf(target), nil)
	slices.SortStableFunc(p.errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return p.errs
}

// decoderPath splits the decoder's name for a place below a type, such as
// "probes[cpu].metrics[process.cpu.time].enabled", and returns the type that is there. Keys of structs
// may hold dots too, so they are looked up.
func decoderPath(t reflect.Type, name string) ([]string, reflect.Type) {
	var path []string
	for name != "" {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		key, length := "", 0
		switch t.Kind() {
		case reflect.Struct:
			fields, _ := structFields(t)
			for field := range fields {
				rest, ok := strings.CutPrefix(name, field)
				if ok && len(field) > length && (rest == "" || rest[0] == '.' || rest[0] == '[') {
					key, length = field, len(field)
				}
			}
			if length > 0 {
				t = fields[key]
			}
		case reflect.Map, reflect.Slice:
			if end := strings.IndexByte(name, ']'); end > 0 {
				key, length, t = name[1:end], end+1, t.Elem()
			}
		}
		if length == 0 {
			return append(path, name), t
		}
		path, name = append(path, key), strings.TrimPrefix(name[length:], ".")
	}
	return path, t
}
