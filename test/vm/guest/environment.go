// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

type mount struct {
	source, target, kind, data string
	flags                      uintptr
}

// base is what every environment has.
var base = []mount{
	{"proc", "/proc", "proc", "", 0},
	{"sysfs", "/sys", "sysfs", "", 0},
	{"devtmpfs", "/dev", "devtmpfs", "", 0},
	{"devpts", "/dev/pts", "devpts", "", 0},
	{"tmpfs", "/dev/shm", "tmpfs", "", 0},
	{"tmpfs", "/tmp", "tmpfs", "", 0},
	{"securityfs", "/sys/kernel/security", "securityfs", "", 0},
}

var (
	tracefs  = mount{"tracefs", "/sys/kernel/tracing", "tracefs", "", 0}
	cgroupV2 = mount{"cgroup2", "/sys/fs/cgroup", "cgroup2", "", 0}
)

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

// prepare makes the environment.
func prepare(environment string) error {
	if err := leaveRootfs(); err != nil {
		return err
	}
	mounts := append([]mount{}, base...)
	switch environment {
	case "":
		mounts = append(mounts, tracefs, cgroupV2)
	default:
		return fmt.Errorf("unknown environment %q", environment)
	}
	for _, m := range mounts {
		if err := m.mount(); err != nil {
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
	return errors.Join(busybox(), loopback())
}

func (m mount) mount() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
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
