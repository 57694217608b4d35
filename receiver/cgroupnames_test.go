// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
)

// A record's path ends at the first NUL. One that is empty or fills the field is none, and a record that is too short has none.
func FuzzCgroupName(f *testing.F) {
	f.Add(uint64(1), "/", uint8(0))
	f.Add(^uint64(0), "/kubepods/besteffort/pod1/"+strings.Repeat("c", 64), uint8(7))
	f.Add(uint64(2), "/"+strings.Repeat("long", 99), uint8(0))
	f.Add(uint64(3), "/cut\x00here", uint8(200))
	const size = 128
	n := &cgroupNames{id: layout.Field{Offset: 8, Size: 8}, path: layout.Field{Offset: 16, Size: size}}
	f.Fuzz(func(t *testing.T, id uint64, path string, missing uint8) {
		record := make([]byte, 16+size)
		binary.NativeEndian.PutUint64(record[8:], id)
		copy(record[16:16+size-1], path) // bpf_probe_read_kernel_str ends it
		_, _, ok := n.read(record[:len(record)-min(int(missing), len(record))])
		if missing > 0 {
			require.False(t, ok)
		}
		gotID, got, ok := n.read(record)
		want, _, _ := strings.Cut(path, "\x00")
		require.Equal(t, want != "" && len(want) < size-1, ok)
		if ok {
			require.Equal(t, want, got)
			require.Equal(t, id, gotID)
		}
	})
}
