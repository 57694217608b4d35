// SPDX-License-Identifier: Apache-2.0

// Command gendocs writes what users read about the built-in probes from what the probes themselves declare:
//
//	docs/probes/PROBE.md     a page for each probe
//	docs/config.schema.json  the JSON schema of the receiver's configuration
//	README.md                the table between the lines <!-- probes:begin --> and <!-- probes:end -->
//
// It is run from the module's root by `make generate`. With -check it writes nothing and fails when a file is not as
// it would write it.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

const (
	pagesFolder = "docs/probes"
	schemaFile  = "docs/config.schema.json"
	readmeFile  = "README.md"
)

func main() {
	root := flag.String("root", ".", "the module's folder")
	check := flag.Bool("check", false, "write nothing; fail when a file would change")
	flag.Parse()
	if err := run(*root, *check, func(file string) { fmt.Println(file) }); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

func run(root string, check bool, tell func(file string)) error {
	specs, err := probe.Builtin(bpf.Probes)
	if err != nil {
		return err
	}
	files, err := generate(os.DirFS(root), specs, readObject)
	if err != nil {
		return err
	}
	if check {
		return compare(os.DirFS(root), files, tell)
	}
	return write(root, files, tell)
}

// generate returns the contents of each file by its slashed path below root; nil for one that has to go.
func generate(root fs.FS, specs map[string]*probe.Spec, read func(*probe.Spec) (*object, error)) (map[string][]byte, error) {
	files := make(map[string][]byte)
	// A page whose probe is gone goes too, unless somebody wrote it by hand.
	pages, err := fs.Glob(root, path.Join(pagesFolder, "*.md"))
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", pagesFolder, err)
	}
	for _, page := range pages {
		text, err := fs.ReadFile(root, page)
		if err != nil {
			return nil, err
		}
		if bytes.HasPrefix(text, []byte(pageMark)) {
			files[page] = nil
		}
	}
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		o, err := read(specs[name])
		if err != nil {
			return nil, fmt.Errorf("reading the object of %s: %w", name, err)
		}
		files[path.Join(pagesFolder, name+".md")] = page(specs[name], o)
	}
	if files[schemaFile], err = schema(root, specs); err != nil {
		return nil, err
	}
	readme, err := fs.ReadFile(root, readmeFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return files, nil
	case err != nil:
		return nil, err
	}
	updated, ok, err := updateReadme(readme, specs)
	if err != nil {
		return nil, err
	}
	if ok {
		files[readmeFile] = updated
	}
	return files, nil
}

// compare fails when a file is not as it should be, after naming all such files.
func compare(root fs.FS, files map[string][]byte, tell func(file string)) error {
	stale := 0
	for _, name := range slices.Sorted(maps.Keys(files)) {
		same, err := isSame(root, name, files[name])
		if err != nil {
			return err
		}
		if !same {
			stale++
			tell(name)
		}
	}
	if stale > 0 {
		return fmt.Errorf("%d files are not up to date: run make generate", stale)
	}
	return nil
}

func isSame(root fs.FS, name string, want []byte) (bool, error) {
	have, err := fs.ReadFile(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return want == nil, nil
	}
	return want != nil && bytes.Equal(have, want), err
}

// write brings the files up to date and names those that it touched.
func write(root string, files map[string][]byte, tell func(file string)) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		same, err := isSame(os.DirFS(root), name, files[name])
		if err != nil {
			return err
		}
		if same {
			continue
		}
		tell(name)
		file := filepath.Join(root, filepath.FromSlash(name))
		if files[name] == nil {
			err = os.Remove(file)
		} else if err = os.MkdirAll(filepath.Dir(file), 0o755); err == nil {
			err = os.WriteFile(file, files[name], 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

const (
	readmeBegin = "<!-- probes:begin -->\n"
	readmeEnd   = "<!-- probes:end -->"
)

// updateReadme replaces what is between the marks; false when there are none.
func updateReadme(readme []byte, specs map[string]*probe.Spec) ([]byte, bool, error) {
	before, rest, ok := strings.Cut(string(readme), readmeBegin)
	if !ok {
		return nil, false, nil
	}
	_, after, ok := strings.Cut(rest, readmeEnd)
	if !ok {
		return nil, false, fmt.Errorf("%s: %s without %s", readmeFile, strings.TrimSpace(readmeBegin), readmeEnd)
	}
	return []byte(before + readmeBegin + "\n" + summary(specs) + "\n" + readmeEnd + after), true, nil
}
