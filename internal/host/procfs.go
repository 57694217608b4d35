// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// procStat is what this package reads of /proc/PID/stat, the fields of which are in proc_pid_stat(5).
type procStat struct {
	name   string // field 2; the kernel escapes newlines and backslashes in it
	parent uint32 // field 4
	start  uint64 // field 22, in ticks since boot
}

var errBadStat = errors.New("not a process's stat")

// parseStat parses /proc/PID/stat. The name may have blanks and parentheses in it: it ends at the last one.
func parseStat(data []byte) (procStat, error) {
	open, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || end < open {
		return procStat{}, errBadStat
	}
	fields := bytes.Fields(data[end+1:]) // from field 3 on
	if len(fields) < 20 {
		return procStat{}, errBadStat
	}
	parent, err := strconv.ParseUint(string(fields[1]), 10, 32)
	if err != nil {
		return procStat{}, errBadStat
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return procStat{}, errBadStat
	}
	return procStat{name: string(data[open+1 : end]), parent: uint32(parent), start: start}, nil
}

// parseComm parses /proc/PID/comm: the name as it is, and a newline.
func parseComm(data []byte) string {
	return string(bytes.TrimSuffix(data, []byte("\n")))
}

// parseExe parses the target of /proc/PID/exe. The kernel says so when the file was removed; what it was
// called is still the best that there is.
func parseExe(link string) string {
	return strings.TrimSuffix(link, " (deleted)")
}

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
