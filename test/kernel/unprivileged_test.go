// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/capability"
	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// rights is what the kernel says of a task's user, groups and capabilities.
func rights(t *testing.T, task string) map[string]string {
	t.Helper()
	status, err := os.ReadFile(filepath.Join(task, "status"))
	require.NoError(t, err)
	found := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(Uid|Gid|Groups|CapPrm|CapEff):(.*)$`).FindAllStringSubmatch(string(status), -1) {
		found[m[1]] = strings.Join(strings.Fields(m[2]), " ")
	}
	return found
}

const nobody = "65534 65534 65534 65534"

// nobodys are the rights of nobody with CAP_PERFMON and CAP_BPF, which are 38 and 39.
var nobodys = map[string]string{"Uid": nobody, "Gid": nobody, "Groups": "", "CapPrm": "000000c000000000", "CapEff": "000000c000000000"}

func tasks(t *testing.T, pid int) []string {
	t.Helper()
	list, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	require.NoError(t, err)
	require.NotEmpty(t, list)
	return list
}

// All of what is tested has just the capabilities that it is given, and what tests it loses nothing.
func TestUnprivileged(t *testing.T) {
	kernel.NeedRoot(t)
	t.Setenv(capability.Variable, "CAP_BPF,CAP_PERFMON")
	own := rights(t, "/proc/self")
	t.Run("thread", func(t *testing.T) {
		var within map[string]string
		var task string
		kernel.Unprivileged(t, func() {
			within = rights(t, "/proc/thread-self")
			task, _ = os.Readlink("/proc/thread-self")
		})
		assert.Equal(t, nobodys, within)
		require.Eventually(t, func() bool {
			_, err := os.Stat(filepath.Join("/proc", task))
			return os.IsNotExist(err)
		}, time.Minute, 10*time.Millisecond, "its thread ends")
	})
	t.Run("receiver", func(t *testing.T) {
		r := kernel.Start(t, "probes: { cpu: , process: }")
		assert.NotEmpty(t, r.Held().Programs)
		assert.NotEqual(t, os.Getpid(), r.PID())
		for _, task := range tasks(t, r.PID()) {
			assert.Equal(t, nobodys, rights(t, task))
		}
		r.Stop()
		assert.NotZero(t, r.Metrics.DataPointCount())
		assert.NoFileExists(t, fmt.Sprintf("/proc/%d/status", r.PID()))
	})
	for _, task := range tasks(t, os.Getpid()) {
		assert.Equal(t, own, rights(t, task))
	}
}

// What a test needs on top is given to it, and to its parts, but not what is to be left out.
func TestNeeds(t *testing.T) {
	t.Run("privileged", func(t *testing.T) {
		if _, ok := os.LookupEnv(capability.Variable); ok {
			t.Skip("is run with some capabilities only")
		}
		kernel.Needs(t, "a thing", "CAP_SYSLOG")
		_, ok := os.LookupEnv(capability.Variable)
		assert.False(t, ok)
	})
	t.Setenv(capability.Variable, "CAP_BPF")
	t.Setenv(capability.WithoutVariable, "CAP_SYS_ADMIN")
	t.Run("unprivileged", func(t *testing.T) {
		kernel.Needs(t, "a thing", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_BPF")
		assert.Equal(t, "CAP_BPF,CAP_SYSLOG", os.Getenv(capability.Variable))
	})
	assert.Equal(t, "CAP_BPF", os.Getenv(capability.Variable))
}
