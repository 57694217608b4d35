// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// statLine is a /proc/PID/stat as kernels since 3.5 write it.
func statLine(pid int, comm string, parent int, start uint64) string {
	return fmt.Sprintf("%d (%s) S %d 41 41 0 -1 4194304 1187 0 1 0 12 4 0 0 20 0 3 0 %d 227065856 1542 "+
		"18446744073709551615 1 1 0 0 0 0 0 4096 81920 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n", pid, comm, parent, start)
}

func TestParseStat(t *testing.T) {
	for _, comm := range []string{"sshd", "tmux: server", "a) S 1 (b", "((sd-pam))", "", "x\ny", ") R 7 8 9"} {
		got, err := parseStat([]byte(statLine(41, comm, 7, 123456)))
		require.NoError(t, err, comm)
		assert.Equal(t, procStat{name: comm, parent: 7, start: 123456}, got, comm)
	}
	whole := statLine(41, "sshd", 7, 123456)
	for name, bad := range map[string]string{
		"empty": "", "no name": "41 sshd S 7", "short": "41 (sshd) S 7 41", "only a name": "41 (sshd)", "reversed": "41 )sshd( S",
		"parent":   strings.Replace(whole, "S 7", "S x", 1),
		"negative": strings.Replace(whole, "123456", "-1", 1),
	} {
		_, err := parseStat([]byte(bad))
		require.ErrorIs(t, err, errBadStat, name)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("sshd", 7, uint64(123456), []byte(statLine(41, "sshd", 7, 123456)))
	f.Add("a) S 1 (b", 0, uint64(0), []byte("1 ()"))
	f.Add("x\ny", 1, ^uint64(0), []byte(")("))
	f.Fuzz(func(t *testing.T, comm string, parent int, start uint64, data []byte) {
		_, _ = parseStat(data)
		parent = int(uint32(parent))
		got, err := parseStat([]byte(statLine(41, comm, parent, start)))
		if err != nil || got.name != comm || got.parent != uint32(parent) || got.start != start {
			t.Fatalf("%q, %d, %d became %+v, %v", comm, parent, start, got, err)
		}
	})
}

func TestParseComm(t *testing.T) {
	for in, want := range map[string]string{"sshd\n": "sshd", "": "", "\n": "", "a\nb\n": "a\nb", "a\n\n": "a\n", " x \n": " x "} {
		assert.Equal(t, want, parseComm([]byte(in)))
	}
}

// A name is what the kernel put before the newline, and a path what it put before the word that it was removed.
func FuzzParseComm(f *testing.F) {
	f.Add("sshd")
	f.Add("a\nb\n")
	f.Add("/usr/bin/x (deleted)")
	f.Fuzz(func(t *testing.T, name string) {
		if got := parseComm([]byte(name + "\n")); got != name {
			t.Fatalf("%q became %q", name, got)
		}
		if got := parseComm([]byte(name)); got != name && got+"\n" != name {
			t.Fatalf("%q became %q", name, got)
		}
		if got := parseExe(name + " (deleted)"); got != name {
			t.Fatalf("%q became %q", name, got)
		}
	})
}

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
