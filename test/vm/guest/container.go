// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// hostRoot is where a container of the guest has the host's root, as a Collector in a container does.
const hostRoot = "/hostfs"

// containerCommand makes the guest's program the first of a container: what follows is the path of a program and its arguments.
const containerCommand = "container"

// enterContainer gives the process, which has namespaces of its own, a view of them, and becomes another program.
func enterContainer(args []string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := os.MkdirAll(hostRoot, 0o755); err != nil && !errors.Is(err, os.ErrPermission) {
		return err
	}
	if err := unix.Mount("/", hostRoot, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind the host's root: %w", err)
	}
	// The same hierarchy, whose root is another one in the container's namespace. In a user namespace the host's mounts stay.
	if err := unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount the host's cgroups: %w", err)
	}
	for _, m := range []mount{{"proc", "/proc", "proc", "", 0, false}, {"cgroup2", "/sys/fs/cgroup", "cgroup2", "", 0, false}} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s in the container: %w", m.target, err)
		}
	}
	return unix.Exec(args[0], args, os.Environ())
}
