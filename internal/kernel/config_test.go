// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io/fs"
	"strings"
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

// Whatever is in the file, packed or not, an option has the value that Kconfig wrote: a text with its quotes and backslashes escaped
// (escape_string_value in scripts/kconfig/confdata.c), anything else as it is.
func FuzzParseConfig(f *testing.F) {
	f.Add("# CONFIG_KPROBES is not set\n", "HZ", "250", false, []byte{0x1f, 0x8b})
	f.Add("CONFIG_HZ\nCONFIG_=\n\x00=\nCONFIG_LSM=\"\n", "LSM", "lockdown,yama,bpf", true, []byte(buildConfig))
	f.Add("", "CC_VERSION_TEXT", `a "quoted\" text`, true, []byte{})
	f.Fuzz(func(t *testing.T, others, name, value string, quoted bool, packed []byte) {
		_, _ = New(Options{FS: fstest.MapFS{"proc/config.gz": {Data: packed}}}).Config(name)

		if strings.ContainsAny(name, "=\r\n") || strings.ContainsAny(value, "\r\n") || !quoted && strings.Contains(value, `"`) {
			t.Skip("not of Kconfig")
		}
		written := value
		if quoted {
			written = `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(value) + `"`
		}
		text := others + "\nCONFIG_" + name + "=" + written + "\n"
		if len(text) > bufio.MaxScanTokenSize/2 {
			t.Skip("too long for a line")
		}
		var gz bytes.Buffer
		w := gzip.NewWriter(&gz)
		_, err := w.Write([]byte(text))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		for where, fsys := range map[string]fstest.MapFS{
			"packed": {"proc/config.gz": {Data: gz.Bytes()}},
			"plain":  {"proc/sys/kernel/osrelease": {Data: []byte("6.1\n")}, "boot/config-6.1": {Data: []byte(text)}},
		} {
			got, err := New(Options{FS: fsys}).Config("CONFIG_" + name)
			require.NoError(t, err, where)
			require.Equal(t, value, got, where)
		}
	})
}
