// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const initialNamespace = "         0          0 4294967295\n"

func TestRefused(t *testing.T) {
	rejected := &ebpf.VerifierError{Cause: unix.EACCES, Log: []string{"R1 invalid mem access 'scalar'"}}
	memlock := []btf.Type{&btf.Struct{Name: "bpf_map_memory", Size: 4}}
	tests := []struct {
		name   string
		err    error
		caps   string
		uidMap string
		types  []btf.Type
		want   string // empty: the error stays as it is
		cap    string
	}{
		{name: "other failure", err: unix.ENOMEM, caps: "0"},
		{name: "no capability", err: unix.EPERM, caps: "0", want: "AmbientCapabilities", cap: "CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN)"},
		{name: "EACCES is one too", err: unix.EACCES, caps: "0", want: "AmbientCapabilities", cap: "CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN)"},
		{name: "verifier with capabilities", err: rejected, caps: "1ffffffffff"},
		{name: "verifier without", err: rejected, caps: "0", want: "AmbientCapabilities", cap: "CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN)"},
		{name: "all there", err: unix.EPERM, caps: "1ffffffffff", want: "seccomp"},
		{
			name: "in a user namespace", err: unix.EPERM, caps: "1ffffffffff", uidMap: "0 1000 65536\n", want: "user namespace",
			cap: "capabilities in the host's user namespace",
		},
		{name: "locked memory", err: unix.EPERM, caps: "c000000000", types: memlock, want: "LimitMEMLOCK", cap: "CAP_SYS_RESOURCE"},
		{name: "locked memory may grow", err: unix.EPERM, caps: "1ffffffffff", types: memlock, want: "seccomp"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.uidMap == "" {
				tt.uidMap = initialNamespace
			}
			k := New(Options{FS: fstest.MapFS{
				"proc/self/status":  {Data: []byte("CapEff:\t" + tt.caps + "\n")},
				"proc/self/uid_map": {Data: []byte(tt.uidMap)},
			}})
			k.types = specOf(t, append(tt.types, &btf.Int{Name: "int", Size: 4})...)
			cause := fmt.Errorf("map create: %w", tt.err)
			err := k.Refused("create map m", cause)
			if tt.want == "" {
				assert.Equal(t, cause, err)
				return
			}
			var permission *PermissionError
			require.ErrorAs(t, err, &permission)
			assert.Contains(t, permission.Remedy, tt.want)
			assert.Equal(t, tt.cap, permission.Capability)
			assert.Equal(t, "create map m", permission.Doing)
			assert.ErrorIs(t, err, tt.err)
			assert.ErrorIs(t, err, fs.ErrPermission)
			// Asked again by a caller further up, it stays what it is.
			assert.Same(t, permission, k.Refused("load", err))
		})
	}
	assert.NoError(t, New(Options{}).Refused("do nothing", nil))
}

func TestRefusedPerfEvent(t *testing.T) {
	for _, tt := range []struct{ level, caps, doing, want string }{
		{level: "3", caps: "c000000000", doing: "attach program p", want: "CAP_SYS_ADMIN"},
		{level: "2", caps: "c000000000", doing: "attach program p"},
		{level: "3", caps: "c000200000", doing: "attach program p"},
		{level: "3", caps: "c000000000", doing: "create map m"},
		{level: "3", caps: "8000000000", doing: "attach program p", want: "CAP_PERFMON (or CAP_SYS_ADMIN)"},
	} {
		k := New(Options{FS: fstest.MapFS{
			"proc/self/status":                    {Data: []byte("CapEff:\t" + tt.caps + "\n")},
			"proc/self/uid_map":                   {Data: []byte(initialNamespace)},
			"proc/sys/kernel/perf_event_paranoid": {Data: []byte(tt.level + "\n")},
		}})
		k.types = specOf(t, &btf.Int{Name: "int", Size: 4})
		var permission *PermissionError
		require.ErrorAs(t, k.Refused(tt.doing, unix.EACCES), &permission)
		assert.Equal(t, tt.want, permission.Capability)
		if tt.want == "CAP_SYS_ADMIN" {
			assert.Contains(t, permission.Remedy, "perf_event_paranoid")
		}
	}
}

func TestLockdown(t *testing.T) {
	tests := []struct {
		text string
		want LockdownMode
	}{
		{"[none] integrity confidentiality\n", LockdownNone},
		{"none [integrity] confidentiality\n", LockdownIntegrity},
		{"none integrity [confidentiality]\n", LockdownConfidentiality},
	}
	for _, tt := range tests {
		k := New(Options{FS: fstest.MapFS{"sys/kernel/security/lockdown": {Data: []byte(tt.text)}}})
		mode, err := k.Lockdown()
		require.NoError(t, err)
		assert.Equal(t, tt.want, mode)
	}
	_, err := New(Options{FS: fstest.MapFS{}}).Lockdown()
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = New(Options{FS: fstest.MapFS{"sys/kernel/security/lockdown": {Data: []byte("what\n")}}}).Lockdown()
	require.Error(t, err)
}

func TestErrorTexts(t *testing.T) {
	assert.EqualError(t, &UnsupportedError{Feature: "kprobes"}, "this kernel has no kprobes")
	assert.EqualError(t, &UnsupportedError{Feature: "kprobes", Reason: "why", Remedy: "do"}, "this kernel has no kprobes (why); do")
	assert.EqualError(t, &PermissionError{Doing: "load"}, "not permitted to load")
	assert.EqualError(t, &PermissionError{Doing: "load", Capability: "CAP_X", Remedy: "do"}, "not permitted to load without CAP_X; do")
	assert.ErrorIs(t, &UnsupportedError{}, ebpf.ErrNotSupported)
	assert.NotErrorIs(t, &UnsupportedError{}, fs.ErrPermission)
	assert.NotErrorIs(t, &PermissionError{}, ErrNotSupported)
	cause := errors.New("cause")
	assert.ErrorIs(t, &UnsupportedError{Err: cause}, cause)
}
