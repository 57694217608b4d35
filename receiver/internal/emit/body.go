// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// body is an event's display text: literal text and the values of attributes.
type body struct {
	parts []part
	room  []byte
}

type part struct {
	text      string
	attribute bool
}

// parseBody cuts "exec {process.executable.path}" into its parts.
func parseBody(s string) *body {
	b := &body{}
	for s != "" {
		open := strings.IndexByte(s, '{')
		end := open + strings.IndexByte(s[max(open, 0):], '}')
		if open < 0 || end < open {
			b.parts = append(b.parts, part{text: s})
			break
		}
		if open > 0 {
			b.parts = append(b.parts, part{text: s[:open]})
		}
		b.parts = append(b.parts, part{text: s[open+1 : end], attribute: true})
		s = s[end+1:]
	}
	return b
}

// of is the body of a record with these attributes. Those that are not there leave nothing.
func (b *body) of(attrs pcommon.Map) string {
	b.room = b.room[:0]
	for _, p := range b.parts {
		if !p.attribute {
			b.room = append(b.room, p.text...)
			continue
		}
		v, ok := attrs.Get(p.text)
		switch {
		case !ok:
		case v.Type() == pcommon.ValueTypeInt:
			b.room = strconv.AppendInt(b.room, v.Int(), 10)
		default:
			b.room = append(b.room, v.AsString()...)
		}
	}
	return string(b.room)
}
