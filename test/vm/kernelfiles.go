// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// kernelFile is what a kernel is called in the folder that the fetcher makes.
const kernelFile = "vmlinuz"

// kernelModules that tests of networks need, each after those that it needs itself.
var kernelModules = []string{
	"dummy", "veth", "tun", "llc", "stp", "garp", "mrp", "8021q", "bridge", "macvlan", "ipvlan", "udp_tunnel", "ip6_udp_tunnel", "vxlan", "geneve",
	"ip_tunnel", "tunnel4", "ipip", "gre", "ip_gre", "inet_diag", "tcp_diag",
}

// takeKernel copies the kernel and the modules of an unpacked package into a new folder. Newer packages have only one of the two.
func takeKernel(ctx context.Context, from, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	files := 0
	err := filepath.WalkDir(from, func(file string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		name := path.Base(file)
		module, compression, isModule := strings.Cut(name, ".ko")
		switch {
		case name == kernelFile || strings.HasPrefix(name, kernelFile+"-"):
			files++
			return os.Rename(file, filepath.Join(to, kernelFile))
		case isModule && slices.Contains(kernelModules, module):
			files++
			return takeModule(ctx, file, compression, filepath.Join(to, module+".ko"))
		}
		return nil
	})
	if err == nil && files == 0 {
		err = errors.New("there is neither a kernel nor a module in it")
	}
	return err
}

func takeModule(ctx context.Context, from, compression, to string) error {
	switch compression {
	case "":
		return os.Rename(from, to)
	case ".xz":
		cmd := exec.CommandContext(ctx, "xz", "-dc", from)
		var complaint bytes.Buffer
		cmd.Stderr = &complaint
		module, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("decompress %s: %w: %s", path.Base(from), err, complaint.String())
		}
		return os.WriteFile(to, module, 0o644)
	}
	return fmt.Errorf("%s is compressed in a way that is not known here", path.Base(from))
}
