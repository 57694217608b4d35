// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// maxConfig bounds the build configuration that is read, in bytes; a real one has some 300,000.
const maxConfig = 4 << 20

// Config is the value of one option of the kernel's build configuration: "y", "m", a number or a string without its
// quotes; "" when it is not set. The name is without the CONFIG_ prefix. The error is [fs.ErrNotExist] when the
// configuration is not to be found.
func (k *Kernel) Config(name string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.config == nil {
		config, err := k.readConfig()
		if err != nil {
			return "", err
		}
		k.config = config
	}
	return k.config[strings.TrimPrefix(name, "CONFIG_")], nil
}

// readConfig looks where distributions keep the running kernel's configuration.
func (k *Kernel) readConfig() (map[string]string, error) {
	if f, err := k.fs.Open("proc/config.gz"); err == nil {
		defer f.Close()
		r, err := gzip.NewReader(f)
		if err != nil {
			return nil, fmt.Errorf("unpack /proc/config.gz: %w", err)
		}
		return parseConfig(r)
	}
	release, err := fs.ReadFile(k.fs, "proc/sys/kernel/osrelease")
	if err != nil {
		return nil, fmt.Errorf("find the kernel's build configuration: %w", err)
	}
	version := strings.TrimSpace(string(release))
	for _, path := range []string{
		"boot/config-" + version,
		"lib/modules/" + version + "/config",
		"usr/lib/modules/" + version + "/config",
	} {
		f, err := k.fs.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the kernel's build configuration: %w", err)
		}
		defer f.Close()
		return parseConfig(f)
	}
	return nil, fmt.Errorf("find the kernel's build configuration in /proc/config.gz or /boot/config-%s: %w", version, fs.ErrNotExist)
}

// parseConfig reads lines of CONFIG_NAME=value; options that are off are comments. In a text, which has quotes around it, quotes and
// backslashes have a backslash before them: escape_string_value in scripts/kconfig/confdata.c.
func parseConfig(r io.Reader) (map[string]string, error) {
	escaped := strings.NewReplacer(`\"`, `"`, `\\`, `\`)
	config := make(map[string]string)
	lines := bufio.NewScanner(io.LimitReader(r, maxConfig))
	for lines.Scan() {
		line, ok := strings.CutPrefix(lines.Text(), "CONFIG_")
		if !ok {
			continue
		}
		if name, value, ok := strings.Cut(line, "="); ok {
			if text, ok := strings.CutPrefix(value, `"`); ok {
				value = escaped.Replace(strings.TrimSuffix(text, `"`))
			}
			config[name] = value
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the kernel's build configuration: %w", err)
	}
	return config, nil
}
