// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

import (
	"os"
	"path/filepath"
	"strconv"
)

// OfProcess returns the id of the cgroup that a process is in now, in the hierarchy. It reports false when there is no such process, or
// nothing of its cgroup is to be seen from here. The pid is the host's.
func (c *Cgroups) OfProcess(pid int) (id uint64, ok bool) {
	data, err := os.ReadFile(filepath.Join(c.proc, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return 0, false
	}
	name, ok := parseProcCgroup(data, c.hierarchy)
	if ok {
		name, ok = c.fromNamespace(name)
	}
	if !ok {
		return 0, false
	}
	id, err = c.IDOf(name)
	return id, err == nil
}
