// SPDX-License-Identifier: Apache-2.0

package filter

import "strings"

// keywords are the words of the language by spelling, with their canonical form.
var keywords = spellings(`and or not len=length src dst host net mask port portrange proto protochain gateway
	less greater byte broadcast multicast inbound outbound ifindex vlan mpls pppoed pppoes
	ether=link ether=ppp ether=slip ether=fddi ether=tr ether=wlan ether
	ip arp rarp sctp tcp udp icmp igmp igrp pim vrrp carp ip6 icmp6 ah esp
	atalk aarp decnet lat sca moprc mopdl iso stp ipx netbeui`, unsupported)

// unsupported are words of other link types and of encapsulations that are left out.
var unsupported = words(`radio esis es-is isis is-is l1 l2 iih lsp snp csnp psnp clnp geneve vxlan batadv llc
	type subtype direction dir address1 addr1 address2 addr2 address3 addr3 address4 addr4 ra ta
	lane metac bcc oam oamf4 oamf4ec oamf4sc sc ilmic vpi vci connectmsg metaconnect
	on ifname rset ruleset rnr rulenum srnr subrulenum reason action
	fisu lssu lsu msu hfisu hlssu hmsu sio opc dpc sls hsio hopc hdpc hsls`)

// protocolWords are the keywords that name a protocol, and may stand before "[" or a qualifier.
var protocolWords = words(`ether ip arp rarp sctp tcp udp icmp igmp igrp pim vrrp carp ip6 icmp6 ah esp
	atalk aarp decnet lat sca moprc mopdl iso stp ipx netbeui`)

func words(list string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(list) {
		m[w] = true
	}
	return m
}

// spellings reads "canonical" or "canonical=spelling".
func spellings(list string, more map[string]bool) map[string]string {
	m := map[string]string{}
	for w := range strings.FieldsSeq(list) {
		canonical, spelling, ok := strings.Cut(w, "=")
		if !ok {
			spelling = canonical
		}
		m[spelling] = canonical
		m[canonical] = canonical
	}
	for w := range more {
		m[w] = w
	}
	return m
}

// Ethernet types, and service access points of 802.2 (below 1501), from net/ethertypes of the IEEE's list.
const (
	etherIP      = 0x0800
	etherARP     = 0x0806
	etherRARP    = 0x8035
	etherIPv6    = 0x86dd
	etherVLAN    = 0x8100
	etherQinQ    = 0x88a8
	etherQinQOld = 0x9100
	etherMPLS    = 0x8847
	etherPPPoED  = 0x8863
	etherPPPoES  = 0x8864
	etherDECnet  = 0x6003
	etherAtalk   = 0x809b
	etherAARP    = 0x80f3
	etherIPX     = 0x8137
	etherMaxLen  = 1500

	sapSTP     = 0x42
	sapIP      = 0x06
	sapISO     = 0xfe
	sapIPX     = 0xe0
	sapNetBEUI = 0xf0
)

// etherProtocols are the names that "ether proto" knows.
var etherProtocols = map[string]uint32{
	"aarp": etherAARP, "arp": etherARP, "atalk": etherAtalk, "decnet": etherDECnet, "ip": etherIP, "ip6": etherIPv6,
	"lat": 0x6004, "loopback": 0x9000, "mopdl": 0x6001, "moprc": 0x6002, "rarp": etherRARP, "sca": 0x6007,
	"iso": sapISO, "stp": sapSTP, "ipx": sapIPX, "netbeui": sapNetBEUI,
}

// pppTypes are the PPP protocol numbers of what has another number on Ethernet (RFC 1661 and its followers).
var pppTypes = map[uint32]uint32{
	etherIP: 0x21, etherIPv6: 0x57, etherDECnet: 0x27, etherAtalk: 0x29, 0x0600: 0x25, sapISO: 0x23, sapSTP: 0x31, sapIPX: 0x2b,
}

