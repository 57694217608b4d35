// SPDX-License-Identifier: Apache-2.0

// Package host turns the ids that kernel programs report into names: a cgroup id into a container, a
// uid into a user, an interface index, a device number and a system call number into what people call them, and a
// boot-clock time into a date.
//
// Every resolver is bounded, safe for concurrent use, and does not allocate when it already knows the
// answer. Resolvers that read the host's files take a root path, so that a Collector in a container
// can be pointed at the host ("/hostfs") and a test at a made-up tree.
package host

import "path/filepath"

// under gives the name by which this process reaches the host's file p: root is where the host's
// root directory is mounted, empty for here.
func under(root, p string) string {
	if root == "" {
		return p
	}
	return filepath.Join(root, p)
}
