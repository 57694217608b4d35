// SPDX-License-Identifier: Apache-2.0

// Package packet follows the network interfaces of a host, and of its network namespaces, and gives each selected one a
// packet socket (AF_PACKET) with an eBPF program as its filter. The program counts; it returns 0, so that nothing is queued.
//
// # Which interfaces
//
// By default, those by which traffic enters and leaves a network namespace, each packet once:
//
//   - All that have hardware behind them, a virtual machine's devices among them. Not those that pass packets on to such a
//     one, or from it: bridges, bonds and teams (their members are attached), VLANs, macvlans, tunnels (their outer packets are
//     counted where they pass), veths, tun and tap devices; nor loopback, dummy and ifb.
//   - In a namespace without hardware, such as a container's: those whose other side is in another namespace, and that are in no
//     bridge. That is a container's or pod's end of a veth, a macvlan or ipvlan whose parent the host has, and the like.
//   - In a namespace that has none of these either: tun and tap devices, by which rootless containers reach the outside.
//
// Patterns of names (see [path.Match]) take the place of this rule: those of what is included for all of it, and those of what is
// excluded for a part. A namespace that has no hardware and passes packets on to others by routing, as the node of a cluster in
// containers does, shows those packets twice, on the way in and out: there, name the interfaces.
//
// # Which namespaces
//
// The host's, or that of every process. Namespaces are found by looking at all processes once a second; sooner when an
// interface appears whose other side is elsewhere. A namespace that only a mount keeps (ip netns add) is not found until a process is in
// it. The sockets in a namespace keep it alive: when its last process has ended, which is noticed at once where possible, and
// otherwise at the next look, they are closed within about a tenth of a second.
//
// An interface that appears is attached as soon as rtnetlink tells of it, which as a rule is before it is up; packets that pass before
// are not counted.
package packet
