// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"
	"os/user"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestUsersResolve(t *testing.T) {
	root, clock := t.TempDir(), newFakeTime()
	u := NewUsers(root, clock.Now)
	_, ok := u.Resolve(0)
	assert.False(t, ok, "no file")

	writeTree(t, root, map[string]string{"etc/passwd": "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\napp:x:1000:1000::/:\n"})
	_, ok = u.Resolve(0)
	assert.False(t, ok, "not looked at again yet")
	clock.Add(passwdCheck)
	name, ok := u.Resolve(0)
	assert.True(t, ok)
	assert.Equal(t, "root", name)
	name, _ = u.Resolve(1000)
	assert.Equal(t, "app", name)
	_, ok = u.Resolve(1001)
	assert.False(t, ok)

	// Replaced by another file of the same size, as useradd does.
	writeTree(t, root, map[string]string{"etc/passwd+": "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\npie:x:1001:1000::/:\n"})
	require.NoError(t, os.Rename(root+"/etc/passwd+", root+"/etc/passwd"))
	clock.Add(passwdCheck)
	name, _ = u.Resolve(1001)
	assert.Equal(t, "pie", name)
	_, ok = u.Resolve(1000)
	assert.False(t, ok)

	// Missing for a moment.
	require.NoError(t, os.Remove(root+"/etc/passwd"))
	clock.Add(passwdCheck)
	name, _ = u.Resolve(1001)
	assert.Equal(t, "pie", name)
}

func TestUsersOfThisHost(t *testing.T) {
	want, err := user.LookupId("0")
	require.NoError(t, err)
	got, ok := NewUsers("", nil).Resolve(0)
	assert.True(t, ok)
	assert.Equal(t, want.Username, got)
}

func TestParsePasswdSkipsAndStops(t *testing.T) {
	names, err := parsePasswd(strings.NewReader("# users\n+::::::\n-bad:x:5:5::/:\nshort:x:1\nnoid:x::1::/:\nbig:x:4294967296:1::/:\n" +
		":x:9:9::/:\nmax:x:4294967295:1::/:\nlast:x:7:7::/:/bin/sh"))
	require.NoError(t, err)
	assert.Equal(t, map[uint32]string{4294967295: "max", 7: "last"}, names)

	var many strings.Builder
	for i := range maxUsers + 10 {
		fmt.Fprintf(&many, "u%d:x:%d:0::/:\n", i, i)
	}
	names, err = parsePasswd(strings.NewReader(many.String()))
	require.NoError(t, err)
	assert.Len(t, names, maxUsers)
}

func FuzzParsePasswd(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/sh\n")
	f.Add("+::::::\n:::\n")
	f.Fuzz(func(t *testing.T, data string) {
		names, _ := parsePasswd(strings.NewReader(data))
		for _, name := range names {
			if name == "" || strings.ContainsAny(name, ":\n") {
				t.Fatalf("name %q", name)
			}
		}
	})
}

func BenchmarkUsersResolve(b *testing.B) {
	u := NewUsers("", nil)
	b.ReportAllocs()
	for b.Loop() {
		u.Resolve(0)
	}
}
