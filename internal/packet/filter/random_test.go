// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// A writer writes random expressions. They are of the language, but not always of sense: some are refused.
type writer struct{ *rand.Rand }

func (w writer) pick(choices ...string) string { return choices[w.IntN(len(choices))] }

func (w writer) expression(depth int) string {
	if depth == 0 {
		return w.primitive()
	}
	switch w.IntN(6) {
	case 0:
		return "not " + w.expression(depth-1)
	case 1:
		return "(" + w.expression(depth-1) + ")"
	case 2, 3:
		return w.expression(depth-1) + " and " + w.expression(depth-1)
	default:
		return w.expression(depth-1) + " or " + w.expression(depth-1)
	}
}

func (w writer) primitive() string {
	dir := w.pick("", "src ", "dst ", "src or dst ", "src and dst ")
	addr := w.pick("10.1.2.3", "192.0.2.1", "8.8.8.8", "2001:db8::1", "::1", "ff02::fb")
	port := w.pick("80", "53", "22", "443", "http", "domain", "40000")
	switch w.IntN(12) {
	case 0:
		return w.pick("tcp", "udp", "ip", "ip6", "icmp", "icmp6", "arp", "sctp", "igmp", "esp", "ipx", "stp", "rarp", "atalk")
	case 1:
		return dir + "host " + addr
	case 2:
		return "host " + addr + w.pick(" or ", " and ") + addr
	case 3:
		return dir + "net " + w.pick("10", "10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32", "::/0", "0.0.0.0/0", "172.16.0.0/12")
	case 4:
		return w.pick("", "tcp ", "udp ") + dir + "port " + port
	case 5:
		return w.pick("tcp ", "") + "port " + port + " or " + port
	case 6:
		return w.pick("", "tcp ", "udp ") + dir + "portrange " + w.pick("1-1023", "80-443", "53-53", "1024-65535")
	case 7:
		return w.pick("ip ", "ip6 ", "") + "proto " + w.pick("6", "17", "44", "58", "gre", "1")
	case 8:
		return w.pick("multicast", "broadcast", "ip multicast", "ip6 multicast", "less 60", "greater 50", "ether dst ff:ff:ff:ff:ff:ff",
			"ether host 02:00:5e:00:53:01", "vlan", "vlan 5", "mpls", "mpls 5", "pppoes", "ether proto 0x800")
	default:
		return w.sum(w.IntN(3)) + w.pick(" = ", " != ", " > ", " < ", " >= ", " <= ") + w.pick("0", "1", "6", "64", "80", "1000", "0xffff", "4294967295")
	}
}

// sum is arithmetic. Right of an operator stands no protocol that is not on the left: see TestBothOperandsProtocolsAreChecked.
func (w writer) sum(depth int) string {
	protocol := w.pick("ip", "tcp", "udp", "ip6", "ether", "icmp")
	offset := func() string {
		return w.pick("0", "1", "2", "8", "9", "12", "13", "20", "39") + w.pick("", ":1", ":2", ":4")
	}
	s := fmt.Sprintf("%s[%s]", protocol, offset())
	if w.IntN(4) == 0 {
		s = fmt.Sprintf("%s[%s[%s] & 0x3f]", protocol, protocol, offset())
	}
	for range depth {
		right := w.pick("1", "2", "3", "7", "31", "0xf0", "len", fmt.Sprintf("%s[%s]", protocol, offset()))
		s = "(" + s + w.pick(" + ", " - ", " * ", " / ", " % ", " & ", " | ", " ^ ", " << ", " >> ") + right + ")"
	}
	return s
}

// sample are packets for a random expression: some of the frames, whole or cut, and noise.
func (w writer) sample(link Link, n int) [][]byte {
	var packets [][]byte
	all := frames()
	for len(packets) < n {
		f := all[w.IntN(len(all))]
		if f.raw != (link == IP) {
			continue
		}
		data := append([]byte(nil), f.data...)
		switch w.IntN(4) {
		case 0:
			data = data[:1+w.IntN(len(data)-1)]
		case 1:
			data[w.IntN(len(data))] = byte(w.Uint32())
		}
		packets = append(packets, data)
	}
	return packets
}

