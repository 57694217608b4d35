// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

type mount struct {
	source, target, kind, data string
	flags                      uintptr
	// optional is one that a kernel may lack.
	optional bool
}

// base is what every environment has.
var base = []mount{
	{"proc", "/proc", "proc", "", 0, false},
	{"sysfs", "/sys", "sysfs", "", 0, false},
	{"devtmpfs", "/dev", "devtmpfs", "", 0, false},
	{"devpts", "/dev/pts", "devpts", "", 0, false},
	{"tmpfs", "/dev/shm", "tmpfs", "", 0, false},
	{"tmpfs", "/tmp", "tmpfs", "", 0, false},
	{"securityfs", "/sys/kernel/security", "securityfs", "", 0, false},
}

// leaveRootfs makes the root a mount that containers can leave: the one that the kernel starts with can not be pivoted away from.
func leaveRootfs() error {
	const root = "/newroot"
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/", root, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind the root: %w", err)
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// prepare makes what all tests of a run find.
func (s setting) prepare() error {
	if err := leaveRootfs(); err != nil {
		return err
	}
	for _, m := range append(append([]mount{}, base...), s.mounts...) {
		if err := m.mount(); err != nil {
			return err
		}
	}
	for file, value := range s.files {
		if err := os.WriteFile(file, []byte(value), 0); err != nil {
			return err
		}
	}
	for key, value := range map[string]string{
		"PATH": "/usr/bin:/bin", "HOME": "/root", "TMPDIR": "/tmp", "USER": "root",
	} {
		if err := os.Setenv(key, value); err != nil {
			return err
		}
	}
	return errors.Join(busybox(), loopback(), modules())
}

func (m mount) mount() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data)
	if m.optional && errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount %s: %w", m.target, err)
	}
	return nil
}

// busybox makes a link for each of its commands that is not there already.
func busybox() error {
	if err := exec.Command("/bin/busybox", "--install", "-s", "/bin").Run(); err != nil {
		return fmt.Errorf("install busybox: %w", err)
	}
	return nil
}

func loopback() error {
	if out, err := exec.Command("/bin/ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("loopback: %w: %s", err, out)
	}
	return nil
}

// modules loads what the driver brought, and makes an interface with a default route: the uplink, which leads nowhere.
func modules() error {
	files, err := os.ReadDir(outcome.Modules)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// Else those of tunnels put an interface into every namespace.
	if err := os.WriteFile("/proc/sys/net/core/fb_tunnels_only_for_init_net", []byte("2"), 0); err != nil {
		return err
	}
	for _, file := range files {
		f, err := os.Open(outcome.Modules + "/" + file.Name())
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load the module %s: %w", file.Name(), err)
		}
	}
	for _, args := range [][]string{
		{"link", "add", "uplink0", "type", "dummy"},
		{"addr", "add", "192.0.2.1/24", "dev", "uplink0"},
		{"link", "set", "uplink0", "up"},
		{"route", "add", "default", "via", "192.0.2.2"},
	} {
		if out, err := exec.Command("/bin/ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}
