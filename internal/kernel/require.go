// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
)

// Requirement is a parsed requirement of a probe's program.
type Requirement struct {
	// Kind is field, func, args, map, config or namespace.
	Kind string
	// Name is the struct, function, tracepoint, map type, build option or kind of namespace.
	Name string
	// Field is the dotted path in the struct, of a field requirement.
	Field string
	// Arg is the number of arguments of a tracepoint, or with Struct the index of one that points at that struct.
	Arg    int
	Struct string
}

// ParseRequirement reads one entry of a program's requires list:
//
//	field/STRUCT.FIELD    the struct has the field; FIELD may be dotted
//	func/NAME             the function exists
//	args/TRACEPOINT:N     the typed tracepoint has exactly N arguments
//	args/TRACEPOINT:N=S   argument N of the typed tracepoint, counted from 0, points at struct S
//	map/TYPE              the map type, as in BPF_MAP_TYPE_TYPE; case does not matter
//	config/NAME           the build option is y or m
//	namespace/KIND        this process is in the initial namespace of that kind: cgroup, ipc, pid, user or uts
func ParseRequirement(text string) (Requirement, error) {
	malformed := func(want string) (Requirement, error) {
		return Requirement{}, fmt.Errorf("malformed requirement %q: want %s", text, want)
	}
	kind, rest, ok := strings.Cut(text, "/")
	r := Requirement{Kind: kind, Name: rest}
	if !ok || rest == "" {
		return malformed("field/STRUCT.FIELD, func/NAME, args/TRACEPOINT:N, args/TRACEPOINT:N=STRUCT, map/TYPE, config/NAME or namespace/KIND")
	}
	switch kind {
	case "func":
	case "namespace":
		if _, ok := initialNamespaces[rest]; !ok {
			return malformed("namespace/KIND with cgroup, ipc, pid, user or uts")
		}
	case "config":
		r.Name = strings.TrimPrefix(rest, "CONFIG_")
	case "map":
		if _, ok := mapTypes()[mapTypeName(rest)]; !ok {
			return malformed("map/TYPE with one of the types in bpf_map_type: hash, percpu_hash, task_storage, ...")
		}
	case "field":
		r.Name, r.Field, ok = strings.Cut(rest, ".")
		if !ok || r.Name == "" || r.Field == "" {
			return malformed("field/STRUCT.FIELD")
		}
	case "args":
		const want = "args/TRACEPOINT:N or args/TRACEPOINT:N=STRUCT"
		var args string
		r.Name, args, ok = strings.Cut(rest, ":")
		if !ok || r.Name == "" {
			return malformed(want)
		}
		number, target, targeted := strings.Cut(args, "=")
		n, err := strconv.ParseUint(number, 10, 4) // a tracepoint has at most 12
		if err != nil || targeted && target == "" {
			return malformed(want)
		}
		r.Arg, r.Struct = int(n), target
	default:
		return malformed("field/, func/, args/, map/, config/ or namespace/")
	}
	return r, nil
}

// Require tells whether the running kernel meets a requirement, in the form that [ParseRequirement] reads. The error is an
// [*UnsupportedError] when it does not; any other means that the requirement is malformed or that it could not be found out.
func (k *Kernel) Require(text string) error {
	r, err := ParseRequirement(text)
	if err != nil {
		return err
	}
	return k.answer("require/"+text, func() error {
		switch r.Kind {
		case "field":
			return k.haveField(r.Name, r.Field)
		case "func":
			return k.haveFunc(r.Name)
		case "args":
			return k.haveArgs(r)
		case "map":
			return k.haveMap(mapTypes()[mapTypeName(r.Name)])
		case "namespace":
			return k.haveNamespace(r.Name)
		default:
			return k.haveConfig(r.Name)
		}
	})
}