// Random expressions mean the same to tcpdump.
func TestRandomExpressionsAreThoseOfTcpdump(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skip("needs tcpdump; the expressions of testdata are compared without it")
	}
	w := writer{rand.New(rand.NewPCG(1, 2))}
	compared, moved, refused := 0, 0, 0
	for i := range 400 {
		link := Link(i % 2)
		e := w.expression(i / 2 % 4)
		want, refusal := tcpdump(t, e, link)
		program, err := Compile(e, link)
		if strings.Contains(refusal, "rejects all packets") && err == nil {
			// Its optimiser has found that out, which ours need not: no packet may match, then.
			want, refusal = tcpdump(t, e, link, "-O")
		}
		if refusal != "" {
			refused++
			if strings.HasSuffix(refusal, " by zero") || strings.HasPrefix(refusal, "shift by") {
				continue // its optimiser takes values of other ways for known; we need not refuse
			}
			require.Error(t, err, "%s: tcpdump refuses it: %s", e, refusal)
			continue
		}
		require.NoError(t, err, e)
		ours, theirs := vm(t, program.Classic()), vm(t, want)
		var plain *bpf.VM
		for _, data := range w.sample(link, 200) {
			expected, got := verdict(t, theirs, data), verdict(t, ours, data)
			if expected != got {
				// Where a load misses the packet, the answer hangs on the order in which an optimiser has put the loads. Without
				// one, such a load is the only way to return 0.
				if plain == nil {
					unoptimised, _ := tcpdump(t, e, link, "-O")
					for i, ri := range unoptimised {
						if ret, ok := ri.Disassemble().(bpf.RetConstant); ok && ret.Val == 0 {
							unoptimised[i].K = 1
						}
					}
					plain = vm(t, unoptimised)
				}
				n, err := plain.Run(data)
				require.NoError(t, err)
				require.Zero(t, n, "%v: %s\non %x: tcpdump says %v", link, e, data, expected)
				moved++
				continue
			}
			compared++
		}
	}
	require.NotZero(t, compared)
	require.Less(t, moved, compared/1000)
	t.Logf("%d verdicts are equal, %d hang on the order of loads that miss the packet; %d expressions are refused by both", compared, moved, refused)
}

// Random expressions mean the same in the kernel as in the virtual machine.
func TestKernelRandomExpressions(t *testing.T) {
	needs.Root(t)
	w := writer{rand.New(rand.NewPCG(3, 4))}
	compared, expressions := 0, 600
	if testing.Short() {
		expressions = 60
	}
	for i := range expressions {
		link := Link(i % 2)
		e := w.expression(i / 2 % 5)
		program, err := Compile(e, link)
		if err != nil {
			continue
		}
		c := socketFilter(t, "packets", program)
		machine := vm(t, program.Classic())
		for _, data := range w.sample(link, 100) {
			require.Equal(t, verdict(t, machine, data), run(t, c.Programs["packets"], data), "%v: %s\non %x", link, e, data)
			compared++
		}
		c.Close()
	}
	require.NotZero(t, compared)
	t.Logf("%d verdicts are equal", compared)
}

// Nothing makes the compiler panic, and what it accepts is a valid program in both forms.
func FuzzCompile(f *testing.F) {
	for _, e := range corpus(f) {
		f.Add(e)
	}
	packets := frames()
	f.Fuzz(func(t *testing.T, expression string) {
		for link := range links {
			program, err := Compile(expression, link)
			if err != nil {
				var syntax *SyntaxError
				require.ErrorAs(t, err, &syntax)
				require.LessOrEqual(t, syntax.Offset, len(expression))
				require.NotContains(t, err.Error(), "%!")
				continue
			}
			classic := program.Classic()
			require.LessOrEqual(t, len(classic), maxInstructions)
			require.NotEmpty(t, program.Instructions())
			if machine := vm(t, classic); machine != nil {
				verdict(t, machine, packets[len(expression)%len(packets)].data)
			}
		}
	})
}
