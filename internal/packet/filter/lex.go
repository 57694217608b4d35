// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEnd     tokenKind = iota
	tokOp                // + - * / % & | ^ << >> < > <= >= = != ! ( ) [ ] : && ||
	tokKeyword           // a word of the language; text is its canonical form
	tokName              // any other word, or one after a backslash
	tokNumber            // value
	tokIPv4              // one to three dots; value is left-justified, bits says how many were written
	tokIPv6              // addr
	tokMAC               // mac
)

type token struct {
	kind  tokenKind
	text  string // canonical: "and" also for "&&"
	word  string // as written
	pos   int
	value uint32
	bits  int
	addr  netip.Addr
	mac   [6]byte
}

func (t token) is(text string) bool {
	return (t.kind == tokOp || t.kind == tokKeyword) && t.text == text
}

// lex splits an expression into tokens, the last of which is tokEnd. A word is as long as can be, so "5-3" is one word,
// and a range of ports, as in libpcap.
func lex(expression string) ([]token, error) {
	var tokens []token
	for pos := 0; pos < len(expression); {
		c := expression[pos]
		if c == ' ' || c == '\t' || c == '\n' || c == '\r' {
			pos++
			continue
		}
		t, err := next(expression, pos)
		if err != nil {
			return nil, err
		}
		t.pos = pos
		tokens = append(tokens, t)
		pos += len(t.word)
	}
	return append(tokens, token{kind: tokEnd, pos: len(expression)}), nil
}

func next(expression string, pos int) (token, error) {
	rest := expression[pos:]
	fail := func(word, format string, args ...any) (token, error) {
		return token{}, &SyntaxError{Expression: expression, Offset: pos, Word: word, Message: fmt.Sprintf(format, args...)}
	}
	if rest[0] == '\\' {
		end := strings.IndexAny(rest, " !()\n\t")
		if end < 0 {
			end = len(rest)
		}
		if end == 1 {
			return fail(`\`, "a backslash needs a name after it")
		}
		return token{kind: tokName, text: rest[1:end], word: rest[:end]}, nil
	}
	if run := leading(rest, isAddress); strings.Count(run, ":") >= 2 {
		if mac, ok := parseMAC(run); ok {
			return token{kind: tokMAC, word: run, mac: mac}, nil
		}
		if addr, err := netip.ParseAddr(run); err == nil && addr.Is6() {
			return token{kind: tokIPv6, word: run, addr: addr}, nil
		}
		return fail(run, "neither an IPv6 nor an Ethernet address")
	}
	if isAlnum(rest[0]) {
		return word(strings.TrimRight(leading(rest, isWord), "-_"), fail)
	}
	for _, op := range []string{">=", "<=", "!=", "==", "<<", ">>", "&&", "||"} {
		if strings.HasPrefix(rest, op) {
			t := token{kind: tokOp, text: op, word: op}
			switch op {
			case "==":
				t.text = "="
			case "&&":
				t.kind, t.text = tokKeyword, "and"
			case "||":
				t.kind, t.text = tokKeyword, "or"
			}
			return t, nil
		}
	}
	if strings.IndexByte("+-*/%:[]!<>()&|^=", rest[0]) >= 0 {
		return token{kind: tokOp, text: rest[:1], word: rest[:1]}, nil
	}
	_, size := utf8.DecodeRuneInString(rest)
	return fail(rest[:size], "this character has no meaning in a filter")
}

func word(w string, fail func(word, format string, args ...any) (token, error)) (token, error) {
	if mac, ok := parseMAC(w); ok {
		return token{kind: tokMAC, word: w, mac: mac}, nil
	}
	if isNumber(w) {
		// As in C: 0x is hexadecimal, a leading 0 octal.
		base, digits := 10, w
		switch {
		case len(w) > 1 && (w[1] == 'x' || w[1] == 'X'):
			base, digits = 16, w[2:]
		case w[0] == '0':
			base = 8
		}
		v, err := strconv.ParseUint(digits, base, 64)
		if err != nil && base == 8 && strings.ContainsAny(w, "89") {
			return fail(w, "a number that begins with 0 is octal and has no digit above 7")
		}
		if err != nil || v > 1<<32-1 {
			return fail(w, "the number does not fit into 32 bits")
		}
		return token{kind: tokNumber, word: w, value: uint32(v)}, nil
	}
	if parts := strings.Split(w, "."); len(parts) > 1 && len(parts) <= 4 && strings.Trim(w, "0123456789.") == "" && !strings.Contains(w, "..") && w[len(w)-1] != '.' {
		t := token{kind: tokIPv4, word: w, bits: 8 * len(parts)}
		for _, part := range parts {
			v, err := strconv.ParseUint(part, 10, 8)
			if err != nil {
				return fail(w, "not an IPv4 address: %s is more than 255", part)
			}
			t.value = t.value<<8 | uint32(v)
		}
		t.value <<= 32 - t.bits
		return t, nil
	}
	if v, ok := constants[w]; ok {
		return token{kind: tokNumber, word: w, value: v}, nil
	}
	if canonical, ok := keywords[w]; ok {
		return token{kind: tokKeyword, text: canonical, word: w}, nil
	}
	return token{kind: tokName, text: w, word: w}, nil
}

func leading(s string, class func(byte) bool) string {
	n := 0
	for n < len(s) && class(s[n]) {
		n++
	}
	return s[:n]
}

func isDigit(c byte) bool   { return c >= '0' && c <= '9' }
func isHex(c byte) bool     { return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }
func isAlnum(c byte) bool   { return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isWord(c byte) bool    { return isAlnum(c) || c == '-' || c == '_' || c == '.' }
func isAddress(c byte) bool { return isHex(c) || c == ':' || c == '.' }

func isNumber(w string) bool {
	if len(w) > 2 && (w[:2] == "0x" || w[:2] == "0X") {
		return leading(w[2:], isHex) == w[2:]
	}
	return leading(w, isDigit) == w
}

// parseMAC knows the forms of libpcap: six groups between colons, dashes or dots, three groups of four digits between dots,
// and twelve digits.
func parseMAC(s string) (mac [6]byte, ok bool) {
	digits := s
	for _, separator := range []string{":", "-", "."} {
		groups := strings.Split(s, separator)
		switch {
		case len(groups) == 6:
			for i, g := range groups {
				if len(g) == 1 {
					groups[i] = "0" + g
				} else if len(g) != 2 {
					return mac, false
				}
			}
			digits = strings.Join(groups, "")
		case separator == "." && len(groups) == 3 && len(groups[0]) == 4 && len(groups[1]) == 4 && len(groups[2]) == 4:
			digits = strings.Join(groups, "")
		}
	}
	if len(digits) != 12 || leading(digits, isHex) != digits {
		return mac, false
	}
	v, err := strconv.ParseUint(digits, 16, 64)
	if err != nil {
		return mac, false
	}
	for i := range mac {
		mac[i] = byte(v >> (40 - 8*i))
	}
	return mac, true
}
