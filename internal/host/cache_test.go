// SPDX-License-Identifier: Apache-2.0

package host

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// has tells whether a cache has a key, without marking it as used.
func (c *cache[K, V]) has(key K) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.entries[key] != nil
}

func TestCacheEvictsTheLeastMissed(t *testing.T) {
	c := newCache[int, string](4)
	v := new(string)
	c.put(1, v, rankLive, 0, 0)
	c.put(2, v, rankGone, 100, 0)
	c.put(3, v, rankUnknown, 100, 0)
	c.put(4, v, rankUnknown, 100, 0)

	for _, step := range []struct{ put, evicted int }{{5, 3}, {6, 4}, {7, 2}, {8, 1}, {9, 5}} {
		assert.True(t, c.has(step.evicted), "before %d", step.put)
		c.put(step.put, v, rankLive, 0, 0)
		assert.False(t, c.has(step.evicted), "after %d", step.put)
		assert.Equal(t, 4, c.len())
	}
}

func TestCacheSparesTheUsed(t *testing.T) {
	c := newCache[int, string](3)
	v := new(string)
	for k := range 3 {
		c.put(k, v, rankLive, 0, 0)
	}
	c.get(0)
	c.get(1)
	c.put(3, v, rankLive, 0, 0)
	assert.False(t, c.has(2))
	assert.True(t, c.has(0))
	assert.True(t, c.has(1))

	// All used: the oldest goes nevertheless.
	for _, k := range []int{0, 1, 3} {
		c.get(k)
	}
	c.put(4, v, rankLive, 0, 0)
	assert.Equal(t, 3, c.len())
	assert.True(t, c.has(4))
}

func TestCacheExpires(t *testing.T) {
	c := newCache[int, string](100)
	v := new(string)
	c.put(1, v, rankGone, 10, 0)
	c.put(2, v, rankUnknown, 20, 0)
	c.put(3, v, rankLive, 5, 0) // for its owner to renew

	c.put(4, v, rankLive, 0, 9)
	assert.True(t, c.has(1))
	c.put(5, v, rankLive, 0, 10)
	assert.False(t, c.has(1))
	assert.True(t, c.has(2))
	c.put(6, v, rankLive, 0, 20)
	assert.False(t, c.has(2))
	assert.True(t, c.has(3))
}

func TestCacheReplaceLosesToTheFaster(t *testing.T) {
	c := newCache[int, string](10)
	slow, fast := new(string), new(string)
	assert.Same(t, slow, c.replace(1, nil, slow, rankLive, 0, 0))

	c.put(1, fast, rankLive, 0, 0)
	assert.Same(t, fast, c.replace(1, slow, new(string), rankLive, 0, 0))
	got, _ := c.get(1)
	assert.Same(t, fast, got)
}

func TestCacheRetire(t *testing.T) {
	c := newCache[int, string](2)
	v := new(string)
	c.put(1, v, rankLive, 0, 0)
	c.put(2, v, rankLive, 0, 0)
	c.retire(2, rankGone, 50, 0)
	got, expires := c.get(2)
	assert.Same(t, v, got)
	assert.Equal(t, int64(50), expires)

	// A second time does not keep it for longer.
	c.retire(2, rankGone, 90, 0)
	_, expires = c.get(2)
	assert.Equal(t, int64(50), expires)

	c.put(3, v, rankLive, 0, 0)
	assert.False(t, c.has(2))
	c.retire(7, rankGone, 50, 0)
	assert.Equal(t, 2, c.len())
}
