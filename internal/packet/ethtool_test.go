// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestVethMerges(t *testing.T) {
	const (
		xmit     = "0000000000000000 t veth_xmit\t[veth]\n"
		features = "0000000000000000 t veth_set_features\t[veth]\n"
	)
	for _, tt := range []struct {
		name, symbols string
		want          bool
	}{
		{"an old one", xmit, false},
		{"a new one", xmit + features, true},
		{"one that is built in", "ffffffff81000000 t veth_xmit\nffffffff81000010 t veth_set_features\n", true},
		{"no veth yet", "0000000000000000 T _stext\n", true},
		{"nothing to be seen", "", true},
		{"names that begin with it", xmit + "0000000000000000 t veth_set_features.cold\t[veth]\n", false},
	} {
		assert.Equal(t, tt.want, vethMergesIn(strings.NewReader(tt.symbols)), tt.name)
	}
}

// Whatever else the kernel and its modules are called, and whatever is no symbol at all.
func FuzzVethMerges(f *testing.F) {
	f.Add("", "veth_xmit", "veth", true)
	f.Add("0 t ", "veth_set_features", "veth_set_features", false)
	f.Add(strings.Repeat("x", 70_000)+"\n", " t ", "", true)
	f.Fuzz(func(t *testing.T, text, name, module string, features bool) {
		if got := vethMergesIn(strings.NewReader("0 t veth_xmit\n" + text)); !strings.Contains(text, "veth_set_features") {
			require.False(t, got)
		}

		word := func(s string) string { return strings.Join(strings.Fields("x"+s), "") } // what is in another one is another one
		var symbols strings.Builder
		fmt.Fprintf(&symbols, "%016x t %s\t[%s]\n", 0, word(name[:min(len(name), 500)]), word(module[:min(len(module), 50)]))
		fmt.Fprintf(&symbols, "%016x t veth_xmit\t[veth]\n", 0)
		if features {
			fmt.Fprintf(&symbols, "%016x t veth_set_features\t[veth]\n", 0)
		}
		require.Equal(t, features, vethMergesIn(strings.NewReader(symbols.String())))
	})
}
