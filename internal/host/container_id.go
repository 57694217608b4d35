// SPDX-License-Identifier: Apache-2.0

package host

import (
	"strconv"
	"strings"
)

func isHex(s string, length int) bool {
	if len(s) != length {
		return false
	}
	for i := range len(s) {
		if !isHexDigit(s[i]) {
			return false
		}
	}
	return true
}

func isHexDigit(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b && b <= 'f'
}

// isGroups tells whether s is hex digits in groups of these lengths with dashes between.
func isGroups(s string, lengths ...int) bool {
	for i, n := range lengths {
		if i > 0 {
			if s == "" || s[0] != '-' {
				return false
			}
			s = s[1:]
		}
		if len(s) < n || !isHex(s[:n], n) {
			return false
		}
		s = s[n:]
	}
	return s == ""
}

func isUUID(s string) bool { return isGroups(s, 8, 4, 4, 4, 12) }

// isGardenID recognises the shorter ids of Garden, the container engine of Cloud Foundry.
func isGardenID(s string) bool { return isGroups(s, 8, 4, 4, 4, 4) }

// isFargate recognises the ids of ECS on Fargate: the task's id, a dash, a number.
func isFargate(s string) bool {
	task, number, ok := strings.Cut(s, "-")
	if !ok || !isHex(task, 32) || number == "" || len(number) > 20 {
		return false
	}
	for i := range len(number) {
		if number[i] < '0' || number[i] > '9' {
			return false
		}
	}
	return true
}

// isName accepts what container managers accept as a name.
func isName(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		b := s[i]
		if !isHexDigit(b) && (b < 'g' || b > 'z') && (b < 'A' || b > 'Z') && b != '-' && b != '_' && b != '.' {
			return false
		}
	}
	return true
}

// unescapeUnit undoes systemd's escaping of bytes in unit names, \xNN. See systemd-escape(1).
func unescapeUnit(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if strings.HasPrefix(s[i:], `\x`) && i+4 <= len(s) {
			if v, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
