// SPDX-License-Identifier: Apache-2.0

// Command licences writes docs/dependencies.md: each Go module that this one or one of the ready-made Collectors is built with, and its licence. It
// fails for a module whose licence it does not know, or that is none of those which the project takes.
//
//	go run ./internal/cmd/licences [-check] [-collector build/otelcol-ebpf] [-full build/full]
package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
)

func main() {
	root := flag.String("root", ".", "the module's `folder`")
	collector := flag.String("collector", "", "the ready-made Collector's `program`, whose modules are listed, too")
	full := flag.String("full", "", "the `folder` with the sources of the Collector that has everything, whose modules are listed, too")
	check := flag.Bool("check", false, "write nothing; fail when the page is not up to date")
	flag.Parse()
	if err := run(*root, *collector, *full, *check); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

// module is one dependency.
type module struct {
	Path, Version, Dir string
	Main               bool
	Replace            *module

	licence string
	// uses are where it is built into.
	uses []string
}

const (
	inReceiver  = "receiver"
	inTests     = "tests"
	inCollector = "Collector"
	inFull      = "full Collector"
)

func run(root, collector, full string, check bool) error {
	modules := make(map[string]*module)
	add := func(m *module, use string) {
		known := modules[m.Path+"@"+m.Version]
		if known == nil {
			known = m
			modules[m.Path+"@"+m.Version] = m
		}
		if !slices.Contains(known.uses, use) {
			known.uses = append(known.uses, use)
		}
	}
	for _, list := range []struct {
		use  string
		args []string
	}{
		{inReceiver, []string{"./receiver"}}, {inTests, []string{"-test", "./..."}},
	} {
		found, err := dependencies(root, list.args...)
		if err != nil {
			return err
		}
		for _, m := range found {
			add(m, list.use)
		}
	}
	if collector != "" {
		found, err := linked(collector)
		if err != nil {
			return err
		}
		for _, m := range found {
			add(m, inCollector)
		}
	}
	if full != "" {
		found, err := dependencies(full, ".")
		if err != nil {
			return err
		}
		for _, m := range found {
			add(m, inFull)
		}
	}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(modules)) {
		m := modules[key]
		texts, err := licenceTexts(m.Dir)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
			continue
		}
		if m.licence, err = licenceOf(texts); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
		// What only tests need is told apart from what users get.
		if len(m.uses) > 1 {
			m.uses = slices.DeleteFunc(m.uses, func(use string) bool { return use == inTests })
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	text := page(modules, collector != "", full != "")
	file := filepath.Join(root, "docs", "dependencies.md")
	if !check {
		return os.WriteFile(file, text, 0o644)
	}
	if before, err := os.ReadFile(file); err != nil || !bytes.Equal(before, text) {
		return errors.New("docs/dependencies.md is not up to date: run `make dependencies`")
	}
	return nil
}

// dependencies are the modules of what is imported by packages of the one in a folder.
func dependencies(root string, args ...string) ([]*module, error) {
	cmd := exec.Command("go", append([]string{"list", "-deps", "-json=Module"}, args...)...)
	cmd.Dir, cmd.Stderr = root, os.Stderr
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0") // as all is built
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the packages: %w", err)
	}
	var found []*module
	for in := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct{ Module *module }
		err := in.Decode(&p)
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list the packages: %w", err)
		}
		if p.Module != nil && !p.Module.Main && (p.Module.Replace == nil || p.Module.Replace.Version != "") { // not our own working tree
			found = append(found, p.Module)
		}
	}
}

// linked are the modules that a program was built of. Their sources are in the module cache.
func linked(program string) ([]*module, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("read the Collector: %w", err)
	}
	out, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		return nil, fmt.Errorf("find the module cache: %w", err)
	}
	cache := strings.TrimSpace(string(out))
	var found []*module
	for _, d := range info.Deps {
		if d.Replace != nil {
			continue // our own working tree
		}
		found = append(found, &module{Path: d.Path, Version: d.Version, Dir: cacheDir(cache, d)})
	}
	return found, nil
}

// cacheDir is where a module is in the cache: upper case letters have an exclamation mark there, https://go.dev/ref/mod#module-cache.
func cacheDir(cache string, d *debug.Module) string {
	var b strings.Builder
	for _, r := range d.Path + "@" + d.Version {
		if r >= 'A' && r <= 'Z' {
			b.WriteByte('!')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return filepath.Join(cache, filepath.FromSlash(b.String()))
}