// isoProtocols are the names that "iso proto" knows.
var isoProtocols = map[string]uint32{"clnp": 0x81, "esis": 0x82, "isis": 0x83}

const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoFrag   = 44
	protoICMPv6 = 58
	protoSCTP   = 132
)

// transports are the keywords that stand for a protocol above IP: its number, and whether it is looked for in IPv4 and in IPv6.
var transports = map[string]struct {
	number uint32
	v4, v6 bool
}{
	"sctp": {protoSCTP, true, true}, "tcp": {protoTCP, true, true}, "udp": {protoUDP, true, true},
	"icmp": {protoICMP, true, false}, "igmp": {2, true, false}, "igrp": {9, true, false}, "pim": {103, true, true},
	"vrrp": {112, true, false}, "carp": {112, true, false}, "icmp6": {protoICMPv6, false, true},
	"ah": {51, true, true}, "esp": {50, true, true},
}

// ipProtocols are the names that "proto", "ip proto" and "ip6 proto" know: those of IANA's list, as Debian's /etc/protocols spells them.
var ipProtocols = map[string]uint32{
	"ip": 0, "hopopt": 0, "icmp": 1, "igmp": 2, "ggp": 3, "ipencap": 4, "st": 5, "tcp": 6, "egp": 8, "igp": 9, "pup": 12, "udp": 17,
	"hmp": 20, "xns-idp": 22, "rdp": 27, "iso-tp4": 29, "dccp": 33, "xtp": 36, "ddp": 37, "idpr-cmtp": 38, "ipv6": 41,
	"ipv6-route": 43, "ipv6-frag": 44, "idrp": 45, "rsvp": 46, "gre": 47, "esp": 50, "ah": 51, "skip": 57, "ipv6-icmp": 58,
	"ipv6-nonxt": 59, "ipv6-opts": 60, "rspf": 73, "vmtp": 81, "eigrp": 88, "ospf": 89, "ax.25": 93, "ipip": 94, "etherip": 97,
	"encap": 98, "pim": 103, "ipcomp": 108, "vrrp": 112, "l2tp": 115, "isis": 124, "sctp": 132, "fc": 133, "mobility-header": 135,
	"udplite": 136, "mpls-in-ip": 137, "manet": 138, "hip": 139, "shim6": 140, "wesp": 141, "rohc": 142, "ethernet": 143,
}

// A service is a well-known port; protocol is 0 if it is registered for TCP and for UDP.
type service struct{ port, protocol uint32 }

