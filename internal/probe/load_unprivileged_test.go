// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// childVariable tells a copy of this test binary which test it is to be.
const childVariable = "PROBE_TEST_CHILD"

const nobody = 65534

// runChild runs one test of this binary as another user, with nothing but the capabilities given.
func runChild(t *testing.T, test string, capabilities ...uintptr) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+test+"$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), childVariable+"="+test)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: nobody, Gid: nobody},
		AmbientCaps: capabilities,
	}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: "+test, "the child's test ran")
}

func onlyAsChild(t *testing.T) {
	t.Helper()
	if os.Getenv(childVariable) != t.Name() {
		t.Skip("runs as a child of another test")
	}
	require.Equal(t, nobody, os.Geteuid())
}

func TestKernelUnprivileged(t *testing.T) {
	needs.Root(t)
	runChild(t, "TestChildUnprivileged")
}

func TestChildUnprivileged(t *testing.T) {
	onlyAsChild(t)
	spec := fixtureSpec(t)
	_, err := Load(spec, choice{metrics: map[string][]string{"ebpf.fixture.execs": nil}}.settings(t, spec), testEnvironment())
	var permission *kernel.PermissionError
	require.ErrorAs(t, err, &permission)
	require.ErrorIs(t, err, fs.ErrPermission)
	assert.Equal(t, "CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN)", permission.Capability)
	assert.Contains(t, permission.Remedy, "AmbientCapabilities=CAP_BPF CAP_PERFMON")
	assert.NotContains(t, err.Error(), "\n")
}

// The capabilities that the message names are enough.
func TestKernelCapabilities(t *testing.T) {
	needs.Root(t)
	runChild(t, "TestChildCapabilities", uintptr(kernel.CapBPF), uintptr(kernel.CapPerfmon))
}

func TestChildCapabilities(t *testing.T) {
	onlyAsChild(t)
	spec := fixtureSpec(t)
	p := load(t, spec, choice{
		metrics: map[string][]string{"ebpf.fixture.execs": {"command"}, "ebpf.fixture.tasks": nil},
		events:  []string{"ebpf.fixture.exec"},
	}.settings(t, spec))
	require.NoError(t, p.Attach())
	runAs(t, command("caps"), 4)
	require.NoError(t, p.Detach())
	n := uint64(0)
	for _, row := range readRows(t, tableOf(t, p, "execs")) {
		if row.comm() == command("caps") {
			n += row.value[0]
		}
	}
	assert.EqualValues(t, 4, n)
}

// A part of what is needed gives the rest's name.
func TestKernelHalfPrivileged(t *testing.T) {
	needs.Root(t)
	runChild(t, "TestChildHalfPrivileged", uintptr(kernel.CapBPF))
}

func TestChildHalfPrivileged(t *testing.T) {
	onlyAsChild(t)
	spec := fixtureSpec(t)
	_, err := Load(spec, choice{metrics: map[string][]string{"ebpf.fixture.execs": nil}}.settings(t, spec), testEnvironment())
	var permission *kernel.PermissionError
	require.ErrorAs(t, err, &permission)
	assert.Equal(t, "CAP_PERFMON (or CAP_SYS_ADMIN)", permission.Capability)
}
