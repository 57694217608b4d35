// SPDX-License-Identifier: Apache-2.0

package filter

// A node is a test with what follows it, or an end. A graph of nodes has no cycles.
type node struct {
	t        test
	yes, no  *node
	terminal bool
	verdict  bool
}

// The ends of every program.
var (
	match = &node{terminal: true, verdict: true}
	none  = &node{terminal: true}
)

// newNode makes a test, unless it decides nothing. As in libpcap, a test that decides nothing is not made, even if it would have
// ended the program at the end of a truncated packet.
func newNode(t test, yes, no *node) *node {
	if outcome, ok := t.decided(); ok {
		if outcome {
			return yes
		}
		return no
	}
	if yes == no {
		return yes
	}
	return &node{t: t, yes: yes, no: no}
}

// build makes the nodes of a condition with what follows it.
func build(c *cond, yes, no *node) *node {
	switch c.kind {
	case condConst:
		if c.yes {
			return yes
		}
		return no
	case condNot:
		return build(c.a, no, yes)
	case condAnd:
		return build(c.a, build(c.b, yes, no), no)
	case condOr:
		return build(c.a, yes, build(c.b, yes, no))
	}
	return newNode(c.t, yes, no)
}

// order lists the nodes that can be reached, each before its followers; what follows a test that holds comes next, if it can.
func order(root *node) []*node {
	seen := map[*node]bool{}
	var list []*node
	var visit func(*node)
	visit = func(n *node) {
		if seen[n] {
			return
		}
		seen[n] = true
		if !n.terminal {
			visit(n.no)
			visit(n.yes)
		}
		list = append(list, n)
	}
	visit(root)
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
	}
	return list
}

// merge makes nodes with the same test and the same followers one. A test that decides nothing only now stays, as in libpcap: it may end
// the program at a packet's end.
func merge(root *node) *node {
	nodes := order(root)
	unique := make(map[node]*node, len(nodes))
	made := make(map[*node]*node, len(nodes))
	for i := len(nodes) - 1; i >= 0; i-- {
		n := nodes[i]
		if n.terminal {
			made[n] = n
			continue
		}
		m := &node{t: n.t, yes: made[n.yes], no: made[n.no]}
		if other := unique[*m]; other != nil {
			m = other
		}
		unique[*m] = m
		made[n] = m
	}
	return made[root]
}
