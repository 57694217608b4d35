// SPDX-License-Identifier: Apache-2.0

package filter

// A fact is the outcome of a test on the way to a place. Facts form a tree: those of a place that can be reached in
// several ways are what these ways have in common at their beginning.
type fact struct {
	parent  *fact
	depth   int
	t       test
	outcome bool
}

func (f *fact) with(t test, outcome bool) *fact {
	depth := 1
	if f != nil {
		depth = f.depth + 1
	}
	return &fact{parent: f, depth: depth, t: t, outcome: outcome}
}

func common(a, b *fact) *fact {
	for a != b {
		if a == nil || b == nil {
			return nil
		}
		if a.depth >= b.depth {
			a = a.parent
		} else {
			b = b.parent
		}
	}
	return a
}

// decides tells the outcome of a test from what is known: the same test, or an equality with another number.
func (f *fact) decides(t test) (outcome, ok bool) {
	for ; f != nil; f = f.parent {
		if f.t == t {
			return f.outcome, true
		}
		if f.outcome && t.op == cmpEQ && f.t.op == cmpEQ && f.t.v == t.v && t.x == nil && f.t.x == nil {
			return false, true
		}
	}
	return false, false
}

// maxRounds bounds the optimiser, which ends much earlier.
const maxRounds = 64

// optimise makes a graph smaller, until nothing changes.
func optimise(root *node) *node {
	for range maxRounds {
		threaded, changed := thread(root)
		pulled, moved := pullUp(threaded)
		root = pulled
		if !changed && !moved {
			break
		}
	}
	return merge(root)
}

// thread leads every way past the tests whose outcome is known on it. Bytes that such a test would load have been loaded before.
func thread(root *node) (result *node, moved bool) {
	for {
		nodes := order(root)
		facts := make(map[*node]*fact, len(nodes))
		reached := make(map[*node]bool, len(nodes))
		type edge struct {
			from *node
			yes  bool
		}
		follow := make(map[edge]*node, 2*len(nodes))
		changed := false
		reach := func(n *node, f *fact) {
			if reached[n] {
				f = common(facts[n], f)
			}
			facts[n], reached[n] = f, true
		}
		reach(root, nil)
		for _, n := range nodes {
			// A node that is only reached past a test which is known comes after that test: the order stays right.
			if n.terminal || !reached[n] {
				continue
			}
			for _, yes := range []bool{true, false} {
				f := facts[n].with(n.t, yes)
				to := n.no
				if yes {
					to = n.yes
				}
				for !to.terminal {
					outcome, ok := f.decides(to.t)
					if !ok {
						break
					}
					changed = true
					if outcome {
						to = to.yes
					} else {
						to = to.no
					}
				}
				follow[edge{n, yes}] = to
				reach(to, f)
			}
		}
		if !changed {
			return root, moved
		}
		moved = true
		// Make the nodes again, from the end.
		made := map[*node]*node{}
		for i := len(nodes) - 1; i >= 0; i-- {
			n := nodes[i]
			switch {
			case n.terminal:
				made[n] = n
			case reached[n]:
				made[n] = newNode(n.t, made[follow[edge{n, true}]], made[follow[edge{n, false}]])
			}
		}
		root = made[root]
	}
}
