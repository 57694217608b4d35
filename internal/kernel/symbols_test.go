// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bufio"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// symbolsOf are those of a text, and not this host's.
func symbolsOf(text string) (*Symbols, error) {
	s := new(Symbols)
	s.once.Do(func() {})
	return s, s.read(strings.NewReader(text))
}

func TestSymbols(t *testing.T) {
	s, err := symbolsOf(`ffffffff81000000 T _stext
ffffffff81000100 t schedule
ffffffff81000100 T schedule_alias
no_address T broken
ffffffff81000180 d a_table
ffffffff81000200 W arch_weak
0000000000000000 T hidden
ffffffffc0000000 t veth_xmit	[veth]
ffffffff80000000 t module_below	[of_arm64]
`)
	require.NoError(t, err)
	for address, want := range map[uint64]string{
		0: "", 0xffffffff7fffffff: "", 0xffffffff80000000: "module_below", 0xffffffff81000000: "_stext", 0xffffffff810000ff: "_stext",
		0xffffffff81000100: "schedule", 0xffffffff810001ff: "schedule", 0xffffffff81000200: "arch_weak", 0xffffffffc0000001: "veth_xmit",
		^uint64(0): "veth_xmit",
	} {
		assert.Equal(t, want, s.Resolve(address), "%x", address)
	}
}

// Whatever is among the symbols, each address in a function has its name.
func FuzzSymbols(f *testing.F) {
	const base = 0xffffffff81000000
	kinds := []string{"T", "t", "W", "w", "d", "B", "A", "hidden"}
	f.Add("", []byte("\x00\x40\x81\x42\x84\x20"), uint16(30), uint8(1))
	f.Add("zz T no_address\n", []byte("\x40\x00\x01\x41"), uint16(10), uint8(0)) // three names of one address
	f.Add("ffffffff81000000 d a_table\nffffffffc0000000 t\n 1 T\n\x00\n", []byte("\x11\x22\x33\x44\x55\x66\x77"), uint16(30), uint8(4))
	f.Fuzz(func(t *testing.T, other string, list []byte, offset uint16, turn uint8) {
		broken, err := symbolsOf(other)
		if err != nil {
			require.ErrorIs(t, err, bufio.ErrTooLong)
		}
		if err != nil || broken.Resolve(^uint64(0)) != "" {
			other = "" // what comes behind it is not read, or it has functions of its own
		}
		// Of each byte, three bits are the kind of a symbol, and five how far it is from the one before. Modules' may be anywhere in the file.
		type entry struct {
			address uint64
			line    string
			name    string // of a function that is shown
		}
		var entries []entry
		address := uint64(base)
		for i, b := range list {
			address += uint64(b >> 3)
			e := entry{address: address, name: fmt.Sprintf("function_%d", i)}
			switch kind := kinds[b&7]; kind {
			case "hidden":
				e.line, e.name = fmt.Sprintf("%016x T %s", 0, e.name), ""
			default:
				e.line = fmt.Sprintf("%016x %s %s", address, kind, e.name)
				if !slices.Contains([]string{"T", "t", "W", "w"}, kind) {
					e.name = ""
				}
			}
			entries = append(entries, e)
		}
		n := int(turn) % max(1, len(entries))
		entries = append(entries[n:], entries[:n]...)

		// Of several names of one function, the kernel itself takes the first: get_symbol_pos in kernel/kallsyms.c.
		asked, want, best := uint64(base)+uint64(offset), "", uint64(0)
		text := other + "\n"
		for _, e := range entries {
			text += e.line + "\n"
			if e.name != "" && e.address <= asked && e.address > best {
				best, want = e.address, e.name
			}
		}
		s, err := symbolsOf(text)
		require.NoError(t, err)
		require.Equal(t, want, s.Resolve(asked), "%x in\n%s", asked, text)
	})
}
