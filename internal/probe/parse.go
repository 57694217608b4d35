// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// specMaxSize bounds a probe.yaml, in bytes.
const specMaxSize = 1 << 20

// specMaxErrors bounds how many mistakes of one file are reported.
const specMaxErrors = 100

// SpecError is one mistake in a probe.yaml.
type SpecError struct {
	// File is the spec's path as it was given to [Parse].
	File string
	// Line counts from 1; 0 when the mistake has no place.
	Line int
	// Key is the dotted path of the key, empty for the whole file.
	Key string
	// Message says what is wrong.
	Message string
}

// Error is in the form that editors know: "file:line: key: message".
func (e *SpecError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	b.WriteString(": ")
	if e.Key != "" {
		b.WriteString(e.Key)
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	return b.String()
}

// Parse reads and checks the [SpecFile] in the root of a probe's folder; file names it in messages. It is strict: an
// unknown, doubled, missing or wrongly typed key is an error. All mistakes are reported at once, as a join of
// *[SpecError] in the order of their lines. It neither opens the object nor touches the kernel.
func Parse(fsys fs.FS, file string) (*Spec, error) {
	text, err := readSpec(fsys)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	spec, errs := parse(text, file)
	if len(errs) > 0 {
		return nil, joinSpecErrors(errs)
	}
	spec.FS = fsys
	return spec, nil
}

// Builtin parses the probe in each first-level folder of fsys, by name. A probe is named after its folder, and no
// two of them declare the same metric or event. All mistakes of all probes are reported at once.
func Builtin(fsys fs.FS) (map[string]*Spec, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("listing the built-in probes: %w", err)
	}
	var errs []error
	specs := make(map[string]*Spec, len(entries))
	owners := make(map[string]string)
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		folder, err := fs.Sub(fsys, entry.Name())
		if err != nil {
			errs = append(errs, fmt.Errorf("opening the folder of probe %s: %w", entry.Name(), err))
			continue
		}
		file := path.Join("bpf", entry.Name(), SpecFile)
		spec, err := Parse(folder, file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if spec.Name != entry.Name() {
			errs = append(errs, &SpecError{
				File: file, Line: 0, Key: "name",
				Message: fmt.Sprintf("%q is not the folder's name %q", spec.Name, entry.Name()),
			})
		}
		for _, name := range slices.Concat(sortedKeys(spec.Metrics), sortedKeys(spec.Events)) {
			if owner, taken := owners[name]; taken {
				errs = append(errs, &SpecError{
					File: file, Line: 0, Key: name,
					Message: fmt.Sprintf("probe %s declares it too", owner),
				})
				continue
			}
			owners[name] = spec.Name
		}
		specs[spec.Name] = spec
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return specs, nil
}

// readSpec reads the bounded spec file. What is no regular file is not opened: a pipe would block.
func readSpec(fsys fs.FS) ([]byte, error) {
	info, err := fs.Stat(fsys, SpecFile)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := fsys.Open(SpecFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, specMaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(text) > specMaxSize {
		return nil, fmt.Errorf("larger than %d bytes", specMaxSize)
	}
	return text, nil
}

// parse turns the text of a spec into a checked Spec, or into the mistakes in it.
func parse(text []byte, file string) (*Spec, []*SpecError) {
	root, problem := parseYAML(text, file)
	if problem != nil {
		return nil, []*SpecError{problem}
	}
	d := newDecoder(file)
	spec := &Spec{Path: file}
	if d.decode(root, spec) {
		c := &checker{decoder: d, spec: spec}
		c.check()
	}
	if len(d.errs) > 0 {
		return nil, d.errs
	}
	return spec, nil
}

// parseYAML returns the root of the only document of the text.
func parseYAML(text []byte, file string) (*yaml.Node, *SpecError) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	err := dec.Decode(&document)
	switch {
	case errors.Is(err, io.EOF) || err == nil && len(document.Content) == 0:
		return nil, &SpecError{File: file, Message: "the file is empty"}
	case err != nil:
		return nil, syntaxError(err, file)
	}
	err = dec.Decode(&second)
	switch {
	case err == nil:
		return nil, &SpecError{File: file, Line: second.Line, Message: "a second document: a file holds one probe"}
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(err, file)
	}
	return document.Content[0], nil
}

var yamlErrorLine = regexp.MustCompile(`^line (\d+): `)

// syntaxError turns "yaml: line 3: what" of the YAML package into a SpecError.
func syntaxError(err error, file string) *SpecError {
	e := &SpecError{File: file, Message: strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := yamlErrorLine.FindStringSubmatch(e.Message); m != nil {
		e.Line, _ = strconv.Atoi(m[1]) // the expression lets only digits through; 0 means no line
		e.Message = e.Message[len(m[0]):]
	}
	e.Message = "not YAML: " + e.Message
	return e
}

// joinSpecErrors sorts by line, then key, and cuts what nobody would read.
func joinSpecErrors(errs []*SpecError) error {
	slices.SortStableFunc(errs, func(a, b *SpecError) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.Key, b.Key))
	})
	joined := make([]error, 0, min(len(errs), specMaxErrors)+1)
	for i, e := range errs {
		if i == specMaxErrors {
			joined = append(joined, &SpecError{File: e.File, Message: fmt.Sprintf("and %d more mistakes", len(errs)-i)})
			break
		}
		joined = append(joined, e)
	}
	return errors.Join(joined...)
}
