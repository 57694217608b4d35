// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// flagUp is IFF_UP.
const flagUp = unix.IFF_UP

// hardwareKinds are the kinds of interface that stand for a device of their own, although rtnetlink gives them a kind: what
// passes them passes no other interface of the host.
var hardwareKinds = []string{"", "netdevsim", "wwan"}

// others are link layers of interfaces that show another one's traffic again, such as a radio's, and InfiniBand's, whose header is not read.
var others = []uint16{unix.ARPHRD_IEEE80211, unix.ARPHRD_IEEE80211_PRISM, unix.ARPHRD_IEEE80211_RADIOTAP, unix.ARPHRD_NETLINK, unix.ARPHRD_INFINIBAND}

// switches are the kinds of master that pass the packets of their members on.
var switches = []string{"bridge", "openvswitch"}

// rule is which interfaces are attached.
type rule struct{ include, exclude []string }

func checkGlobs(what string, globs []string) error {
	for _, glob := range globs {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("%s: %q is no pattern: %w", what, glob, err)
		}
	}
	return nil
}

func matches(globs []string, name string) bool {
	return slices.ContainsFunc(globs, func(glob string) bool {
		ok, _ := path.Match(glob, name) // the pattern was checked
		return ok
	})
}

// selected are the indices of those of a namespace's interfaces that are to be attached, in order.
func (r rule) selected(links map[int]*link) []int {
	named := func(l *link) bool { return matches(r.include, l.name) }
	if len(r.include) == 0 {
		named = uplinks(links)
	}
	var list []int
	for index, l := range links {
		if named(l) && !matches(r.exclude, l.name) {
			list = append(list, index)
		}
	}
	slices.Sort(list)
	return list
}

// uplinks gives the default rule for a namespace, which stands in the package's documentation.
func uplinks(links map[int]*link) func(*link) bool {
	for _, is := range []func(map[int]*link, *link) bool{isHardware, isPeer, isTap} {
		for _, l := range links {
			if is(links, l) {
				return func(l *link) bool { return is(links, l) }
			}
		}
	}
	return func(*link) bool { return false }
}

// isHardware: a device that is not a part of another one. Both the standby pair of a virtual machine (net_failover)
// and Azure's accelerated networking (hv_netvsc) show an interface that has the members' traffic as its own; like it, members
// have no kind. Those of bonds, teams and bridges are attached themselves.
func isHardware(links map[int]*link, l *link) bool {
	if !slices.Contains(hardwareKinds, l.kind) || l.flags&unix.IFF_LOOPBACK != 0 || slices.Contains(others, l.hardware) {
		return false
	}
	master := links[l.master]
	return master == nil || master.kind != ""
}

// isPeer: the other side is in another namespace, and packets are not passed on to it by a bridge.
func isPeer(links map[int]*link, l *link) bool {
	if !l.elsewhere || l.flags&unix.IFF_LOOPBACK != 0 {
		return false
	}
	master := links[l.master]
	return master == nil || !slices.Contains(switches, master.kind)
}

// isTap: packets come from and go to a process, such as rootless containers' slirp4netns and pasta.
func isTap(links map[int]*link, l *link) bool {
	master := links[l.master]
	return l.kind == "tun" && (master == nil || !slices.Contains(switches, master.kind))
}