// services are the names of ports, with the protocols that Debian's /etc/services gives them: as in libpcap, "port http" means TCP only.
var services = map[string]service{
	"echo": {7, 0}, "discard": {9, 0}, "daytime": {13, 0}, "chargen": {19, 0}, "ftp-data": {20, protoTCP}, "ftp": {21, protoTCP},
	"ssh": {22, protoTCP}, "telnet": {23, protoTCP}, "smtp": {25, protoTCP}, "mail": {25, protoTCP}, "time": {37, 0},
	"whois": {43, protoTCP}, "tacacs": {49, 0}, "domain": {53, 0}, "bootps": {67, protoUDP}, "bootpc": {68, protoUDP},
	"tftp": {69, protoUDP}, "gopher": {70, protoTCP}, "finger": {79, protoTCP}, "http": {80, protoTCP}, "www": {80, protoTCP},
	"kerberos": {88, 0}, "pop3": {110, protoTCP}, "pop-3": {110, protoTCP}, "sunrpc": {111, 0}, "portmapper": {111, 0},
	"auth": {113, protoTCP}, "ident": {113, protoTCP}, "nntp": {119, protoTCP}, "ntp": {123, protoUDP}, "epmap": {135, protoTCP},
	"netbios-ns": {137, protoUDP}, "netbios-dgm": {138, protoUDP}, "netbios-ssn": {139, protoTCP}, "imap2": {143, protoTCP},
	"imap": {143, protoTCP}, "snmp": {161, 0}, "snmp-trap": {162, 0}, "snmptrap": {162, 0}, "xdmcp": {177, protoUDP},
	"bgp": {179, protoTCP}, "ptp-event": {319, protoUDP}, "ptp-general": {320, protoUDP}, "ldap": {389, 0}, "https": {443, 0},
	"microsoft-ds": {445, protoTCP}, "kpasswd": {464, 0}, "submissions": {465, protoTCP}, "isakmp": {500, protoUDP},
	"syslog": {514, 0}, "printer": {515, protoTCP}, "route": {520, protoUDP}, "dhcpv6-client": {546, protoUDP},
	"dhcpv6-server": {547, protoUDP}, "rtsp": {554, 0}, "submission": {587, protoTCP}, "ipp": {631, protoTCP}, "ldaps": {636, 0},
	"domain-s": {853, 0}, "rsync": {873, protoTCP}, "imaps": {993, protoTCP}, "pop3s": {995, protoTCP}, "socks": {1080, protoTCP},
	"openvpn": {1194, 0}, "ms-sql-s": {1433, protoTCP}, "l2tp": {1701, protoUDP}, "radius": {1812, 0}, "radius-acct": {1813, 0},
	"nfs": {2049, 0}, "mysql": {3306, protoTCP}, "ms-wbt-server": {3389, protoTCP}, "epmd": {4369, protoTCP},
	"ipsec-nat-t": {4500, protoUDP}, "sip": {5060, 0}, "sip-tls": {5061, 0}, "xmpp-client": {5222, protoTCP},
	"xmpp-server": {5269, protoTCP}, "mdns": {5353, protoUDP}, "postgresql": {5432, protoTCP}, "amqps": {5671, protoTCP},
	"redis": {6379, protoTCP}, "syslog-tls": {6514, protoTCP}, "http-alt": {8080, protoTCP}, "git": {9418, protoTCP},
	"zabbix-agent": {10050, protoTCP}, "zabbix-trapper": {10051, protoTCP},
}

// constants are the numbers that have names, for accessors.
var constants = map[string]uint32{
	"icmptype": 0, "icmpcode": 1, "icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5,
	"icmp-echo": 8, "icmp-routeradvert": 9, "icmp-routersolicit": 10, "icmp-timxceed": 11, "icmp-paramprob": 12,
	"icmp-tstamp": 13, "icmp-tstampreply": 14, "icmp-ireq": 15, "icmp-ireqreply": 16, "icmp-maskreq": 17, "icmp-maskreply": 18,

	"icmp6type": 0, "icmp6code": 1, "icmp6-destinationunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3,
	"icmp6-parameterproblem": 4, "icmp6-echo": 128, "icmp6-echoreply": 129, "icmp6-multicastlistenerquery": 130,
	"icmp6-multicastlistenerreportv1": 131, "icmp6-multicastlistenerdone": 132, "icmp6-routersolicit": 133,
	"icmp6-routeradvert": 134, "icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136, "icmp6-redirect": 137,
	"icmp6-routerrenum": 138, "icmp6-nodeinformationquery": 139, "icmp6-nodeinformationresponse": 140,
	"icmp6-ineighbordiscoverysolicit": 141, "icmp6-ineighbordiscoveryadvert": 142, "icmp6-multicastlistenerreportv2": 143,
	"icmp6-homeagentdiscoveryrequest": 144, "icmp6-homeagentdiscoveryreply": 145, "icmp6-mobileprefixsolicit": 146,
	"icmp6-mobileprefixadvert": 147, "icmp6-certpathsolicit": 148, "icmp6-certpathadvert": 149,
	"icmp6-multicastrouteradvert": 151, "icmp6-multicastroutersolicit": 152, "icmp6-multicastrouterterm": 153,

	"tcpflags": 13, "tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16, "tcp-urg": 32, "tcp-ece": 64, "tcp-cwr": 128,
}
