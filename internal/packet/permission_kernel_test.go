// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

const (
	capPerfmon = 38
	capBPF     = 39
)

// TestKernelFewRights runs the tests below as nobody, in a namespace of its own, with these capabilities only.
func TestKernelFewRights(t *testing.T) {
	needs.Root(t)
	for _, tt := range []struct {
		test string
		caps []uintptr
	}{
		{"TestWithoutNetRaw", []uintptr{capBPF, capPerfmon, unix.CAP_SYS_ADMIN}},
		{"TestWithoutOthers", []uintptr{capBPF, capPerfmon, unix.CAP_NET_RAW}},
	} {
		t.Run(tt.test, func(t *testing.T) {
			c := exec.Command("/proc/self/exe", "-test.run=^"+tt.test+"$", "-test.v")
			c.Dir = "/"
			c.Env = append(os.Environ(), "PACKET_TEST_RIGHTS="+tt.test)
			c.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  unix.CLONE_NEWNET,
				Credential:  &syscall.Credential{Uid: 65534, Gid: 65534},
				AmbientCaps: tt.caps,
			}
			out, err := c.CombinedOutput()
			require.NoError(t, err, "%s", out)
			assert.Contains(t, string(out), "--- PASS: "+tt.test)
			t.Logf("%s", out)
		})
	}
}

func needRights(t *testing.T) {
	if os.Getenv("PACKET_TEST_RIGHTS") != t.Name() {
		t.Skip("is run by TestKernelFewRights")
	}
}

func TestWithoutNetRaw(t *testing.T) {
	needRights(t)
	var none declines
	_, err := Follow(t.Context(), Options{Attach: none.attach})
	var permission *kernel.PermissionError
	require.ErrorAs(t, err, &permission)
	assert.Equal(t, "CAP_NET_RAW", permission.Capability)
	assert.EqualError(t, err, "not permitted to open a packet socket without CAP_NET_RAW; grant with systemd's AmbientCapabilities=CAP_NET_RAW, "+
		"`setcap cap_net_raw+ep` on the binary, or Kubernetes' securityContext with runAsUser: 0 and capabilities.add: [NET_RAW]")
	assert.Empty(t, none.list())
}

func TestWithoutOthers(t *testing.T) {
	needRights(t)
	r := (&space{t: t}).followHere(Options{Namespaces: AllNamespaces, Addresses: true, Include: []string{"lo"}})
	list := r.Attachments()
	require.Len(t, list, 1)
	assert.NoError(t, list[0].Err)
	assert.Equal(t, "lo", list[0].Name)
	said := fmt.Sprint(r.Limits())
	assert.Equal(t, 1, strings.Count(said, "not permitted to look at the network namespaces of all processes without CAP_SYS_PTRACE; grant with"))
	// Somebody of the same user may be in another namespace, which can be seen then, and not be entered.
	assert.LessOrEqual(t, strings.Count(said, "not permitted"), 2)
	require.NoError(t, r.Refresh(t.Context()))
	assert.Equal(t, 1, strings.Count(fmt.Sprint(r.Limits()), "CAP_SYS_PTRACE; grant with"))
}
