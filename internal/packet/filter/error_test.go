// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestErrorsPointAtTheWord(t *testing.T) {
	for expression, want := range map[string]string{
		"ip and hsot 10.1.2.3":        `filter: at "hsot" (column 8): unknown word; did you mean host?`,
		"hsot 10.1.2.3":               `filter: at "hsot" (column 1): unknown word; did you mean host?`,
		"tcp and":                     `filter: at the end (column 8): expected an expression`,
		"tcp prot 80":                 `filter: at "prot" (column 5): unknown word; did you mean port?`,
		"tcp 80":                      `filter: at "80" (column 5): expected host, net, port, proto or the like after tcp`,
		"10.1.2.3":                    `filter: at "10.1.2.3" (column 1): an address alone; write host or net before it`,
		"80":                          `filter: at "80" (column 1): a number alone; write what it is before it, like port or net`,
		"host example.com":            `filter: at "example.com" (column 6): hosts' names are not looked up; write an address`,
		"net backbone":                `filter: at "backbone" (column 5): networks' names are not looked up; write an address`,
		"port htpp":                   `filter: at "htpp" (column 6): unknown port; write its number, or http?`,
		"port 70000":                  `filter: at "70000" (column 6): the highest port is 65535`,
		"udp port http":               `filter: at "http" (column 10): not a port of udp`,
		"icmp port 80":                `filter: at "80" (column 11): icmp has no ports`,
		"ip proto tcp":                `filter: at "tcp" (column 10): a word of the language; as a protocol's name it is written \tcp`,
		"ip proto grr":                `filter: at "grr" (column 10): unknown IP protocol; write its number, or gre?`,
		"ip protochain 6":             `filter: at "protochain" (column 4): protochain is not supported, since it needs a loop; write proto`,
		"gateway 10.1.2.3":            `filter: at "gateway" (column 1): gateway is not supported, since it needs a table of hosts; write ether host and not host`,
		"ip broadcast":                `filter: at "ip" (column 1): ip broadcast needs a netmask, which is not known here; write dst host and the address, or ether broadcast`,
		"byte 5 & 3":                  `filter: at "&" (column 8): not supported here; write ether[5] & ...`,
		"geneve":                      `filter: at "geneve" (column 1): not supported: it is for other kinds of links, or looks into other encapsulations`,
		"tcp[0:3] = 1":                `filter: at "3" (column 7): expected a size of 1, 2 or 4 bytes`,
		"(tcp[0:3] = 1)":              `filter: at "3" (column 8): expected a size of 1, 2 or 4 bytes`,
		"tcp[0]":                      `filter: at the end (column 7): expected a comparison, like = or >`,
		"len-5 = 3":                   `filter: at "len-5" (column 1): unknown word; did you mean len?`,
		"3 + len-5 = 3":               `filter: at "len-5" (column 5): unknown word in arithmetic; a minus needs a blank before it, and names of ports are not numbers`,
		"ip[0] / (1 - 1) = 1":         `filter: at "/" (column 7): division by zero`,
		"ip[4294967000] = 1":          `filter: at "ip" (column 1): the offset is outside of any packet`,
		"net 10.1.2.3/8":              `filter: at "10.1.2.3" (column 5): the network's address has bits set behind its mask of /8`,
		"net 10/8":                    `filter: at "10" (column 5): a network with a mask is written with dots, like 10.0.0.0/8`,
		"host 10.0.0.0/8":             `filter: at "/" (column 14): only a network has a mask; write net before it`,
		"host 300.1.1.1":              `filter: at "300.1.1.1" (column 6): not an IPv4 address: 300 is more than 255`,
		"host 02:00:5e:0:53:1":        `filter: at "02:00:5e:0:53:1" (column 6): an Ethernet address; write ether host before it`,
		"host 1::2::3":                `filter: at "1::2::3" (column 6): neither an IPv6 nor an Ethernet address`,
		"(port 80 or 443":             `filter: at the end (column 16): expected and, or, or )`,
		"tcp)":                        `filter: at ")" (column 4): expected and, or, or the end`,
		"(tcp or udp) and 22":         `filter: at "22" (column 18): a number alone; write what it is before it, like port or net`,
		"port 80 or (443 or port 22)": `filter: at "port" (column 20): a list that begins with a bare address or number has only such`,
		"vlan 4096":                   `filter: at "4096" (column 6): the highest number of vlan is 4095`,
		"tcp ; udp":                   `filter: at ";" (column 5): this character has no meaning in a filter`,
		"tcp → udp":                   `filter: at "→" (column 5): this character has no meaning in a filter`,
		"ip[0] → 1":                   `filter: at "→" (column 7): this character has no meaning in a filter`,
		"src or tcp":                  `filter: at "tcp" (column 8): expected dst after "src or"`,
	} {
		_, err := Compile(expression, Ethernet)
		require.EqualError(t, err, want, expression)
		var syntax *SyntaxError
		require.ErrorAs(t, err, &syntax)
		require.Equal(t, expression, syntax.Expression)
		require.True(t, strings.HasPrefix(expression[syntax.Offset:], syntax.Word))
	}
}

