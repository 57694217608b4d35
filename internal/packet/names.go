// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"container/list"
	"time"
)

const (
	// goneMax bounds how many interfaces, and how many namespaces, are remembered after they are gone.
	goneMax = 16_384
	// goneFor is for how long: counts of them may wait in a map until the next collection, and longer when the consumer
	// refuses data.
	goneFor = 10 * time.Minute
)

// memory is a map of what is there and, bounded by number and time, of what was there.
type memory[K comparable, V any] struct {
	max     int
	entries map[K]*remembered[K, V]
	gone    *list.List // of *remembered, in the order that they went
}

type remembered[K comparable, V any] struct {
	key     K
	value   V
	since   time.Time
	element *list.Element // nil while it is there
}

func newMemory[K comparable, V any](limit int) *memory[K, V] {
	return &memory[K, V]{max: limit, entries: make(map[K]*remembered[K, V]), gone: list.New()}
}

// put sets what a key stands for; it is there now.
func (m *memory[K, V]) put(key K, value V) {
	e := m.entries[key]
	if e == nil {
		e = &remembered[K, V]{key: key}
		m.entries[key] = e
	} else if e.element != nil {
		m.gone.Remove(e.element)
		e.element = nil
	}
	e.value = value
}

// leave says that what a key stands for is gone, and forgets what has been gone for long.
func (m *memory[K, V]) leave(key K, now time.Time) {
	if e := m.entries[key]; e != nil && e.element == nil {
		e.since = now
		e.element = m.gone.PushBack(e)
	}
	m.expire(now)
}

// drop forgets a key.
func (m *memory[K, V]) drop(key K) {
	e := m.entries[key]
	if e == nil {
		return
	}
	if e.element != nil {
		m.gone.Remove(e.element)
	}
	delete(m.entries, key)
}

func (m *memory[K, V]) expire(now time.Time) {
	for front := m.gone.Front(); front != nil; front = m.gone.Front() {
		e := front.Value.(*remembered[K, V])
		if m.gone.Len() <= m.max && now.Sub(e.since) < goneFor {
			return
		}
		m.gone.Remove(front)
		delete(m.entries, e.key)
	}
}

func (m *memory[K, V]) get(key K) (V, bool) {
	if e := m.entries[key]; e != nil {
		return e.value, true
	}
	var none V
	return none, false
}
