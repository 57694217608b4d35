// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// mirrorVariable, in the environment, is the URL of a Debian mirror, for machines whose package sources have none.
const mirrorVariable = "DEBIAN_MIRROR"

// archive has the suites that mirrors have no more.
const archive = "http://archive.debian.org/debian"

// keyring is what Debian's archives are signed with; the package debian-archive-keyring has it.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// fetcher gets packages from Debian's archives and keeps what is in them. It leaves the machine's own package lists alone.
type fetcher struct {
	cache   string
	log     io.Writer
	mirror  string            // empty until needed
	updated map[string]bool   // suite and architecture
	indexes map[string]string // of them
}

func newFetcher(log io.Writer) (*fetcher, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	return &fetcher{cache: filepath.Join(cache, "ebpfreceiver", "kernels"), log: log, updated: make(map[string]bool), indexes: make(map[string]string)}, nil
}

// get returns the folder with what is taken of a package: all of it, or the kernel and some modules. The network is used only when the cache
// has it not. Where the mirror has moved on, the pin is changed to the suite's current package.
func (f *fetcher) get(ctx context.Context, p *pin) (string, error) {
	file := f.file(*p)
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	if err := f.update(ctx, *p); err != nil {
		return "", err
	}
	have, err := f.sum(ctx, *p, p.Package, p.Version)
	if err != nil {
		return "", err
	}
	if have == "" {
		old := *p
		if err := f.current(ctx, p); err != nil {
			return "", err
		}
		fmt.Fprintf(f.log, "Debian's %s has no %s %s any more: the mirror has moved on. Taking %s %s; `make test-kernels KERNELFLAGS=-pin` writes it to %s.\n",
			old.Suite, old.Package, old.Version, p.Package, p.Version, pinsFile)
		have, file = p.SHA256, f.file(*p)
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	if have != p.SHA256 {
		return "", fmt.Errorf("%s %s has the checksum %s in Debian's index, and %s in %s", p.Package, p.Version, have, p.SHA256, pinsFile)
	}
	fmt.Fprintf(f.log, "fetching %s %s\n", p.Package, p.Version)
	return file, f.download(ctx, *p, file)
}

// file is where is kept what is taken of a package.
func (f *fetcher) file(p pin) string {
	of := p.SHA256
	if p.Name != userland { // of a kernel's, a choice
		sum := sha256.Sum256([]byte(of + strings.Join(kernelModules, " ")))
		of = hex.EncodeToString(sum[:])
	}
	return filepath.Join(f.cache, "content", fmt.Sprintf("%s-%s-%s", p.Name, p.Arch, of[:min(16, len(of))]))
}

// apt runs one of apt's commands with lists of its own.
func (f *fetcher) apt(ctx context.Context, p pin, command string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, command, append([]string{"-c", filepath.Join(f.lists(p), "apt.conf")}, args...)...)
	cmd.Dir = f.lists(p)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("%s %s: %w: %s", command, args[0], err, strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}

func (f *fetcher) lists(p pin) string { return filepath.Join(f.cache, "apt", p.Suite+"-"+p.Arch) }

// update fetches the index of a suite, once a run.
func (f *fetcher) update(ctx context.Context, p pin) error {
	dir := f.lists(p)
	if f.updated[dir] {
		return nil
	}
	if f.mirror == "" {
		mirror, err := findMirror(ctx)
		if err != nil {
			return err
		}
		f.mirror = mirror
	}
	for _, sub := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	conf := fmt.Sprintf("Dir::State::Lists %q;\nDir::Etc::SourceList %q;\nDir::Etc::SourceParts \"-\";\nDir::Cache %q;\n"+
		"APT::Architecture %q;\nAPT::Architectures %q;\nAPT::Sandbox::User \"\";\n"+
		"Acquire::Languages \"none\";\nAcquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n",
		filepath.Join(dir, "lists"), filepath.Join(dir, "sources.list"), dir, p.Arch, p.Arch)
	if err := os.WriteFile(filepath.Join(dir, "apt.conf"), []byte(conf), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(f.log, "reading the index of Debian's %s for %s\n", p.Suite, p.Arch)
	var errs []error
	for _, mirror := range []string{f.mirror, archive} {
		source := fmt.Sprintf("deb [arch=%s signed-by=%s] %s %s main\n", p.Arch, keyring, mirror, p.Suite)
		if err := os.WriteFile(filepath.Join(dir, "sources.list"), []byte(source), 0o644); err != nil {
			return err
		}
		_, err := f.apt(ctx, p, "apt-get", "update", "--error-on=any")
		if err == nil {
			f.updated[dir] = true
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// findMirror is the Debian mirror that this machine is configured to use.
func findMirror(ctx context.Context) (string, error) {
	if mirror := os.Getenv(mirrorVariable); mirror != "" {
		return mirror, nil
	}
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian").Output()
	if err != nil && !errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("ask apt for its sources: %w", err)
	}
	if f := strings.Fields(string(out)); len(f) > 0 {
		return f[0], nil
	}
	return "", fmt.Errorf("this machine has no Debian package source: set %s to the URL of a mirror, and install apt and debian-archive-keyring", mirrorVariable)
}

// index has an entry for each package of a suite, with an empty line after it.
func (f *fetcher) index(ctx context.Context, p pin) (string, error) {
	dir := f.lists(p)
	if f.indexes[dir] != "" {
		return f.indexes[dir], nil
	}
	out, err := f.apt(ctx, p, "apt-cache", "dumpavail")
	f.indexes[dir] = out
	return out, err
}

// sum is the checksum that the index has of a package, empty when there is no such package.
func (f *fetcher) sum(ctx context.Context, p pin, name, version string) (string, error) {
	out, err := f.index(ctx, p)
	if err != nil {
		return "", err
	}
	for _, entry := range strings.Split(out, "\n\n") {
		if field(entry, "Package") == name && field(entry, "Version") == version {
			return field(entry, "SHA256"), nil
		}
	}
	return "", nil
}

// current changes a pin to the newest package of its suite.
func (f *fetcher) current(ctx context.Context, p *pin) error {
	out, err := f.index(ctx, *p)
	if err != nil {
		return err
	}
	found := false
	for _, entry := range strings.Split(out, "\n\n") {
		name, version := field(entry, "Package"), field(entry, "Version")
		if ok, _ := path.Match(p.Glob, name); !ok || field(entry, "SHA256") == "" {
			continue
		}
		if found && exec.CommandContext(ctx, "dpkg", "--compare-versions", version, "gt", p.Version).Run() != nil {
			continue
		}
		found = true
		p.Package, p.Version, p.SHA256 = name, version, field(entry, "SHA256")
	}
	if !found {
		return fmt.Errorf("debian's %s has no package %s for %s", p.Suite, p.Glob, p.Arch)
	}
	return nil
}

// field is a field of one entry of an index.
func field(entry, name string) string {
	lines := bufio.NewScanner(strings.NewReader(entry))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+": "); ok {
			return value
		}
	}
	return ""
}

// download fetches a package, checks it, and unpacks it.
func (f *fetcher) download(ctx context.Context, p pin, file string) error {
	if _, err := f.apt(ctx, p, "apt-get", "download", p.Package+"="+p.Version); err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(f.lists(p), p.Package+"_*.deb"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("apt-get download left %d files of %s", len(found), p.Package)
	}
	defer os.Remove(found[0])
	b, err := os.ReadFile(found[0])
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	if have := hex.EncodeToString(sum[:]); have != p.SHA256 {
		return fmt.Errorf("%s has the checksum %s, and not %s", filepath.Base(found[0]), have, p.SHA256)
	}
	return unpack(ctx, found[0], file, p.Name == userland)
}

// unpack writes a package into a folder: whole, or not at all. Of a kernel's only the kernel and some modules are kept.
func unpack(ctx context.Context, archive, dir string, all bool) error {
	whole := dir + ".whole"
	defer os.RemoveAll(whole)
	if err := errors.Join(os.RemoveAll(whole), os.RemoveAll(dir+".new"), os.MkdirAll(filepath.Dir(dir), 0o755)); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", archive, whole).CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w: %s", filepath.Base(archive), err, out)
	}
	if all {
		return os.Rename(whole, dir)
	}
	if err := takeKernel(ctx, whole, dir+".new"); err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(archive), err)
	}
	return os.Rename(dir+".new", dir)
}
