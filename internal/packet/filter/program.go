// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"
)

// Link is what a packet begins with.
type Link uint8

const (
	// Ethernet is for devices whose packets begin with the header of Ethernet: DLT_EN10MB.
	Ethernet Link = iota
	// IP is for devices whose packets begin with the header of IPv4 or IPv6, like tun: DLT_RAW.
	IP
	// IPBesideEthernet is IP, for an expression that is for devices with Ethernet's header as well: what it asks of that is not true
	// here, where it is an error for IP alone.
	IPBesideEthernet
)

func (l Link) String() string {
	switch l {
	case IP:
		return "IP"
	case IPBesideEthernet:
		return "IP beside Ethernet"
	}
	return "Ethernet"
}

// Program is a compiled expression.
type Program struct {
	classic []bpf.Instruction
	live    []bpf.Instruction
	never   bool
}

// Compile compiles an expression for one kind of link. The error is a [*SyntaxError]. An empty expression matches every packet.
func Compile(expression string, link Link) (*Program, error) {
	fail := func(err error) error {
		return &SyntaxError{Expression: expression, Word: firstWord(expression), Message: err.Error()}
	}
	c, p, err := parse(expression, link, false)
	if err != nil {
		return nil, err
	}
	inside := optimise(build(c, match, none))
	program := &Program{}
	if program.classic, err = emit(inside); err != nil {
		return nil, fail(err)
	}
	live := inside
	program.live = program.classic
	if p.vlans > 0 {
		// Whether there is a tag beside the packet is decided once, before everything else.
		beside, q, err := parse(expression, link, true)
		if err != nil {
			return nil, err
		}
		// Values are equal if they are one pointer, within one parser: the two halves share nothing but the ends.
		tagged := optimise(build(beside, match, none))
		live = newNode(test{op: cmpEQ, v: q.ext(bpf.ExtVLANTagPresent), k: 0}, inside, tagged)
		if program.live, err = emit(live); err != nil {
			return nil, fail(err)
		}
	}
	program.never = live == none
	return program, nil
}

// firstWord is what an error about the whole expression points to.
func firstWord(expression string) string {
	tokens, err := lex(expression)
	if err != nil || len(tokens) == 0 {
		return ""
	}
	return tokens[0].word
}

// MatchesNone tells whether no packet can match, like one that is both TCP and UDP.
func (p *Program) MatchesNone() bool { return p.never }

// Classic is the program in classic BPF, in the form for savefiles, which looks for VLAN tags inside the frame only. It returns
// 262144 for a match, and 0 otherwise. The words inbound, outbound and ifindex become loads of the kernel's metadata.
func (p *Program) Classic() []bpf.RawInstruction {
	raw, err := bpf.Assemble(p.classic)
	if err != nil {
		panic(fmt.Sprintf("filter: assembling our own program: %v", err))
	}
	return raw
}

// Instructions is the program as the body of a BPF function, int (struct __sk_buff *), for [Join]. It returns 1 for a match
// and 0 otherwise. It uses up to 64 bytes of stack, and loads from the packet relative to what a socket sees: the MAC header if
// the socket is a packet socket of type SOCK_RAW on Ethernet.
//
// It looks for the first VLAN tag also beside the packet. The function needs BTF, since packets are read with BPF_LD_ABS
// and BPF_LD_IND, which Linux 5.10 and later allow in functions that are known to return an int.
func (p *Program) Instructions() asm.Instructions { return translate(p.live) }
