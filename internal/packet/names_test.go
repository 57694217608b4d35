// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"fmt"
	"math/big"
	"net/netip"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMemory(t *testing.T) {
	now := time.Unix(1000, 0)
	m := newMemory[int, string](2)
	get := func(key int) string { v, _ := m.get(key); return v }
	for key, name := range []string{"a", "b", "c", "d"} {
		m.put(key, name)
	}
	m.leave(0, now)
	m.leave(0, now.Add(time.Second)) // already gone
	m.leave(9, now)                  // never there
	assert.Equal(t, "a", get(0))
	m.put(3, "renamed")
	assert.Equal(t, "renamed", get(3))

	m.leave(1, now)
	m.leave(2, now)
	assert.Empty(t, get(0), "the first that went makes room")
	assert.Equal(t, "b", get(1))
	m.put(1, "again")
	m.expire(now.Add(goneFor))
	assert.Equal(t, "again", get(1), "what is there does not expire")
	assert.Empty(t, get(2))
	assert.Equal(t, "renamed", get(3))
	assert.Len(t, m.entries, 2)
	assert.Zero(t, m.gone.Len())
}

func TestOwners(t *testing.T) {
	now := time.Unix(1000, 0)
	o := newOwners()
	ip := netip.MustParseAddr("10.0.0.1")
	of := func() (uint32, bool) { return o.of(ip) }
	is := func(namespace uint32, ok bool) {
		t.Helper()
		got, gotOK := of()
		assert.Equal(t, ok, gotOK)
		assert.Equal(t, namespace, got)
	}
	is(0, false)
	o.addAddress(ip, 7)
	o.addAddress(ip, 7) // on two interfaces
	is(7, true)
	o.addAddress(ip, 8)
	is(0, false)
	o.removeAddress(ip, 7, now)
	is(0, false)
	o.removeAddress(ip, 7, now)
	o.removeAddress(ip, 7, now) // not there
	is(8, true)
	o.removeAddress(ip, 8, now)
	is(8, true) // the last that had it
	o.addAddress(ip, 9)
	is(9, true)
	o.removeAddress(ip, 9, now)
	o.expire(now.Add(goneFor))
	is(0, false)
	assert.Empty(t, o.live)
}

func TestParseNamespace(t *testing.T) {
	inode, ok := parseNamespace("net:[4026531840]")
	assert.True(t, ok)
	assert.Equal(t, uint32(4026531840), inode)
	for _, bad := range []string{"", "net:[]", "net:[x]", "pid:[1]", "net:[1", "net:[99999999999]"} {
		_, ok := parseNamespace(bad)
		assert.False(t, ok, bad)
	}
}

func FuzzParseNamespace(f *testing.F) {
	f.Add("net:[4026531840]", uint32(4026531840))
	f.Add("net:[4294967296]", ^uint32(0))
	f.Add("net:[0x1f]", uint32(0))
	f.Add("net:[+1]]", uint32(1))
	form := regexp.MustCompile(`\Anet:\[([0-9]+)\]\z`)
	f.Fuzz(func(t *testing.T, link string, inode uint32) {
		got, ok := parseNamespace(fmt.Sprintf("net:[%d]", inode))
		require.True(t, ok)
		require.Equal(t, inode, got)

		got, ok = parseNamespace(link)
		match := form.FindStringSubmatch(link)
		if match == nil {
			require.False(t, ok)
			return
		}
		number, _ := new(big.Int).SetString(match[1], 10)
		require.Equal(t, number.BitLen() <= 32, ok)
		if ok {
			require.Equal(t, number.Uint64(), uint64(got))
		}
	})
}
