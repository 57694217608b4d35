// SPDX-License-Identifier: Apache-2.0

package layout

import "time"

// rfc3339 formats times as [time.RFC3339Nano] does, in UTC. It keeps the last second's text: times of records
// that come together are of one second, and the date is most of the work.
type rfc3339 struct {
	second int64
	text   []byte // up to the second, then room for the rest
	prefix int
}

func (f *rfc3339) format(t time.Time) string {
	if s := t.Unix(); f.prefix == 0 || s != f.second {
		f.second = s
		f.text = t.UTC().AppendFormat(f.text[:0], "2006-01-02T15:04:05")
		f.prefix = len(f.text)
	}
	out := f.text[:f.prefix]
	if ns := t.Nanosecond(); ns != 0 {
		digits := [10]byte{0: '.'}
		for i := 9; i > 0; i-- {
			digits[i] = byte('0' + ns%10)
			ns /= 10
		}
		n := len(digits)
		for digits[n-1] == '0' {
			n--
		}
		out = append(out, digits[:n]...)
	}
	out = append(out, 'Z')
	f.text = out // it may have moved
	return string(out)
}
