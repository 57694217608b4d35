// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Built is the built Collector's path in the module's root folder. It skips a test that would test nothing, or something else than the
// sources; target is what to make then.
func Built(t testing.TB, root, target string) string {
	t.Helper()
	binary := root + "/build/otelcol-ebpf"
	built, err := os.Stat(binary)
	if err != nil {
		t.Skipf("needs build/otelcol-ebpf: run `make %s`", target)
	}
	for _, dir := range []string{"bpf", "internal", "receiver"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "testdata") {
				return err
			}
			if info, err := d.Info(); err == nil && info.ModTime().After(built.ModTime()) {
				t.Skipf("build/otelcol-ebpf is older than %s: run `make %s`", path, target)
			}
			return nil
		}))
	}
	return binary
}

// FreePort is one that nobody listens on, below those that the kernel gives to whoever asks for any.
func FreePort(t testing.TB) int {
	t.Helper()
	for {
		port := 10_000 + rand.IntN(22_000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			require.NoError(t, l.Close())
			return port
		}
	}
}
