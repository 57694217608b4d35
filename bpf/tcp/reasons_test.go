// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// filter drops all IPv4 packets to a host's own processes until the result is called.
func filter(t *testing.T, n *kernel.Network) (end func()) {
	t.Helper()
	const drop, ipv4, localIn = 0, 2, 1
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Netfilter, AttachType: ebpf.AttachNetfilter, License: "MIT", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, drop), asm.Return()},
	})
	if err != nil {
		return nil
	}
	defer program.Close()
	var l link.Link
	n.Do(func() {
		l, err = link.AttachNetfilter(link.NetfilterOptions{Program: program, ProtocolFamily: ipv4, Hook: localIn, Priority: -128})
	})
	require.NoError(t, err)
	return func() { require.NoError(t, l.Close()) }
}

// As many drops of each reason as there were packets that gave it, and as the kernel's own counters have.
func TestKernelTCPDropReasons(t *testing.T) {
	if !hasReasons(t) {
		t.Skip("this kernel has no reasons")
	}
	here, there := pair(t)
	set(t, here, "ip_forward", "1")
	set(t, here, "conf/all/rp_filter", "1")
	route(t, here, "10.5.0.0/16", netlink.Route{Gw: net.IPv4(10, 1, 0, 2)})
	mac := here.Link("cable").Attrs().HardwareAddr
	from, to := netip.MustParseAddrPort("10.1.0.2:4000"), netip.MustParseAddrPort("10.1.0.1:9")
	// Each kind of packet, and how often it is sent.
	const udp, other = unix.IPPROTO_UDP, 253
	kinds := []struct {
		times  int
		reason string
		frame  []byte
	}{
		{3, "no_socket tcp", packet{from: from, to: to, flags: syn}.frame(mac)},
		{4, "no_socket udp", packet{from: from, to: to, protocol: udp}.frame(mac)},
		{5, "udp_csum udp", packet{from: from, to: to, protocol: udp, wrong: true}.frame(mac)},
		{6, "tcp_csum tcp", packet{from: from, to: to, flags: syn, wrong: true}.frame(mac)},
		{7, "ip_inhdr tcp", packet{from: from, to: netip.MustParseAddrPort("10.5.0.1:9"), ttl: 1, flags: syn}.frame(mac)},
		{8, "ip_innoroutes tcp", packet{from: from, to: netip.MustParseAddrPort("192.0.2.7:9"), flags: syn}.frame(mac)},
		{9, "ip_rpfilter tcp", packet{from: netip.MustParseAddrPort("198.51.100.1:4000"), to: to, flags: syn}.frame(mac)},
		{10, "ip_csum tcp", packet{from: from, to: to, flags: syn, wrongIP: true}.frame(mac)},
		{11, "ip_noproto 253", packet{from: from, to: to, protocol: other, payload: []byte("what")}.frame(mac)},
		{12, "ip_inhdr udp", packet{from: from, to: to, protocol: udp}.frame(mac)[:14+16]}, // cut within IP's header
		{13, "unhandled_proto -", append(ethernet(mac, 0x9abc), make([]byte, 40)...)},
		{14, "otherhost tcp", packet{from: from, to: to, flags: syn}.frame(net.HardwareAddr{2, 0, 0, 0, 0, 77})},
	}
	run := here.Start(byNamespace)
	want := map[string]int{}
	for _, k := range kinds {
		send(t, there, "cable", k.times, k.frame)
		want[k.reason] = k.times
	}
	have := func() map[string]int {
		got := kernel.Values(kernel.Of(run.Last("ebpf.network.drops"), here), "ebpf.network.drop.reason", "network.transport")
		delete(got, "not_specified -") // what ARP is done with
		return got
	}
	require.Eventually(t, func() bool { return assert.ObjectsAreEqual(want, have()) }, wait, tick)
	if end := filter(t, here); end != nil {
		send(t, there, "cable", 15, packet{from: from, to: to, flags: syn}.frame(mac))
		want["netfilter_drop tcp"] = 15
		require.Eventually(t, func() bool { return assert.ObjectsAreEqual(want, have()) }, wait, tick)
		end()
	}
	run.Stop()
	assert.Equal(t, want, have())
	kernels := here.Counters()
	for name, reasons := range map[string][]string{
		"TcpInCsumErrors": {"tcp_csum tcp"}, "UdpInCsumErrors": {"udp_csum udp"}, "UdpNoPorts": {"no_socket udp"}, "IpExtInNoRoutes": {"ip_innoroutes tcp"},
		"TcpExtIPReversePathFilter": {"ip_rpfilter tcp"}, "IpExtInCsumErrors": {"ip_csum tcp"}, "IpInUnknownProtos": {"ip_noproto 253"},
		"IpInHdrErrors": {"ip_csum tcp", "ip_inhdr tcp", "ip_inhdr udp"}, "TcpOutRsts": {"no_socket tcp"},
	} {
		n := 0
		for _, r := range reasons {
			n += want[r]
		}
		assert.Equal(t, kernels[name], n, name)
	}
}
