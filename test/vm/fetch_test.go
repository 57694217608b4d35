// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// entry is a package in an index, as apt-cache dumpavail has it.
func entry(name, version, sum string) string {
	e := fmt.Sprintf("Package: %s\nVersion: %s\nInstalled-Size: 1\nDescription: of\n Package: other\n Version: 0\n", name, version)
	if sum != "" {
		e += "SHA256: " + sum + "\n"
	}
	return e + "\n"
}

// archived is a package that was made here, which a pretended apt-get delivers and nothing else, and its checksum. Each of its runs leaves a line.
type archived struct{ sum, runs string }

func newArchive(t *testing.T, name, version string) archived {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("needs dpkg")
	}
	dir := t.TempDir()
	tree, deb := filepath.Join(dir, "tree"), filepath.Join(dir, name+"_"+version+"_amd64.deb")
	for file, text := range map[string]string{
		"tree/DEBIAN/control": fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: nobody <nobody@example.com>\nDescription: of a test\n", name, version),
		"tree/etc/content":    version,
		"bin/apt-get":         fmt.Sprintf("#!/bin/sh\necho \"$3 $4\" >> %s/runs\ncp %s .\n", dir, deb),
	} {
		file = filepath.Join(dir, file)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o755))
	}
	out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", tree, deb).CombinedOutput()
	require.NoError(t, err, "%s", out)
	b, err := os.ReadFile(deb)
	require.NoError(t, err)
	sum := sha256.Sum256(b)
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	return archived{hex.EncodeToString(sum[:]), filepath.Join(dir, "runs")}
}

// newTestFetcher has an index already.
func newTestFetcher(t *testing.T, p pin, index string) (*fetcher, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	f := &fetcher{cache: t.TempDir(), log: log}
	dir := f.lists(p)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	f.updated, f.indexes = map[string]bool{dir: true}, map[string]string{dir: index}
	return f, log
}

// A pin is taken as it is or, when the mirror has it no more, with a word about what is taken for it; nothing is taken that has another checksum.
func TestGet(t *testing.T) {
	const name, version, other = "busybox-static", "1:1.10-2", "0123456789abcdef0123456789abcdef"
	deb := newArchive(t, name, version)
	pinned := pin{Name: userland, Arch: "amd64", Suite: "bookworm", Glob: "busybox-*", Package: name, Version: version, SHA256: deb.sum}
	with := func(version, sum string) pin {
		p := pinned
		p.Version, p.SHA256 = version, sum
		return p
	}
	const moved = "Debian's bookworm has no busybox-static 1:1.9-1 any more: the mirror has moved on. Taking busybox-static 1:1.10-2; " +
		"`make test-kernels KERNELFLAGS=-pin` writes it to test/vm/kernels.txt.\n"
	const fetching = "fetching busybox-static 1:1.10-2\n"
	const download = "download busybox-static=1:1.10-2\n"
	for _, tt := range []struct {
		name, index string
		pin         pin
		kept        *pin // what the cache has already
		want        pin
		log, runs   string
		fails       string
	}{
		{name: "there", pin: pinned, index: entry(name, "1:1.9-1", other) + entry(name, version, deb.sum), want: pinned, log: fetching, runs: download},
		{name: "kept", pin: pinned, kept: &pinned, want: pinned},
		{name: "gone", pin: with("1:1.9-1", other), index: entry(name, version, deb.sum), want: pinned, log: moved + fetching, runs: download},
		{name: "gone, and the next one kept", pin: with("1:1.9-1", other), kept: &pinned, index: entry(name, version, deb.sum), want: pinned, log: moved},
		{
			name: "another checksum in the index", pin: with(version, other), index: entry(name, version, deb.sum),
			fails: fmt.Sprintf("busybox-static 1:1.10-2 has the checksum %s in Debian's index, and %s in test/vm/kernels.txt", deb.sum, other),
		},
		{
			name: "another package than the index says", pin: with(version, other), index: entry(name, version, other), log: fetching, runs: download,
			fails: fmt.Sprintf("busybox-static_1:1.10-2_amd64.deb has the checksum %s, and not %s", deb.sum, other),
		},
		{name: "nothing of that name", pin: pinned, index: entry("bash", "1", other), fails: "debian's bookworm has no package busybox-* for amd64"},
		{name: "an empty index", pin: pinned, index: "\n", fails: "debian's bookworm has no package busybox-* for amd64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			require.NoError(t, os.RemoveAll(deb.runs))
			f, log := newTestFetcher(t, tt.pin, tt.index)
			if tt.kept != nil {
				require.NoError(t, os.MkdirAll(f.file(*tt.kept), 0o755))
			}
			p := tt.pin
			dir, err := f.get(t.Context(), &p)
			runs, _ := os.ReadFile(deb.runs)
			assert.Equal(t, tt.log, log.String())
			assert.Equal(t, tt.runs, string(runs))
			left, globErr := filepath.Glob(filepath.Join(f.lists(p), "*.deb"))
			require.NoError(t, globErr)
			assert.Empty(t, left)
			if tt.fails != "" {
				require.EqualError(t, err, tt.fails)
				assert.NoDirExists(t, f.file(tt.pin))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, p)
			assert.Equal(t, f.file(tt.want), dir)
			if tt.kept == nil {
				content, err := os.ReadFile(filepath.Join(dir, "etc/content"))
				require.NoError(t, err)
				assert.Equal(t, version, string(content))
			}
		})
	}
}

func TestSum(t *testing.T) {
	p := pin{Suite: "bookworm", Arch: "amd64"}
	f, _ := newTestFetcher(t, p, entry("a", "1", "11")+entry("a", "2", "12")+entry("a-b", "1", "21")+strings.TrimSpace(entry("c", "1", "31")))
	for _, tt := range [][3]string{{"a", "1", "11"}, {"a", "2", "12"}, {"a-b", "1", "21"}, {"c", "1", "31"}, {"a", "3", ""}, {"a-b", "2", ""}, {"other", "0", ""}, {"", "", ""}} {
		sum, err := f.sum(t.Context(), p, tt[0], tt[1])
		require.NoError(t, err)
		assert.Equal(t, tt[2], sum, tt)
	}
}

// The newest is by Debian's order of versions, wherever it stands; what has no file is none.
func TestCurrent(t *testing.T) {
	if _, err := exec.LookPath("dpkg"); err != nil {
		t.Skip("needs dpkg")
	}
	newest := entry("linux-image-6.1.0-10-cloud-amd64", "6.1.10-1", "10")
	others := []string{
		entry("linux-image-6.1.0-9-cloud-amd64", "6.1.9-1", "9"),
		entry("linux-image-6.1.0-10-cloud-amd64", "6.1.10-1~rc1", "8"),
		entry("linux-image-6.1.0-11-cloud-amd64", "6.1.11-1", ""),
		entry("linux-image-6.1.0-12-amd64", "6.1.12-1", "12"),
	}
	for _, index := range []string{newest + strings.Join(others, ""), strings.Join(others, "") + newest, others[0] + newest + others[1] + others[2] + others[3]} {
		p := pin{Name: "6.1", Arch: "amd64", Suite: "bookworm", Glob: "linux-image-*-cloud-amd64", Package: "linux-image-6.1.0-8-cloud-amd64", Version: "6.1.99-1", SHA256: "8"}
		f, _ := newTestFetcher(t, p, index)
		want := p
		want.Package, want.Version, want.SHA256 = "linux-image-6.1.0-10-cloud-amd64", "6.1.10-1", "10"
		require.NoError(t, f.current(t.Context(), &p))
		assert.Equal(t, want, p)
	}
}
