// SPDX-License-Identifier: Apache-2.0

package host

import (
	"container/list"
	"sync"
	"sync/atomic"
)

// rank orders the entries of a cache by how little they would be missed.
type rank uint8

const (
	rankUnknown rank = iota // nothing was found; goes first
	rankGone                // what it names no longer exists
	rankLive
	ranks
)

// secondChances bounds how many recently used entries an eviction spares, and so how long it takes.
const secondChances = 64

// cache is a bounded map from ids to immutable values. When it is full, unknown entries go first, the oldest
// of them before the others, then gone ones, then live ones that were not used lately.
//
// Values are pointers that never change after they were put in, so that readers need no lock to
// use them and a writer can tell whether somebody else was faster.
type cache[K comparable, V any] struct {
	mu      sync.RWMutex
	max     int
	entries map[K]*entry[K, V]
	order   [ranks]*list.List // of *entry, oldest first
}

type entry[K comparable, V any] struct {
	key     K
	value   *V
	expires int64 // ns of the owner's clock, 0 for never
	rank    rank
	used    atomic.Bool // since the last time that it could have been evicted
	element *list.Element
}

func newCache[K comparable, V any](limit int) *cache[K, V] {
	c := &cache[K, V]{max: limit, entries: make(map[K]*entry[K, V])}
	for r := range c.order {
		c.order[r] = list.New()
	}
	return c
}

// get returns the value of a key and when it expires, nil when there is none. An expired value is
// returned too: whether it still serves is for the caller to say.
func (c *cache[K, V]) get(key K) (value *V, expires int64) {
	c.mu.RLock()
	if e := c.entries[key]; e != nil {
		value, expires = e.value, e.expires
		// Loaded first: a store on every hit would bounce the line between CPUs.
		if !e.used.Load() {
			e.used.Store(true)
		}
	}
	c.mu.RUnlock()
	return value, expires
}

// put sets the value of a key.
func (c *cache[K, V]) put(key K, value *V, r rank, expires, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(key, value, r, expires, now)
}

// replace sets the value of a key if it still is old (nil for none), and returns the value that the key has
// then. What somebody learned from the kernel while a file was being read is not overwritten by it.
func (c *cache[K, V]) replace(key K, old, value *V, r rank, expires, now int64) *V {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil && e.value != old {
		return e.value
	}
	c.set(key, value, r, expires, now)
	return value
}

// retire gives a key's entry another rank, without changing its value.
func (c *cache[K, V]) retire(key K, r rank, expires, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil && e.rank > r {
		c.set(key, e.value, r, expires, now)
	}
}

func (c *cache[K, V]) remove(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; e != nil {
		c.drop(e)
	}
}

func (c *cache[K, V]) len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.entries)
}

func (c *cache[K, V]) set(key K, value *V, r rank, expires, now int64) {
	c.expire(now)
	e := c.entries[key]
	if e == nil {
		if len(c.entries) >= c.max {
			c.evict()
		}
		e = &entry[K, V]{key: key}
		c.entries[key] = e
	} else {
		c.order[e.rank].Remove(e.element)
	}
	e.value, e.rank, e.expires = value, r, expires
	e.element = c.order[r].PushBack(e)
}

// expire drops a few entries whose time is over. Called for every insertion, it keeps up with them.
func (c *cache[K, V]) expire(now int64) {
	for r := rankUnknown; r < rankLive; r++ {
		for range 2 {
			front := c.order[r].Front()
			if front == nil {
				break
			}
			e := front.Value.(*entry[K, V])
			if e.expires == 0 || e.expires > now {
				break
			}
			c.drop(e)
		}
	}
}

func (c *cache[K, V]) evict() {
	for r, order := range c.order {
		front := order.Front()
		if front == nil {
			continue
		}
		if rank(r) == rankLive {
			for range min(secondChances, order.Len()) {
				e := order.Front().Value.(*entry[K, V])
				if !e.used.Swap(false) {
					break
				}
				order.MoveToBack(e.element)
			}
			front = order.Front()
		}
		c.drop(front.Value.(*entry[K, V]))
		return
	}
}

func (c *cache[K, V]) drop(e *entry[K, V]) {
	c.order[e.rank].Remove(e.element)
	delete(c.entries, e.key)
}
