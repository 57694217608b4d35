// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"compress/gzip"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const buildConfig = `#
# Automatically generated file; DO NOT EDIT.
#
CONFIG_BPF_SYSCALL=y
CONFIG_KVM=m
# CONFIG_KPROBES is not set
CONFIG_HZ=250
CONFIG_LSM="lockdown,yama,bpf"
CONFIG_CMDLINE="a=\"b\" \\"
`

func TestConfig(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := w.Write([]byte(buildConfig))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	release := &fstest.MapFile{Data: []byte("6.1.0-test\n")}
	sources := map[string]fstest.MapFS{
		"proc":    {"proc/config.gz": {Data: packed.Bytes()}},
		"boot":    {"proc/sys/kernel/osrelease": release, "boot/config-6.1.0-test": {Data: []byte(buildConfig)}},
		"modules": {"proc/sys/kernel/osrelease": release, "lib/modules/6.1.0-test/config": {Data: []byte(buildConfig)}},
	}
	for name, fsys := range sources {
		t.Run(name, func(t *testing.T) {
			k := New(Options{FS: fsys})
			for option, want := range map[string]string{
				"BPF_SYSCALL": "y", "KVM": "m", "KPROBES": "", "CONFIG_HZ": "250", "LSM": "lockdown,yama,bpf", "CMDLINE": `a="b" \`, "NO_SUCH": "",
			} {
				value, err := k.Config(option)
				require.NoError(t, err)
				assert.Equal(t, want, value, option)
			}
			require.NoError(t, k.Require("config/KVM"))
			require.ErrorIs(t, k.Require("config/KPROBES"), ErrNotSupported)
		})
	}

	_, err = New(Options{FS: fstest.MapFS{"proc/sys/kernel/osrelease": release}}).Config("HZ")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NotErrorIs(t, New(Options{FS: fstest.MapFS{}}).Require("config/HZ"), ErrNotSupported, "unknown is not no")
	_, err = New(Options{FS: fstest.MapFS{"proc/config.gz": {Data: []byte("not gzip")}}}).Config("HZ")
	require.Error(t, err)
}
