// SPDX-License-Identifier: Apache-2.0

// Command modproxy packs a module's working tree, as it is, into a folder that the go command takes
// as a module proxy (GOPROXY=file://...). So a build can be tested that gets the module as its users do:
// without files that a module does not ship, such as symbolic links and nested modules.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

func main() {
	dir := flag.String("dir", ".", "the module's `folder`")
	version := flag.String("version", "v0.0.0-test", "the `version` that it gets")
	proxy := flag.String("proxy", "", "the proxy's `folder`, which is made")
	flag.Parse()
	if err := pack(*dir, *version, *proxy); err != nil {
		fmt.Fprintln(os.Stderr, "modproxy:", err)
		os.Exit(1)
	}
}

// pack writes the four files of a version, https://go.dev/ref/mod#goproxy-protocol.
func pack(dir, version, proxy string) error {
	if proxy == "" {
		return errors.New("-proxy is missing")
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return err
	}
	path := modfile.ModulePath(mod)
	escaped, err := module.EscapePath(path)
	if err != nil {
		return fmt.Errorf("the module path of %s: %w", dir, err)
	}
	folder := filepath.Join(proxy, filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"list":            version + "\n",
		version + ".mod":  string(mod),
		version + ".info": fmt.Sprintf("{\"Version\":%q}", version),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	file, err := os.Create(filepath.Join(folder, version+".zip"))
	if err != nil {
		return err
	}
	err = zip.CreateFromDir(file, module.Version{Path: path, Version: version}, dir)
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("packing %s: %w", dir, err)
	}
	return nil
}
