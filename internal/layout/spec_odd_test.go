// SPDX-License-Identifier: Apache-2.0

package layout_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/test/btftypes"
)

// An empty name is no field's, though anonymous members have one.
func TestSpecEmptyPath(t *testing.T) {
	for _, path := range []string{"", ".a"} {
		_, err := layout.FieldOf(outer(), path)
		var missing *layout.FieldError
		if assert.ErrorAs(t, err, &missing, path) {
			assert.Equal(t, []string{"a", "bit", "in", "list", "p", "q", "r"}, missing.Valid, path)
		}
	}
}

// Two rows of the same attributes are one series, and no column that makes them is exact.
func TestSpecIdentityOfOddBytes(t *testing.T) {
	for name, c := range map[string]struct {
		as   string
		t    btftypes.Type
		a, b []byte
	}{
		"errno and its negative":  {"errno", btftypes.S8, []byte{2}, []byte{0xfe}},
		"a bool of 1 and of 2":    {"bool", btftypes.U8, []byte{1}, []byte{2}},
		"strings that are broken": {"string", btftypes.Array(btftypes.Char, 2), []byte{0xc3, 0}, []byte{0xe2, 0}},
		"durations of 2^53 ns":    {"duration", btftypes.U64, native(uint64(1<<53 + 1)), native(uint64(1 << 53))},
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
