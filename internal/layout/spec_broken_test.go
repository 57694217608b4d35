// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/test/btftypes"
)

// Two rows of the same attributes are one series, and no column that makes them is exact.
func TestSpecBrokenTextIdentity(t *testing.T) {
	for name, c := range map[string]struct {
		as   string
		t    btftypes.Type
		a, b []byte
	}{
		"lists that are broken": {"string_array", btftypes.Array(btftypes.Char, 2), []byte{0xc3, 0}, []byte{0xe2, 0}},
		"paths that are broken": {"path", btftypes.Array(btftypes.Char, 2), []byte{0xc3, 0}, []byte{0xe2, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			column := columnOf(t, c.as, c.t, layout.Options{})
			var a, b sink
			assert.NoError(t, column.Append(&a, c.a))
			assert.NoError(t, column.Append(&b, c.b))
			assert.Equal(t, a, b)
			assert.Equal(t, column.AppendIdentity(nil, c.a), column.AppendIdentity(nil, c.b))
			assert.False(t, column.Exact())
		})
	}
}
