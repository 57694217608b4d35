// SPDX-License-Identifier: Apache-2.0

package capability_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/capability"
)

func TestNumbers(t *testing.T) {
	numbers, err := capability.Numbers([]string{"CAP_BPF", "CAP_SYS_ADMIN"})
	require.NoError(t, err)
	assert.Equal(t, []uintptr{21, 39}, numbers)
	set := capability.SetOf(numbers)
	assert.Equal(t, capability.Set{1 << 21, 1 << 7}, set)
	assert.Equal(t, []string{"CAP_SYS_ADMIN", "CAP_BPF"}, set.Names())
	_, err = capability.Numbers([]string{"CAP_BPF", "CAP_NONE"})
	assert.EqualError(t, err, `unknown capability "CAP_NONE"`)
	numbers, err = capability.Numbers(nil)
	require.NoError(t, err)
	assert.Empty(t, numbers)
}

func TestNeeds(t *testing.T) {
	for _, n := range []capability.Needs{
		{What: "`network_namespaces: all`", Capabilities: []string{"CAP_SYS_ADMIN", "CAP_SYS_PTRACE"}},
		{What: "names", Capabilities: []string{"CAP_SYSLOG"}},
	} {
		assert.Equal(t, n, capability.ParseNeeds(n.String()+"\n"))
	}
}
