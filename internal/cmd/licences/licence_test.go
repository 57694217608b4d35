// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"runtime/debug"
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
