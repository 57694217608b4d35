// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A promise's test is one that exists, and what is fuzzed is told.
func TestReliabilityNamesTests(t *testing.T) {
	names := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`").FindAllStringSubmatch(content(t, "docs/reliability.md"), -1)
	require.NotEmpty(t, names)
	tests := make(map[string]bool)
	declaration := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir(repository, func(file string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		b, err := os.ReadFile(file)
		for _, match := range declaration.FindAllSubmatch(b, -1) {
			tests[string(match[1])] = true
		}
		return err
	})
	require.NoError(t, err)
	told := make(map[string]bool)
	for _, name := range names {
		told[name[1]] = true
		assert.True(t, tests[name[1]], "docs/reliability.md names %s, which does not exist", name[1])
	}
	for name := range tests {
		assert.True(t, told[name] || !strings.HasPrefix(name, "Fuzz"), "docs/reliability.md does not name %s", name)
	}
}

// Files that the documents refer to are there.
func TestDocumentsReferToFiles(t *testing.T) {
	code := regexp.MustCompile("(?s)```.*?```|`[^`]*`") // which may look like a link
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(?:#[^)]*)?\)`)
	files, err := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
	require.NoError(t, err)
	for _, name := range []string{readmeFile, "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "deploy/README.md", "examples/probes/README.md"} {
		files = append(files, filepath.Join(repository, name))
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, match := range link.FindAllSubmatch(code.ReplaceAll(b, nil), -1) {
			_, err := os.Stat(filepath.Join(filepath.Dir(file), string(match[1])))
			assert.NoError(t, err, "in %s", file)
		}
	}
}
