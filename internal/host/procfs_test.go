// SPDX-License-Identifier: Apache-2.0

package host

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParseProcCgroup(t *testing.T) {
	data := []byte("11:memory:/docker/x\n8:cpu,cpuacct:/a:b/c\n3:pids:/../up\n1:name=systemd:/init.scope\n0::/unified/x\n")
	for _, test := range []struct {
		h    Hierarchy
		want string
	}{
		{Hierarchy{Version: 2}, "/unified/x"},
		{Hierarchy{Version: 1, Controller: "memory"}, "/docker/x"},
		{Hierarchy{Version: 1, Controller: "cpuacct"}, "/a:b/c"},
		{Hierarchy{Version: 1, Controller: "cpu"}, "/a:b/c"},
		{Hierarchy{Version: 1, Controller: "pids"}, "/../up"},
		{Hierarchy{Version: 1, Controller: "cpuset"}, ""},
	} {
		got, ok := parseProcCgroup(data, test.h)
		assert.Equal(t, test.want, got, test.h)
		assert.Equal(t, test.want != "", ok, test.h)
	}
}

func FuzzParseProcCgroup(f *testing.F) {
	f.Add([]byte("11:memory:/docker/x\n0::/\n"))
	f.Add([]byte("::\n0::relative"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, h := range []Hierarchy{{Version: 2}, {Version: 1, Controller: "memory"}} {
			if name, ok := parseProcCgroup(data, h); ok != strings.HasPrefix(name, "/") {
				t.Fatalf("%q, %v", name, ok)
			}
		}
	})
}
