// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLicenceOf(t *testing.T) {
	own := func(name string) string {
		b, err := os.ReadFile(filepath.Join("../../..", name))
		require.NoError(t, err)
		return string(b)
	}
	const mit = "Permission is hereby granted, free of charge, to any\n person obtaining a copy of this software"
	const bsd = "Redistribution and use in source and binary forms, with or without"
	for _, test := range []struct {
		texts     []string
		want, err string
	}{
		{[]string{own("LICENSE")}, "Apache-2.0", ""},
		{[]string{own("LICENSES/BSD-2-Clause.txt")}, "BSD-2-Clause", ""},
		{[]string{own("LICENSES/GPL-2.0-only.txt")}, "", "GPL"},
		{[]string{mit}, "MIT", ""},
		{[]string{mit + " and " + own("LICENSE")}, "Apache-2.0 AND MIT", ""},
		{[]string{own("LICENSE"), own("LICENSE")}, "Apache-2.0", ""},
		{[]string{bsd + " to endorse or promote products"}, "BSD-3-Clause", ""},
		{[]string{"Mozilla Public License, version 2.0. Secondary License: GNU General Public License"}, "MPL-2.0", ""},
		{[]string{"All rights reserved."}, "", "not one that is known"},
	} {
		got, err := licenceOf(test.texts)
		if test.err != "" {
			assert.ErrorContains(t, err, test.err)
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, test.want, got)
	}
}

func TestLicenceTexts(t *testing.T) {
	dir := t.TempDir()
	_, err := licenceTexts(dir)
	require.ErrorContains(t, err, "no licence")
	for _, name := range []string{"LICENSE.txt", "COPYING", "licences.go", "LICENSE-MIT"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
	}
	texts, err := licenceTexts(dir)
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"LICENSE.txt", "COPYING", "LICENSE-MIT"}, texts)
	_, err = licenceTexts("")
	require.Error(t, err)
}

func TestCacheDir(t *testing.T) {
	assert.Equal(t, "/cache/github.com/!azure/x@v1.0.0", cacheDir("/cache", &debug.Module{Path: "github.com/Azure/x", Version: "v1.0.0"}))
}

// A module that a folder stands for is our own, and none that somebody else licenses.
func TestDependenciesWithoutOurOwn(t *testing.T) {
	dir := t.TempDir()
	for file, text := range map[string]string{
		"own/go.mod":  "module example.com/own\n\ngo 1.25\n",
		"own/own.go":  "package own\n",
		"full/go.mod": "module example.com/full\n\ngo 1.25\n\nrequire example.com/own v0.1.0\n\nreplace example.com/own => ../own\n",
		"full/a.go":   "package main\n\nimport _ \"example.com/own\"\n\nfunc main() {}\n",
	} {
		file = filepath.Join(dir, file)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	found, err := dependencies(filepath.Join(dir, "full"), ".")
	require.NoError(t, err)
	assert.Empty(t, found)
	found, err = dependencies("../../..", "./receiver")
	require.NoError(t, err)
	assert.NotEmpty(t, found)
}

// A module is listed where it comes first, and a Collector that was not looked at has no list.
func TestPage(t *testing.T) {
	modules := map[string]*module{
		"a": {Path: "example.com/a", Version: "v1.0.0", licence: "MIT", uses: []string{inCollector, inFull}},
		"b": {Path: "example.com/a", Version: "v1.1.0", licence: "ISC", uses: []string{inFull}},
	}
	_, text, _ := strings.Cut(string(page(modules, true, true)), "\n## Receiver")
	assert.Equal(t, `
| module | version | licence |
| --- | --- | --- |

## Collector, besides those
| module | version | licence |
| --- | --- | --- |
| example.com/a | v1.0.0 | MIT |

## Collector of deploy/builder-config.full.yaml, besides those
| module | version | licence |
| --- | --- | --- |
| example.com/a | v1.1.0 | ISC |

## Tests only
| module | version | licence |
| --- | --- | --- |
`, text)
	assert.NotContains(t, string(page(modules, true, false)), "## Collector of")
}
