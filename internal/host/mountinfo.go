// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"bytes"
	"io"
	"path"
	"slices"
	"strings"
)

// cgroupMount is a mounted cgroup hierarchy.
type cgroupMount struct {
	version     int
	root        string   // the directory of the hierarchy that is mounted, "/" for all of it
	above       bool     // it is one above this process's cgroup namespace, and taken for all of it
	dir         string   // where it is mounted
	controllers []string // v1: the mount's own options, which name its controllers among others
}

// parseMountinfo returns the cgroup mounts of a /proc/PID/mountinfo, the format of which is in proc(5).
// What a later mount on the same directory covers is left out. Lines that are no mount are skipped.
func parseMountinfo(r io.Reader) ([]cgroupMount, error) {
	var mounts []cgroupMount
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m, ok := parseMount(lines.Bytes())
		if !ok {
			continue
		}
		mounts = slices.DeleteFunc(mounts, func(other cgroupMount) bool { return other.dir == m.dir })
		if m.version != 0 {
			mounts = append(mounts, m)
		}
	}
	return mounts, lines.Err()
}

// parseMount parses one line; version is 0 for file systems other than cgroup's.
func parseMount(line []byte) (cgroupMount, bool) {
	// ID PARENT MAJOR:MINOR ROOT DIR OPTIONS [TAG]... - TYPE SOURCE SUPER-OPTIONS
	before, after, ok := bytes.Cut(line, []byte(" - "))
	if !ok {
		return cgroupMount{}, false
	}
	fields, super := bytes.Fields(before), bytes.Fields(after)
	if len(fields) < 6 || len(super) < 3 {
		return cgroupMount{}, false
	}
	m := cgroupMount{root: unescapeOctal(string(fields[3])), dir: unescapeOctal(string(fields[4]))}
	// Whoever reads it sees it from the root of the own cgroup namespace: what is above that is "/..", "/../.." (cgroup_namespaces(7)).
	if strings.HasPrefix(m.root, "/..") && path.Clean(m.root) == "/" {
		m.root, m.above = "/", true
	}
	switch string(super[0]) {
	case "cgroup2":
		m.version = 2
	case "cgroup":
		m.version = 1
		m.controllers = strings.Split(string(super[2]), ",")
	}
	return m, true
}

// unescapeOctal undoes the kernel's escaping of blanks and backslashes in mountinfo, \NNN.
func unescapeOctal(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && isOctal(s[i+1]) && isOctal(s[i+2]) && isOctal(s[i+3]) {
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isOctal(b byte) bool { return '0' <= b && b <= '7' }
