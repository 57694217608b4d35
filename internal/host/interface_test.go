// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"maps"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestInterfacesOfThisHost(t *testing.T) {
	loopback, err := net.InterfaceByName("lo")
	require.NoError(t, err)
	for _, root := range []string{"", "/"} { // netlink, sysfs
		name, ok := NewInterfaces(root, nil).Resolve(uint32(loopback.Index))
		assert.True(t, ok)
		assert.Equal(t, "lo", name)
	}
}

func TestInterfacesFromSysfs(t *testing.T) {
	root := t.TempDir()
	writeTree(t, root, map[string]string{
		"sys/class/net/lo/ifindex":      "1\n",
		"sys/class/net/eth0/ifindex":    "2\n",
		"sys/class/net/odd/ifindex":     "x\n",
		"sys/class/net/bonding_masters": "",
	})
	i := NewInterfaces(root, nil)
	for index, want := range map[uint32]string{1: "lo", 2: "eth0", 3: "", 0: ""} {
		name, ok := i.Resolve(index)
		assert.Equal(t, want, name)
		assert.Equal(t, want != "", ok)
	}
}

func TestInterfacesAreListedSparingly(t *testing.T) {
	clock := newFakeTime()
	i := NewInterfaces("", clock.Now)
	names, lists := map[uint32]string{1: "lo"}, 0
	var broken error
	i.list = func() (map[uint32]string, error) { lists++; return maps.Clone(names), broken }

	resolve := func(index uint32, want string, wantLists int) {
		t.Helper()
		name, ok := i.Resolve(index)
		assert.Equal(t, want, name)
		assert.Equal(t, want != "", ok)
		assert.Equal(t, wantLists, lists)
	}
	resolve(1, "lo", 1)
	resolve(2, "", 1)
	names[2] = "veth0"
	resolve(2, "", 1)
	clock.Add(interfaceRetry)
	resolve(1, "lo", 1)
	resolve(2, "veth0", 2)
	names[2] = "eth7" // renamed
	clock.Add(interfacesTTL - 1)
	resolve(2, "veth0", 2)
	clock.Add(1)
	resolve(2, "eth7", 3)

	// What was known serves on.
	broken = errors.New("broken")
	clock.Add(interfacesTTL)
	resolve(2, "eth7", 4)
}

func BenchmarkInterfacesResolve(b *testing.B) {
	i := NewInterfaces("", nil)
	b.ReportAllocs()
	for b.Loop() {
		i.Resolve(1)
	}
}
