// SPDX-License-Identifier: Apache-2.0

package emit

// index finds places in a list by a hash of what is there: an open-addressed table without pointers, of which a million
// entries cost the garbage collector nothing and an insertion costs no allocation of its own.
type index struct {
	// slots have the hash in their upper half and the place, counted from 1, in the lower one. 0 is free.
	slots []uint64
	n     int
}

// find returns the place with the hash for which is tells that it is the one.
func (x *index) find(hash uint32, is func(place int) bool) (int, bool) {
	if x.n == 0 {
		return 0, false
	}
	mask := uint32(len(x.slots) - 1)
	for i := hash & mask; x.slots[i] != 0; i = (i + 1) & mask {
		if place := int(uint32(x.slots[i])) - 1; uint32(x.slots[i]>>32) == hash && is(place) {
			return place, true
		}
	}
	return 0, false
}

// peek returns the first place that find would look at, or a negative one.
func (x *index) peek(hash uint32) int {
	return int(uint32(x.slots[hash&uint32(len(x.slots)-1)])) - 1
}

// add enters a place that find did not find.
func (x *index) add(hash uint32, place int) {
	if 2*(x.n+1) > len(x.slots) {
		old := x.slots
		x.slots = make([]uint64, max(16, 2*len(old)))
		for _, slot := range old {
			if slot != 0 {
				x.put(slot)
			}
		}
	}
	x.put(uint64(hash)<<32 | uint64(place+1))
	x.n++
}

func (x *index) put(slot uint64) {
	mask := uint32(len(x.slots) - 1)
	i := uint32(slot>>32) & mask
	for x.slots[i] != 0 {
		i = (i + 1) & mask
	}
	x.slots[i] = slot
}

// clear empties the index, and gives room back that so many entries would not use by far.
func (x *index) clear(expected int) {
	if len(x.slots) > 16*expected {
		x.slots = nil
	}
	clear(x.slots)
	x.n = 0
}
