// SPDX-License-Identifier: Apache-2.0

package host

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCommonPath(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"/pod/a", "/pod/b", "/pod"},
		{"/pod/a", "/pod/a", "/pod/a"},
		{"/pod/a", "/pod/a/b", "/pod/a"},
		{"/pod/ab", "/pod/a", "/pod"},
		{"/pod", "/poddy", "/"},
		{"/a", "/b", "/"},
		{"/", "/b", "/"},
		{"", "/b", ""},
	} {
		assert.Equal(t, c.want, commonPath(c.a, c.b), "%s, %s", c.a, c.b)
		assert.Equal(t, c.want, commonPath(c.b, c.a), "%s, %s", c.b, c.a)
	}
}

func TestCgroupsCommon(t *testing.T) {
	c := fakeCgroups(t, CgroupOptions{}, "pod/one", "pod/two/inner", "other")
	id := func(name string) uint64 {
		id, err := c.IDOf(name)
		require.NoError(t, err)
		return id
	}
	assert.Equal(t, id("/pod/one"), c.Common(id("/pod/one"), id("/pod/one")))
	assert.Equal(t, id("/pod"), c.Common(id("/pod/one"), id("/pod/two/inner")))
	assert.Equal(t, id("/pod/two"), c.Common(id("/pod/two/inner"), id("/pod/two")))
	assert.Zero(t, c.Common(id("/pod/one"), id("/other")))
	assert.Zero(t, c.Common())
	assert.Zero(t, c.Common(id("/pod/one"), 1<<60), "one is not known")
}