// answer remembers conclusive answers: yes, or that it is not supported.
func (k *Kernel) answer(question string, ask func() error) error {
	k.mu.Lock()
	err, known := k.answers[question]
	k.mu.Unlock()
	if known {
		return err
	}
	err = ask()
	if err == nil || errors.Is(err, ErrNotSupported) {
		k.mu.Lock()
		if k.answers == nil {
			k.answers = make(map[string]error)
		}
		k.answers[question] = err
		k.mu.Unlock()
	}
	return err
}

func (k *Kernel) haveField(name, field string) error {
	types, err := k.Types()
	if err != nil {
		return err
	}
	found, err := types.AnyTypesByName(name)
	if errors.Is(err, btf.ErrNotFound) {
		return &UnsupportedError{Feature: "struct " + name, Err: err}
	}
	if err != nil {
		return fmt.Errorf("look up struct %s: %w", name, err)
	}
	for _, t := range found {
		switch btf.UnderlyingType(t).(type) {
		case *btf.Struct, *btf.Union:
			if hasField(t, field) {
				return nil
			}
		}
	}
	return &UnsupportedError{Feature: "field " + name + "." + field}
}

// hasField tells whether the path exists; bit fields count, since programs can read them.
func hasField(t btf.Type, path string) bool {
	_, err := layout.FieldOf(t, path)
	var none *layout.FieldError
	return !errors.As(err, &none)
}

func (k *Kernel) haveFunc(name string) error {
	types, err := k.Types()
	if err != nil {
		return err
	}
	var fn *btf.Func
	err = types.TypeByName(name, &fn)
	switch {
	case err == nil, errors.Is(err, btf.ErrMultipleMatches):
		return nil
	case errors.Is(err, btf.ErrNotFound):
		return &UnsupportedError{Feature: "function " + name, Err: err}
	}
	return fmt.Errorf("look up function %s: %w", name, err)
}

func (k *Kernel) haveMap(t ebpf.MapType) error {
	err := features.HaveMapType(t)
	if errors.Is(err, ErrNotSupported) {
		return &UnsupportedError{Feature: "map type " + t.String(), Err: err}
	}
	if err != nil {
		return k.Refused("create a map of type "+t.String(), err)
	}
	return nil
}

func (k *Kernel) haveConfig(name string) error {
	value, err := k.Config(name)
	if err != nil {
		return err
	}
	switch value {
	case "":
		return &UnsupportedError{Feature: "CONFIG_" + name}
	case "n":
		return &UnsupportedError{Feature: "CONFIG_" + name, Reason: "it is n"}
	}
	return nil
}

// haveArgs looks at the prototype in the typedef btf_trace_NAME. Its first parameter is the program's own void pointer.
func (k *Kernel) haveArgs(r Requirement) error {
	proto, err := k.tracepointProto(r.Name)
	if err != nil {
		return err
	}
	args := proto.Params
	if len(args) > 0 {
		args = args[1:]
	}
	if r.Struct == "" {
		if len(args) != r.Arg {
			return &UnsupportedError{
				Feature: fmt.Sprintf("tracepoint %s with %d arguments", r.Name, r.Arg),
				Reason:  fmt.Sprintf("it has %d here", len(args)),
			}
		}
		return nil
	}
	lacks := &UnsupportedError{Feature: fmt.Sprintf("tracepoint %s whose argument %d is a struct %s", r.Name, r.Arg, r.Struct)}
	if r.Arg >= len(args) {
		lacks.Reason = fmt.Sprintf("it has %d arguments here", len(args))
		return lacks
	}
	pointer, ok := btf.UnderlyingType(args[r.Arg].Type).(*btf.Pointer)
	if !ok {
		lacks.Reason = "that is no pointer here"
		return lacks
	}
	target := btf.UnderlyingType(pointer.Target)
	if target.TypeName() != r.Struct {
		lacks.Reason = fmt.Sprintf("it points at %s here", btfName(target))
		return lacks
	}
	return nil
}

func btfName(t btf.Type) string {
	if name := t.TypeName(); name != "" {
		return name
	}
	return "something without a name"
}
