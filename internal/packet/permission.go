// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
)

// permission names the capability that err was for want of; any other error is returned as it is.
func permission(doing, capability string, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return &kernel.PermissionError{
		Doing: doing, Capability: capability, Remedy: kernel.Grant(strings.Split(capability, " and ")...), Err: err,
	}
}

// mayOpen tells whether this process may open packet sockets.
func mayOpen() error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return permission("open a packet socket", "CAP_NET_RAW", fmt.Errorf("open a packet socket: %w", err))
	}
	return unix.Close(fd)
}

// has tells whether this process has a capability in effect, by its number in include/uapi/linux/capability.h.
func has(capability uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}
