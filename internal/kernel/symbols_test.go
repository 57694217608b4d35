// SPDX-License-Identifier: Apache-2.0

package kernel

import (
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
