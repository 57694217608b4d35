// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// accepted are the licences that the project takes, by their SPDX identifiers.
var accepted = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MPL-2.0", "Unlicense"}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)([-.].*)?$`)

// licenceTexts are a module's, from its top folder.
func licenceTexts(dir string) ([]string, error) {
	if dir == "" {
		return nil, errors.New("its sources are not here: run `go mod download`")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, e := range entries {
		if e.IsDir() || !licenceFile.MatchString(e.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		texts = append(texts, string(b))
	}
	if len(texts) == 0 {
		return nil, errors.New("it has no licence")
	}
	return texts, nil
}

// phrases tell licences apart, the more special ones first. All texts of a phrase have to be there.
var phrases = []struct {
	licence string
	texts   []string
}{
	{"Apache-2.0", []string{"apache license", "version 2.0"}},
	{"MPL-2.0", []string{"mozilla public license", "2.0"}},
	{"CC0-1.0", []string{"cc0 1.0"}},
	{"Unlicense", []string{"this is free and unencumbered software"}},
	{"GPL", []string{"gnu general public license"}},
	{"LGPL", []string{"gnu lesser general public license"}},
	{"MIT", []string{"permission is hereby granted, free of charge, to any person obtaining a copy"}},
	{"ISC", []string{"permission to use, copy, modify, and/or distribute this software for any purpose"}},
	{"ISC", []string{"permission to use, copy, modify, and distribute this software for any purpose"}},
	{"BSD-3-Clause", []string{"redistribution and use in source and binary forms", "endorse or promote products"}},
	{"BSD-2-Clause", []string{"redistribution and use in source and binary forms"}},
}

// licenceOf is the SPDX expression of a module's licence. A text may have several licences, of which all are taken to hold.
func licenceOf(texts []string) (string, error) {
	var found []string
	for _, text := range texts {
		text = strings.ToLower(strings.Join(strings.Fields(text), " "))
		var here []string
		for _, p := range phrases {
			has := !slices.ContainsFunc(p.texts, func(phrase string) bool { return !strings.Contains(text, phrase) })
			// Others are named in the Mozilla licence, and one BSD licence contains the other.
			if has && !slices.Contains(here, "MPL-2.0") && (p.licence != "BSD-2-Clause" || !slices.Contains(here, "BSD-3-Clause")) {
				here = append(here, p.licence)
			}
		}
		found = append(found, here...)
	}
	slices.Sort(found)
	found = slices.Compact(found)
	if len(found) == 0 {
		return "", errors.New("its licence is not one that is known")
	}
	for _, f := range found {
		if !slices.Contains(accepted, f) {
			return "", fmt.Errorf("its licence is %s", f)
		}
	}
	return strings.Join(found, " AND "), nil
}
