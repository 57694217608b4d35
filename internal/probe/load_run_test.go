// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/snapshot"
)

// command is a name for a program that nobody else on this machine runs: it has this process's id in it.
func command(prefix string) string { return fmt.Sprintf("%s-%d", prefix, os.Getpid()) }

// runAs executes a program n times under a name of at most 15 bytes, and returns the processes' ids.
func runAs(t *testing.T, name string, n int) []uint32 {
	t.Helper()
	require.LessOrEqual(t, len(name), CommandLength)
	path := filepath.Join(t.TempDir(), name)
	from, err := os.Open("/bin/true")
	require.NoError(t, err)
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(to, from)
	require.NoError(t, err)
	require.NoError(t, to.Close())
	var pids []uint32
	for range n {
		cmd := exec.Command(path)
		require.NoError(t, cmd.Run())
		pids = append(pids, uint32(cmd.Process.Pid))
	}
	return pids
}

type fixtureRow struct {
	key   []byte
	value []uint64
}

// comm is the command in the key of the fixture, "" when the key was cut before it.
func (r fixtureRow) comm() string {
	if len(r.key) < 32 {
		return ""
	}
	return strings.TrimRight(string(r.key[16:32]), "\x00")
}

func readRows(t *testing.T, table *Table) []fixtureRow {
	t.Helper()
	var all []fixtureRow
	require.NoError(t, table.Read(t.Context(), func(rows snapshot.Rows) error {
		for i := range rows.N {
			row := fixtureRow{key: slices.Clone(rows.Key(i))}
			for v := rows.Value(i); len(v) >= 8; v = v[8:] {
				row.value = append(row.value, binary.NativeEndian.Uint64(v))
			}
			all = append(all, row)
		}
		return nil
	}))
	return all
}
