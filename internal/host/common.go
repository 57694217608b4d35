// SPDX-License-Identifier: Apache-2.0

package host

import "strings"

// Common is the innermost cgroup that all of the given ones lie in: the container's when they are parts of one, the pod's when they
// are containers of one pod. It is 0 when it is not known, or when they have no more in common than the root.
func (c *Cgroups) Common(ids ...uint64) uint64 {
	if len(ids) == 0 {
		return 0
	}
	common := c.Resolve(ids[0]).Path
	same := true
	for _, id := range ids[1:] {
		path := c.Resolve(id).Path
		same = same && path == common
		common = commonPath(common, path)
	}
	if common == "" || common == "/" {
		return 0
	}
	if same {
		return ids[0]
	}
	id, err := c.IDOf(common)
	if err != nil {
		return 0 // gone, or not to be seen from here
	}
	return id
}

// commonPath is the longest path that both lie in.
func commonPath(a, b string) string {
	end := 0
	for i := 0; ; i++ {
		atEnd := i == len(a) || a[i] == '/'
		if atEnd && (i == len(b) || b[i] == '/') {
			end = i
		}
		if i == len(a) || i == len(b) || a[i] != b[i] {
			break
		}
	}
	if end == 0 && strings.HasPrefix(a, "/") && strings.HasPrefix(b, "/") {
		return "/"
	}
	return a[:end]
}
