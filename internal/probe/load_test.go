// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
)

// A capability that is missing is one sentence, in which nothing else is; what the kernel lacks is told as it is where the capability is there.
func TestUnavailable(t *testing.T) {
	one := func(program string, err error) error {
		return candidateError(Candidate{Programs: []string{program}}, err)
	}
	role := func(name string, errs ...error) error { return &RoleError{Role: name, Errs: errs} }
	refused := func(doing string) error {
		return &kernel.PermissionError{Doing: doing, Capability: "CAP_SYS_RESOURCE", Remedy: "grant it"}
	}
	unread := &kernel.PermissionError{Doing: "read tracefs", Capability: "CAP_DAC_READ_SEARCH"}
	lockdown := &kernel.PermissionError{Doing: "load program a", Remedy: "needs lockdown=integrity"}
	absent := &kernel.UnsupportedError{Feature: "tracepoint t"}
	shared := role("a", one("b", absent))
	for _, tt := range []struct {
		name    string
		missing map[string]error
		want    string
	}{
		{
			name:    "the kernel's lack, of two",
			missing: map[string]error{"y": shared, "x": shared},
			want:    "probe p: x, y are not available: role a: b: this kernel has no tracepoint t",
		},
		{
			name:    "and a capability, which comes first",
			missing: map[string]error{"x": shared, "y": role("z", one("c", refused("create map m")))},
			want: "probe p: y is not available: role z: c: not permitted to create map m without CAP_SYS_RESOURCE; grant it\n" +
				"probe p: x is not available: role a: b: this kernel has no tracepoint t",
		},
		{
			name:    "of one role",
			missing: map[string]error{"x": role("a", one("b", absent), one("c", refused("create map m")))},
			want:    "probe p: x is not available: role a: c: not permitted to create map m without CAP_SYS_RESOURCE; grant it",
		},
		{
			name:    "one capability for two things",
			missing: map[string]error{"x": role("a", one("b", refused("create map m"))), "y": role("c", one("d", refused("create map n")))},
			want:    "probe p: x, y are not available: role a: b: not permitted to create map m without CAP_SYS_RESOURCE; grant it",
		},
		{
			name:    "two capabilities",
			missing: map[string]error{"x": refused("create map m"), "y": unread},
			want: "probe p: y is not available: not permitted to read tracefs without CAP_DAC_READ_SEARCH\n" +
				"probe p: x is not available: not permitted to create map m without CAP_SYS_RESOURCE; grant it",
		},
		{
			name:    "a right that is no capability",
			missing: map[string]error{"x": role("a", one("b", lockdown), one("c", absent)), "y": refused("create map m")},
			want: "probe p: y is not available: not permitted to create map m without CAP_SYS_RESOURCE; grant it\n" +
				"probe p: x is not available: role a: b: not permitted to load program a; needs lockdown=integrity; or c: this kernel has no tracepoint t",
		},
	} {
		t.Run(tt.name, func(t *testing.T) { require.EqualError(t, Unavailable("p", tt.missing), tt.want) })
	}
	require.NoError(t, Unavailable("p", nil))
	require.ErrorIs(t, role("a", absent, unread), kernel.ErrNotSupported, "what is not said is there all the same")
}
