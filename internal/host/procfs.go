// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"strings"
)

// parseProcCgroup finds a process's path in one hierarchy in /proc/PID/cgroup, as it is seen from this process's cgroup namespace; see cgroups(7).
func parseProcCgroup(data []byte, h Hierarchy) (string, bool) {
	for line := range bytes.Lines(data) {
		// HIERARCHY:CONTROLLERS:PATH, without controllers for v2.
		parts := strings.SplitN(string(bytes.TrimSuffix(line, []byte("\n"))), ":", 3)
		if len(parts) != 3 || !strings.HasPrefix(parts[2], "/") {
			continue
		}
		if h.Version == 2 {
			if parts[0] == "0" && parts[1] == "" {
				return parts[2], true
			}
			continue
		}
		for controller := range strings.SplitSeq(parts[1], ",") {
			if controller == h.Controller {
				return parts[2], true
			}
		}
	}
	return "", false
}
