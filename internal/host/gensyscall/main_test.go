// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The committed tables are those of the golang.org/x/sys in go.mod.
func TestTablesAreFresh(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	require.NoError(t, err)
	for _, arch := range []string{"amd64", "arm64"} {
		source, err := os.Open(filepath.Join(strings.TrimSpace(string(dir)), "unix", "zsysnum_linux_"+arch+".go"))
		require.NoError(t, err)
		defer source.Close()
		want, err := generate(source)
		require.NoError(t, err)
		got, err := os.ReadFile("../zsyscall_" + arch + ".go")
		require.NoError(t, err)
		assert.Equal(t, string(want), string(got), "run go generate ./internal/host")
	}
}

func TestGenerate(t *testing.T) {
	got, err := generate(strings.NewReader("package unix\nconst (\n\tSYS_READ = 0\n\tSYS__SYSCTL = 156\n\tSYS_ARCH_SPECIFIC_SYSCALL = 244\n\tOTHER = 3\n)\n"))
	require.NoError(t, err)
	assert.Contains(t, string(got), "\t0:   \"read\",\n\t156: \"_sysctl\",\n}")

	for name, source := range map[string]string{
		"none":    "package unix\n",
		"twice":   "package unix\nconst (\n\tSYS_A = 1\n\tSYS_B = 1\n)\n",
		"literal": "package unix\nconst SYS_A = x\n",
		"number":  "package unix\nconst SYS_A = 1.5\n",
		"syntax":  "package\n",
	} {
		_, err := generate(strings.NewReader(source))
		assert.Error(t, err, name)
	}
}
