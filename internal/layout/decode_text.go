// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"encoding/binary"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// cut ends a string where C does.
func cut(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

// text is bytes as a valid UTF-8 string, which protobuf insists on.
func text(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

// appendText appends a string's identity: what stands after its end is no part of it.
func appendText(dst, raw []byte) []byte {
	b := cut(raw)
	if !utf8.Valid(b) {
		b = []byte(text(b))
	}
	return append(append(dst, b...), 0)
}

func buildString(c *Column, _ Field, o Options) error {
	c.identity = appendText
	c.decode = func(dst Sink, name string, raw []byte) {
		if b := cut(raw); len(b) > 0 || !o.OmitZero {
			dst.PutStr(name, redact(o.Redact, text(b)))
		}
	}
	return nil
}

// buildStrings is for strings that end with a 0 each, as /proc/PID/cmdline has them. Zeros at the end of a field of a fixed
// size fill it up.
func buildStrings(c *Column, _ Field, o Options) error {
	blob := c.blob
	// Broken bytes are not told apart; a list may hold what ends the identities of others, and is led by its length.
	c.identity = func(dst, raw []byte) []byte {
		s := text(bytes.TrimRight(raw, "\x00"))
		return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
	}
	var list []string
	c.decode = func(dst Sink, name string, raw []byte) {
		list = list[:0]
		if !blob {
			raw = bytes.TrimRight(raw, "\x00")
		}
		if len(raw) > 0 {
			all := strings.TrimSuffix(text(raw), "\x00")
			for s := range strings.SplitSeq(all, "\x00") {
				list = append(list, redact(o.Redact, s))
			}
			redactAcross(o.Redact, list)
		}
		dst.PutStrs(name, list)
	}
	return nil
}

// buildPath is for path components that end with a 0 each, the leaf first, as a walk up the dentries finds them.
func buildPath(c *Column, _ Field, o Options) error {
	blob := c.blob
	var room []byte
	c.identity = func(dst, raw []byte) []byte {
		room = appendPath(room[:0], bytes.TrimRight(raw, "\x00"))
		return append(append(dst, text(room)...), 0)
	}
	c.decode = func(dst Sink, name string, raw []byte) {
		if !blob {
			raw = bytes.TrimRight(raw, "\x00")
		}
		room = appendPath(room[:0], raw)
		dst.PutStr(name, redact(o.Redact, text(room)))
	}
	return nil
}

// appendPath puts the components into the order in which a path is written. No component at all is the root.
func appendPath(dst, components []byte) []byte {
	rest := bytes.TrimSuffix(components, []byte{0})
	for {
		start := bytes.LastIndexByte(rest, 0) + 1
		dst = append(append(dst, '/'), rest[start:]...)
		if start == 0 {
			return dst
		}
		rest = rest[:start-1]
	}
}

// redacted stands for what a redaction pattern matched.
const redacted = "[REDACTED]"

// redact replaces what matches: the first group of a pattern where it has one, else all of the match.
func redact(patterns []*regexp.Regexp, s string) string {
	for _, re := range patterns {
		if re.NumSubexp() == 0 {
			s = re.ReplaceAllLiteralString(s, redacted)
			continue
		}
		for _, m := range slices.Backward(re.FindAllStringSubmatchIndex(s, -1)) {
			if m[2] >= 0 {
				s = s[:m[2]] + redacted + s[m[3]:]
			}
		}
	}
	return s
}

// redactAcross redacts strings that follow each other, such as arguments: a secret is often one of its own, which only the
// one before it gives away. Patterns see them with a space between.
func redactAcross(patterns []*regexp.Regexp, list []string) {
	for _, re := range patterns {
		group := min(re.NumSubexp(), 1)
		for _, m := range slices.Backward(re.FindAllStringSubmatchIndex(strings.Join(list, " "), -1)) {
			hide(list, m[2*group], m[2*group+1])
		}
	}
}

// hide replaces what lies between two places of the strings joined by a space each, string by string.
func hide(list []string, from, to int) {
	start := 0
	for i, s := range list {
		low, high := max(from-start, 0), min(to-start, len(s))
		if low < high && s[low:high] != redacted {
			list[i] = s[:low] + redacted + s[high:]
		}
		start += len(s) + 1
	}
}
