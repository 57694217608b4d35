// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

func TestRule(t *testing.T) {
	lo := link{name: "lo", hardware: unix.ARPHRD_LOOPBACK, flags: unix.IFF_LOOPBACK}
	host := []link{
		lo,
		{name: "eth0"},
		{name: "eth1", master: 5},
		{name: "eth2", master: 4},
		{name: "bond0", kind: "bond"},
		{name: "br0", kind: "bridge"},
		{name: "veth0", kind: "veth", master: 5, elsewhere: true},
		{name: "cali0", kind: "veth", elsewhere: true},
		{name: "eth0.7", kind: "vlan"},
		{name: "wg0", kind: "wireguard"},
		{name: "tap0", kind: "tun"},
		{name: "dummy0", kind: "dummy"},
		{name: "ib0", kind: "ipoib", hardware: unix.ARPHRD_INFINIBAND},
		{name: "ib1", hardware: unix.ARPHRD_INFINIBAND},
		{name: "mon0", hardware: unix.ARPHRD_IEEE80211_RADIOTAP},
	}
	for _, tt := range []struct {
		name             string
		links            []link
		include, exclude []string
		want             []string
	}{
		{name: "hardware", links: host, want: []string{"eth0", "eth1", "eth2"}},
		{name: "excluded", links: host, exclude: []string{"eth[12]"}, want: []string{"eth0"}},
		{name: "included", links: host, include: []string{"lo", "br*", "cali0"}, want: []string{"lo", "br0", "cali0"}},
		{name: "included and excluded", links: host, include: []string{"*0"}, exclude: []string{"?eth*", "b*", "[a-f]*", "i*", "mon?"}, want: []string{"wg0", "tap0"}},
		{name: "nothing", links: []link{lo}},
		{name: "a container", links: []link{lo, {name: "eth0", kind: "veth", elsewhere: true}, {name: "tun0", kind: "tun"}}, want: []string{"eth0"}},
		{
			name: "a container with bridges of its own",
			links: []link{
				lo,
				{name: "eth0", kind: "veth", elsewhere: true},
				{name: "docker0", kind: "bridge"},
				{name: "veth1", kind: "veth", elsewhere: true, master: 2},
				{name: "inner", kind: "veth"},
				{name: "ovs", kind: "openvswitch"},
				{name: "veth2", kind: "veth", elsewhere: true, master: 5},
				{name: "vrf0", kind: "vrf"},
				{name: "net1", kind: "macvlan", elsewhere: true, master: 7},
			},
			want: []string{"eth0", "net1"},
		},
		{name: "rootless", links: []link{lo, {name: "tap0", kind: "tun"}, {name: "br0", kind: "bridge"}, {name: "tap1", kind: "tun", master: 2}}, want: []string{"tap0"}},
		{
			name: "accelerated networking",
			links: []link{
				lo,
				{name: "eth0"}, // hv_netvsc
				{name: "enP1", master: 1},
			},
			want: []string{"eth0"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			links := make(map[int]*link)
			for i := range tt.links {
				tt.links[i].index = i
				l := tt.links[i]
				if l.master == 0 {
					l.master = -1 // the first has index 0 here
				}
				links[i] = &l
			}
			var got []string
			for _, index := range (rule{tt.include, tt.exclude}).selected(links) {
				got = append(got, links[index].name)
			}
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestValidate(t *testing.T) {
	assert.NoError(t, Options{Include: []string{"eth*"}, Namespaces: AllNamespaces}.Validate())
	err := Options{Include: []string{"eth["}, Exclude: []string{"ok", "a[-]"}, Namespaces: "some"}.Validate()
	assert.EqualError(t, err, `include: "eth[" is no pattern: syntax error in pattern
exclude: "a[-]" is no pattern: syntax error in pattern
namespaces: "some" is neither "host" nor "all"`)
}

func TestCountingOfHardware(t *testing.T) {
	n := &namespace{links: map[int]*link{
		1: {index: 1, hardware: unix.ARPHRD_ETHER, driver: "ixgbe", master: 3},
		2: {index: 2, hardware: unix.ARPHRD_ETHER, driver: "virtio_net"},
		3: {index: 3, hardware: unix.ARPHRD_ETHER, kind: "bond"},
		4: {index: 4, hardware: unix.ARPHRD_NONE, kind: "wwan"},
	}}
	for index, want := range map[int]Counting{
		1: {Ethernet: true, WireReceive: true, WireTransmit: true},
		2: {Ethernet: true, WireReceive: true, VLANReceive: true},
		3: {Ethernet: true, WireReceive: true, WireTransmit: true},
	} {
		assert.Equal(t, want, n.counting(n.links[index]), index)
	}
	assert.False(t, n.counting(n.links[4]).Ethernet)
}