func TestErrorsOfRawIP(t *testing.T) {
	for expression, want := range map[string]string{
		"vlan":                   `filter: at "vlan" (column 1): only Ethernet frames have vlan`,
		"mpls 5":                 `filter: at "mpls" (column 1): only Ethernet frames have mpls`,
		"broadcast":              `filter: at "broadcast" (column 1): only Ethernet has broadcast addresses; write ip broadcast or ip6 broadcast`,
		"multicast":              `filter: at "multicast" (column 1): only Ethernet has multicast addresses; write ip multicast or ip6 multicast`,
		"ether host 2:0:0:0:0:1": `filter: at "2:0:0:0:0:1" (column 12): only Ethernet frames have Ethernet addresses`,
	} {
		_, err := Compile(expression, IP)
		require.EqualError(t, err, want, expression)
	}
}

// An expression is for all interfaces. What it asks of Ethernet is not true of those that have none, and the rest holds: tcpdump's for IP alone.
func TestWordsOfEthernetBesideIt(t *testing.T) {
	var packets [][]byte
	for _, f := range frames() {
		if f.raw {
			packets = append(packets, f.data)
		}
	}
	require.NotEmpty(t, packets)
	for expression, rest := range map[string]string{
		"vlan": "less 0", "vlan 5": "less 0", "mpls (5)": "less 0", "broadcast": "less 0", "ether multicast": "less 0",
		"ether host 2:0:0:0:0:1": "less 0", "vlan and tcp": "less 0", "vlan 5 and port 443": "less 0",
		"not vlan": "", "tcp and not ether broadcast": "tcp", "port 443 or vlan": "port 443", "not mpls and udp": "udp", "(vlan 5 or ip6) and tcp": "ip6 and tcp",
		"udp and (ether src 2:0:0:0:0:1 or ip)": "udp and ip", "arp or icmp": "icmp",
	} {
		_, err := Compile(expression, Ethernet)
		require.NoError(t, err, expression)
		program, err := Compile(expression, IPBesideEthernet)
		require.NoError(t, err, expression)
		want, err := Compile(rest, IP)
		require.NoError(t, err, rest)
		ours, theirs := vm(t, program.Classic()), vm(t, want.Classic())
		for _, p := range packets {
			require.Equal(t, verdict(t, theirs, p), verdict(t, ours, p), "%s on %x", expression, p)
		}
	}
}

// What is too large is refused, in good time.
func TestLimits(t *testing.T) {
	many := func(n int, s string) string { return strings.Repeat(s, n) }
	for name, expression := range map[string]string{
		"parentheses":  many(300, "(") + "tcp" + many(300, ")"),
		"negations":    many(300, "not ") + "tcp",
		"arithmetic":   many(300, "(") + "1" + many(300, ")") + " = 1",
		"minus":        many(300, "- ") + "1 = len",
		"open":         many(100000, "("),
		"tests":        "host 10.0.0.1" + many(20000, " or 10.0.0.2"),
		"instructions": "port 1" + manyPorts(600),
	} {
		_, err := Compile(expression, Ethernet)
		var syntax *SyntaxError
		require.ErrorAs(t, err, &syntax, name)
		t.Log(name, "->", syntax.Message)
	}
	for name, expression := range map[string]string{
		"parentheses": many(150, "(") + "tcp" + many(150, ")"),
		"hosts":       "host 10.0.0.1" + many(1000, " or 10.0.0.2"),
		"ports":       "port 1" + manyPorts(400),
		"sum":         "tcp[0]" + many(100, " - tcp[1]") + " = 1",
		"inner sum":   "tcp[0]" + many(30, " - (tcp[2] * tcp[1]") + many(30, ")") + " = 1",
	} {
		program, err := Compile(expression, Ethernet)
		require.NoError(t, err, name)
		t.Log(name, "->", len(program.Classic()), "instructions")
	}
}

func TestEmptyMatchesEverything(t *testing.T) {
	for _, expression := range []string{"", "  \n"} {
		program, err := Compile(expression, Ethernet)
		require.NoError(t, err)
		require.True(t, verdict(t, vm(t, program.Classic()), nil))
		require.False(t, program.MatchesNone())
	}
	program, err := Compile("tcp and udp", Ethernet)
	require.NoError(t, err)
	require.True(t, program.MatchesNone())
}

// Where libpcap loses a check: what is looked into has to be there.
func TestBothOperandsProtocolsAreChecked(t *testing.T) {
	program, err := Compile("ip[0] * 0 + tcp[0:2] = 53", Ethernet)
	require.NoError(t, err)
	machine := vm(t, program.Classic())
	require.True(t, verdict(t, machine, ether(etherIP, ip4{proto: 6}.of(tcp(53, 53, 2)))))
	require.False(t, verdict(t, machine, ether(etherIP, ip4{proto: 17}.of(udp(53, 53)))))
}

func manyPorts(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, " or %d", 2+2*i)
	}
	return b.String()
}

func repeatMinus(n int) string { return strings.Repeat(" - tcp[1]", n) }
