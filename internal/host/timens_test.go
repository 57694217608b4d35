// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

func TestParseTimeOffsets(t *testing.T) {
	for _, test := range []struct {
		text string
		want int64
		err  string
	}{
		{"", 0, ""},
		{"monotonic           7         8\nboottime            0         0\n", 0, ""},
		{"monotonic           0         0\nboottime        86400       500\n", 86_400_000_000_500, ""},
		{"boottime           -2 999999999\n", -1_000_000_001, ""},
		{"7 1 2\n", 1_000_000_002, ""},
		{"boottime x 0\n", 0, "invalid syntax"},
		{"boottime 0 -1\n", 0, "invalid syntax"},
		{"boottime 9223372037 0\n", 0, "out of range"},
	} {
		got, err := parseTimeOffsets(strings.NewReader(test.text))
		if test.err != "" {
			assert.ErrorContains(t, err, test.err, test.text)
			continue
		}
		require.NoError(t, err, test.text)
		assert.Equal(t, test.want, got, test.text)
	}
}

func FuzzParseTimeOffsets(f *testing.F) {
	f.Add("monotonic           0         0\nboottime        86400         0\n")
	f.Add("boottime -9223372036 999999999\n")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := parseTimeOffsets(strings.NewReader(text)); err != nil {
			assert.Zero(t, got)
		}
	})
}

const timeNamespaceVariable = "HOST_TEST_TIME_NAMESPACE"

// In a time namespace of its own, a process sees another boot clock than programs in the kernel. No machine's clock is touched.
func TestKernelClockInATimeNamespace(t *testing.T) {
	if os.Getenv(timeNamespaceVariable) != "" {
		shift, err := namespaceShift()
		require.NoError(t, err)
		require.Equal(t, int64(24*time.Hour), shift)
		now, err := readClock(7) // CLOCK_BOOTTIME, as the namespace shows it
		require.NoError(t, err)
		clock, err := NewClock(nil)
		require.NoError(t, err)
		kernels := uint64(now) - uint64(24*time.Hour)
		assert.InDelta(t, 0, time.Since(clock.Wall(kernels)).Seconds(), 10)
		assert.InDelta(t, kernels, clock.Boot(), float64(10*time.Second))
		return
	}
	needs.Root(t)
	if _, err := os.Stat("/proc/self/timens_offsets"); err != nil {
		t.Skip("this kernel has no time namespaces; run `make test-kernels` for those that have")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), timeNamespaceVariable+"=1")
	// Without users of its own, a child of Go's shares its parent's memory until it executes, which Linux 5.10 refuses to one that is to be in another
	// time namespace.
	ids := []syscall.SysProcIDMap{{Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	var out []byte
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // for good: the thread, whose children the namespace is for, ends with the goroutine
		if err = unix.Unshare(unix.CLONE_NEWTIME); err != nil {
			return
		}
		if err = os.WriteFile(fmt.Sprintf("/proc/%d/timens_offsets", unix.Gettid()), []byte("boottime 86400 0"), 0); err != nil {
			return
		}
		out, err = cmd.CombinedOutput()
	}()
	<-ended
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name())
}
