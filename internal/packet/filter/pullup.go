// SPDX-License-Identifier: Apache-2.0

package filter

// A chainNode is a node that can be moved.
type chainNode struct {
	*node // as it was
	next  [2]*chainNode
	from  []*chainNode
}

const (
	ifNo = iota
	ifYes
)

// pullUp brings tests of the same value together, so that it is loaded once: in "a or b or c", whose tests all lead to the
// same place if they hold, c may come before b, and the same for "and". As in libpcap, this decides which bytes of a truncated packet are missed
// first.
func pullUp(root *node) (result *node, moved bool) {
	nodes := order(root)
	chain := make(map[*node]*chainNode, len(nodes))
	for _, n := range nodes {
		chain[n] = &chainNode{node: n}
	}
	for _, n := range nodes {
		if c := chain[n]; !n.terminal {
			c.next = [2]*chainNode{ifNo: chain[n.no], ifYes: chain[n.yes]}
			c.next[ifNo].from = append(c.next[ifNo].from, c)
			c.next[ifYes].from = append(c.next[ifYes].from, c)
		}
	}
	for i := len(nodes) - 1; i >= 0; i-- {
		if n := nodes[i]; !n.terminal {
			for _, down := range []int{ifNo, ifYes} {
				moved = chain[n].pull(down) || moved
			}
		}
	}
	if !moved {
		return root, false
	}
	top := chain[root]
	for len(top.from) > 0 {
		top = top.from[0]
	}
	made := map[*chainNode]*node{}
	var remake func(*chainNode) *node
	remake = func(c *chainNode) *node {
		if c.terminal {
			return c.node
		}
		if made[c] == nil {
			made[c] = newNode(c.t, remake(c.next[ifYes]), remake(c.next[ifNo]))
		}
		return made[c]
	}
	return remake(top), true
}

// pull looks down the chain of tests that begins at b, for the first that is on the value which has been tested before b, after
// others that are not, and puts it before these.
func (b *chainNode) pull(down int) bool {
	if len(b.from) == 0 {
		return false
	}
	v := b.from[0].t.v
	for _, p := range b.from {
		if p.t.v != v {
			return false
		}
	}
	// inChain tells whether a node can only be reached from b, and leads to the same place if the chain ends.
	inChain := func(c *chainNode) bool {
		return !c.terminal && c.next[1-down] == b.next[1-down] && (c == b || len(c.from) == 1)
	}
	other := b
	for inChain(other) && other.t.v == v {
		other = other.next[down]
	}
	if !inChain(other) {
		return false
	}
	last := other
	for inChain(last.next[down]) && last.next[down].t.v != v {
		last = last.next[down]
	}
	same := last.next[down]
	if !inChain(same) {
		return false
	}
	after := same.next[down]
	last.next[down] = after
	after.replace(same, last)
	for _, p := range other.from {
		for side := range p.next {
			if p.next[side] == other {
				p.next[side] = same
			}
		}
	}
	same.from, other.from = other.from, []*chainNode{same}
	same.next[down] = other
	return true
}

func (b *chainNode) replace(old, from *chainNode) {
	for i, p := range b.from {
		if p == old {
			b.from[i] = from
		}
	}
}
