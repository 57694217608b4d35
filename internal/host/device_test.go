// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func kernelDev(major, minor uint32) uint32 { return major<<20 | minor }

func TestDevicesResolve(t *testing.T) {
	root, clock := t.TempDir(), newFakeTime()
	writeTree(t, root, map[string]string{
		"sys/dev/block/8:1/uevent":         "MAJOR=8\nMINOR=1\nDEVNAME=sda1\nDEVTYPE=partition\n",
		"sys/dev/block/259:1048575/uevent": "DEVNAME=nvme0n1",
		"sys/dev/block/7:0/uevent":         "MAJOR=7\n",
		"sys/dev/block/0:40/uevent":        "DEVNAME=impossible\n",
	})
	d := NewDevices(root, clock.Now)
	for _, test := range []struct {
		dev  uint32
		want string
	}{
		{kernelDev(8, 1), "sda1"},
		{kernelDev(259, 1<<20-1), "nvme0n1"},
		{kernelDev(7, 0), ""},
		{kernelDev(0, 40), ""},
		{kernelDev(9, 9), ""},
		{0, ""},
	} {
		for range 2 {
			name, ok := d.Resolve(test.dev)
			assert.Equal(t, test.want, name)
			assert.Equal(t, test.want != "", ok)
		}
	}

	// Plugged in, and its number given to another.
	writeTree(t, root, map[string]string{
		"sys/dev/block/9:9/uevent": "DEVNAME=md9\n",
		"sys/dev/block/8:1/uevent": "DEVNAME=sdb1\n",
	})
	clock.Add(deviceRetry)
	name, _ := d.Resolve(kernelDev(9, 9))
	assert.Equal(t, "md9", name)
	name, _ = d.Resolve(kernelDev(8, 1))
	assert.Equal(t, "sda1", name)
	clock.Add(devicesTTL)
	name, _ = d.Resolve(kernelDev(8, 1))
	assert.Equal(t, "sdb1", name)
}

func TestDevicesOfThisHost(t *testing.T) {
	entries, err := os.ReadDir("/sys/dev/block")
	if err != nil || len(entries) == 0 {
		t.Skip("this host has no block devices")
	}
	d := NewDevices("", nil)
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join("/sys/dev/block", entry.Name()))
		require.NoError(t, err)
		// The node in /dev is the truth, where there is one.
		name := strings.ReplaceAll(filepath.Base(target), "!", "/")
		var stat unix.Stat_t
		if unix.Stat("/dev/"+name, &stat) != nil {
			continue
		}
		got, ok := d.Resolve(kernelDev(unix.Major(stat.Rdev), unix.Minor(stat.Rdev)))
		assert.True(t, ok)
		assert.Equal(t, name, got)
	}
}

func FuzzParseUevent(f *testing.F) {
	f.Add("MAJOR=8\nDEVNAME=sda1\n")
	f.Add("DEVNAME=")
	f.Fuzz(func(t *testing.T, data string) {
		if name, _ := parseUevent(strings.NewReader(data)); strings.Contains(name, "\n") {
			t.Fatalf("name %q", name)
		}
	})
}

func BenchmarkDevicesResolve(b *testing.B) {
	root := b.TempDir()
	require.NoError(b, os.MkdirAll(root+"/sys/dev/block/8:1", 0o755))
	require.NoError(b, os.WriteFile(root+"/sys/dev/block/8:1/uevent", []byte("DEVNAME=sda1\n"), 0o644))
	d := NewDevices(root, nil)
	b.ReportAllocs()
	for b.Loop() {
		d.Resolve(kernelDev(8, 1))
	}
}
