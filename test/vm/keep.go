// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// note keeps a result for the next run, whatever becomes of this one.
func (m *matrix) note(r *result) error {
	if m.keep == "" {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	kept, err := m.kept()
	if err != nil {
		return err
	}
	place := r.Column + ", " + r.Environment
	if before := kept[place]; before != nil && m.options.packages != "" && r.Environment == "" {
		r.beside(before, m.packages)
	}
	kept[place] = r
	b, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return os.WriteFile(m.keep, b, 0o644)
}

// kept are the results of this run and of earlier ones.
func (m *matrix) kept() (map[string]*result, error) {
	kept := make(map[string]*result)
	b, err := os.ReadFile(m.keep)
	if errors.Is(err, os.ErrNotExist) {
		return kept, nil
	}
	if err != nil {
		return nil, err
	}
	return kept, json.Unmarshal(b, &kept)
}

// recall puts the kept results in the place of this run's, which are among them, in the matrix's order. It leaves out what is of other binaries than those
// that there are now.
func (m *matrix) recall(ctx context.Context) error {
	if m.keep == "" {
		return nil
	}
	kept, err := m.kept()
	if err != nil {
		return err
	}
	var columns []string
	for _, p := range m.pins {
		if !slices.Contains(columns, p.String()) {
			columns = append(columns, p.String())
		}
	}
	m.results = nil
	for _, column := range append(columns, "host "+hostArch) {
		for _, e := range environments {
			r, ok := kept[column+", "+e.name]
			if !ok || !e.on(column) {
				continue
			}
			left, err := m.fits(ctx, r, e)
			if err != nil {
				return err
			}
			if left {
				m.results = append(m.results, r)
			}
		}
	}
	return nil
}

// fits drops what is not of the present binaries from a kept result; false when nothing is left.
func (m *matrix) fits(ctx context.Context, r *result, e environment) (bool, error) {
	_, arch, _ := strings.Cut(r.Column, " ")
	programs, err := m.programs(ctx, arch)
	if err != nil {
		return false, err
	}
	packages := slices.DeleteFunc(r.packagesOf(), func(pkg string) bool { return !exists(programs.path(pkg)) })
	now, err := m.made(programs, r.Column, e, packages)
	if err != nil {
		return false, err
	}
	dropped, left := r.dropOthers(now)
	for _, what := range dropped {
		fmt.Fprintf(m.log, "%s, %s: kept, and left out: %s\n", r.Column, e.title(), what)
	}
	return left, nil
}
