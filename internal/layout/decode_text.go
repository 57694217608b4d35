// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
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

// appendText appends a string's identity: what stands after its end is no part of it.
func appendText(dst, raw []byte) []byte {
	b := cut(raw)
	if !utf8.Valid(b) {
		b = bytes.ToValidUTF8(b, []byte("\uFFFD"))
	}
	return append(append(dst, b...), 0)
}

func buildString(c *Column, _ Field, o Options) error {
	c.identity = appendText
	c.decode = func(dst Sink, name string, raw []byte) {
		if b := cut(raw); len(b) > 0 || !o.OmitZero {
			dst.PutStr(name, redact(o.Redact, o.Strings.text(b)))
		}
	}
	return nil
}

// buildStrings is for strings that end with a 0 each, as /proc/PID/cmdline has them. Zeros at the end of a field of a fixed
// size fill it up.
func buildStrings(c *Column, _ Field, o Options) error {
	blob := c.blob
	var list []string
	c.decode = func(dst Sink, name string, raw []byte) {
		list = list[:0]
		if !blob {
			raw = bytes.TrimRight(raw, "\x00")
		}
		if len(raw) > 0 {
			all := strings.TrimSuffix(o.Strings.text(raw), "\x00")
			for s := range strings.SplitSeq(all, "\x00") {
				list = append(list, redact(o.Redact, s))
			}
		}
		dst.PutStrs(name, list)
	}
	return nil
}

// buildPath is for path components that end with a 0 each, the leaf first, as a walk up the dentries finds them.
func buildPath(c *Column, _ Field, o Options) error {
	blob := c.blob
	var room []byte
	c.decode = func(dst Sink, name string, raw []byte) {
		if !blob {
			raw = bytes.TrimRight(raw, "\x00")
		}
		room = appendPath(room[:0], raw)
		dst.PutStr(name, redact(o.Redact, o.Strings.text(room)))
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
