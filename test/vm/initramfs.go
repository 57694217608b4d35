// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// initramfs writes an archive in the format that the kernel unpacks at its start: "newc" of
// Documentation/driver-api/early-userspace/buffer-format.rst.
type initramfs struct {
	w     *bufio.Writer
	n     int // bytes written
	inode int
	dirs  map[string]bool
	err   error
}

func newInitramfs(w io.Writer) *initramfs {
	return &initramfs{w: bufio.NewWriter(w), dirs: map[string]bool{"/": true}}
}

// Types of files, as in stat(2).
const (
	modeDir  = 0o040000
	modeFile = 0o100000
	modeChar = 0o020000
	modeLink = 0o120000
)

func (a *initramfs) write(b []byte) {
	if a.err == nil {
		_, a.err = a.w.Write(b)
		a.n += len(b)
	}
}

func (a *initramfs) pad() {
	if over := a.n % 4; over != 0 {
		a.write(make([]byte, 4-over))
	}
}

// entry writes one file; device is that of a character device.
func (a *initramfs) entry(name string, mode uint32, content []byte, device [2]int) {
	a.inode++
	name = strings.TrimPrefix(name, "/")
	a.write(fmt.Appendf(nil, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, 0, 0, 1, 0, len(content), 0, 0, device[0], device[1], len(name)+1, 0))
	a.write(append([]byte(name), 0))
	a.pad()
	a.write(content)
	a.pad()
}

// dir makes a directory and those above it.
func (a *initramfs) dir(name string) {
	name = path.Clean("/" + name)
	if a.dirs[name] {
		return
	}
	a.dir(path.Dir(name))
	a.dirs[name] = true
	mode := uint32(modeDir | 0o755)
	if name == "/tmp" {
		mode = modeDir | 0o1777
	}
	a.entry(name, mode, nil, [2]int{})
}

func (a *initramfs) file(name string, content []byte, mode fs.FileMode) {
	a.dir(path.Dir(name))
	a.entry(name, modeFile|uint32(mode.Perm()), content, [2]int{})
}

// console is what init's output goes to.
func (a *initramfs) console() {
	a.dir("/dev")
	a.entry("/dev/console", modeChar|0o600, nil, [2]int{5, 1})
}

// copyFile takes a file of this machine.
func (a *initramfs) copyFile(name, from string) {
	b, err := os.ReadFile(from)
	if err != nil {
		if a.err == nil {
			a.err = err
		}
		return
	}
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(from); err == nil && info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	a.file(name, b, mode)
}

// notNeeded are folders of packages that no test looks at.
var notNeeded = []string{"usr/share", "usr/lib/locale", "gconv", "usr/sbin"}

// copyTree takes a folder of this machine with its symbolic links.
func (a *initramfs) copyTree(from string) {
	err := filepath.WalkDir(from, func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, file)
		if err != nil || name == "." {
			return err
		}
		switch {
		case e.IsDir() && slices.ContainsFunc(notNeeded, func(s string) bool { return strings.HasSuffix(name, s) }):
			return filepath.SkipDir
		case e.IsDir():
			a.dir(name)
		case e.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(file)
			if err != nil {
				return err
			}
			a.dir(path.Dir("/" + name))
			a.entry(name, modeLink|0o777, []byte(target), [2]int{})
		case e.Type().IsRegular():
			a.copyFile("/"+name, file)
		}
		return nil
	})
	if err != nil && a.err == nil {
		a.err = err
	}
}

// copyData takes what the tests of a package find in its folder: all but Go's and C's sources. Folders that are packages themselves are left out.
func (a *initramfs) copyData(name, from string) {
	err := filepath.WalkDir(from, func(file string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		if e.IsDir() {
			if sources, _ := filepath.Glob(filepath.Join(file, "*.go")); relative != "." && len(sources) > 0 {
				return filepath.SkipDir
			}
			a.dir(path.Join(name, filepath.ToSlash(relative)))
			return nil
		}
		if ext := filepath.Ext(file); e.Type().IsRegular() && ext != ".go" {
			a.copyFile(path.Join(name, filepath.ToSlash(relative)), file)
		}
		return nil
	})
	if err != nil && a.err == nil {
		a.err = err
	}
}

// close ends the archive.
func (a *initramfs) close() error {
	a.entry("TRAILER!!!", 0, nil, [2]int{})
	if a.err != nil {
		return fmt.Errorf("write the initramfs: %w", a.err)
	}
	return a.w.Flush()
}
