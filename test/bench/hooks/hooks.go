// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package hooks has programs at the hooks which a TCP connection passes, for benchmarks: some that do nothing, and some that do the least.
package hooks

import (
	"bytes"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
)

//go:embed hooks.bpf.o
var object []byte

// Nothing are those that do nothing. They are there until unload is called.
func Nothing() (programs []*ebpf.Program, unload func(), err error) { return load("nothing_") }

// Least are those that only count connections, their bytes and their times. They are there until unload is called.
func Least() (programs []*ebpf.Program, unload func(), err error) { return load("least_") }

// load loads the programs whose names begin with prefix.
func load(prefix string) (programs []*ebpf.Program, unload func(), err error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, nil, fmt.Errorf("read the hooks' object: %w", err)
	}
	maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return !strings.HasPrefix(name, prefix) })
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, nil, fmt.Errorf("load the programs %s*: %w", prefix, err)
	}
	return slices.Collect(maps.Values(c.Programs)), c.Close, nil
}
