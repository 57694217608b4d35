// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/capability"
)

// unprivileged tells whether the tested part has to run as an unprivileged user, and with which capabilities: see [capability.Variable]. The rig
// around it, which makes namespaces, cgroups and workloads, stays root's.
func unprivileged(t testing.TB) (capabilities []uintptr, ok bool) {
	t.Helper()
	text, ok := os.LookupEnv(capability.Variable)
	if !ok {
		return nil, false
	}
	capabilities, err := capability.Numbers(namesIn(text))
	require.NoError(t, err)
	return capabilities, true
}

func namesIn(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}

// Needs says that what a test asks of a probe needs more capabilities than the probe itself does. It is to be called before anything is loaded. what is
// what documentation calls that: it is generated from the results.
func Needs(t testing.TB, what string, capabilities ...string) {
	t.Helper()
	text, ok := os.LookupEnv(capability.Variable)
	if !ok {
		return
	}
	t.Attr(capability.NeedsAttribute, capability.Needs{What: what, Capabilities: capabilities}.String())
	names := namesIn(text)
	for _, name := range capabilities {
		if name != os.Getenv(capability.WithoutVariable) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	t.Setenv(capability.Variable, strings.Join(names, ","))
}

// Unprivileged calls fn, which loads, attaches or reads without a receiver, as the unprivileged user with the capabilities of [unprivileged], if there
// are some; else as it is. It is called on a thread of its own, which can not get anything back and ends with fn. What belongs to the process and not
// to a thread stays root's: the limit on locked memory, which is lifted, and the files in /proc/self, so that fn may be refused what a process of
// nobody's is not.
func Unprivileged(t testing.TB, fn func()) {
	t.Helper()
	capabilities, ok := unprivileged(t)
	if !ok {
		fn()
		return
	}
	returned, err := false, error(nil)
	<-onThread(func() {
		if err = becomeNobody(capabilities); err == nil {
			fn()
			returned = true
		}
	})
	require.NoError(t, err)
	switch { // it may have ended its goroutine only
	case returned:
	case t.Skipped():
		t.SkipNow()
	default:
		t.FailNow()
	}
}

// onThread calls fn on a thread that ends with it, as the first one of a process can not.
func onThread(fn func()) (ended <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if unix.Gettid() == os.Getpid() {
			<-onThread(fn)
			runtime.UnlockOSThread()
			return
		}
		fn()
	}()
	return done
}

// becomeNobody is for the calling thread only: these are the kernel's own calls, and not those of package syscall, which are for all threads.
func becomeNobody(capabilities []uintptr) error {
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
		return fmt.Errorf("leave all groups: %w", e)
	}
	for _, call := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} {
		if _, _, e := unix.RawSyscall(call, capability.Nobody, capability.Nobody, capability.Nobody); e != 0 {
			return fmt.Errorf("become nobody: %w", e)
		}
	}
	set := capability.SetOf(capabilities)
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i, word := range set {
		data[i] = unix.CapUserData{Effective: word, Permitted: word}
	}
	if _, _, e := unix.RawSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0); e != 0 {
		return fmt.Errorf("have the capabilities %v: %w", set.Names(), e)
	}
	// Else the process, which is root's, could not be looked into any more: it has changed its user.
	return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
}

// requireNobody is an error where this process has another user, or other capabilities.
func requireNobody(capabilities []uintptr) error {
	for what, id := range map[string]func() (int, int, int){"user": unix.Getresuid, "group": unix.Getresgid} {
		if r, e, s := id(); r != capability.Nobody || e != capability.Nobody || s != capability.Nobody {
			return fmt.Errorf("the %s is %d, %d, %d", what, r, e, s)
		}
	}
	groups, err := unix.Getgroups()
	if err != nil {
		return fmt.Errorf("read the groups: %w", err)
	}
	if len(groups) > 0 {
		return fmt.Errorf("there are the groups %v", groups)
	}
	effective, permitted, err := capability.Current()
	if err != nil {
		return err
	}
	if want := capability.SetOf(capabilities); effective != want || permitted != want {
		return fmt.Errorf("the capabilities are %x, those that it may have %x, and not %x", effective, permitted, want)
	}
	return nil
}

// TempDir is a directory that ends with the test, which every user can look into.
func TempDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, dir[:strings.LastIndexByte(dir, '/')]} { // the first directories of a test's have one above them for all
		require.NoError(t, os.Chmod(d, 0o755))
	}
	return dir
}
