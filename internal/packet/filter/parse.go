// SPDX-License-Identifier: Apache-2.0

package filter

import "fmt"

// The limits keep a hostile expression from costing more than a moment.
const (
	maxDepth = 200   // of parentheses and not
	maxTests = 16384 // before optimisation
)

// qualifiers are what stands before an address, port or protocol. "a or b" passes a's on to b.
type qualifiers struct {
	known bool
	proto string // keyword, or "" for any
	dir   string // "src", "dst", "src or dst", "src and dst", or ""
	typ   string // "host", "net", "port", "portrange", "proto", or ""
}

type parser struct {
	layers
	expression string
	tokens     []token
	pos        int
	depth      int
	tests      int
	// besideEthernet is of [IPBesideEthernet].
	besideEthernet bool
}

// parse reads a whole expression. An empty one matches everything.
func parse(expression string, link Link, beside bool) (*cond, *parser, error) {
	tokens, err := lex(expression)
	if err != nil {
		return nil, nil, err
	}
	p := &parser{layers: newLayers(link, beside), expression: expression, tokens: tokens, besideEthernet: link == IPBesideEthernet}
	if p.peek().kind == tokEnd {
		return constant(true), p, nil
	}
	c, err := p.sequence(qualifiers{})
	if err != nil {
		return nil, nil, err
	}
	if t := p.peek(); t.kind != tokEnd {
		return nil, nil, p.unexpected(t, "and, or, or the end")
	}
	return c, p, nil
}

func (p *parser) peek() token { return p.tokens[p.pos] }

func (p *parser) peekAt(n int) token { return p.tokens[min(p.pos+n, len(p.tokens)-1)] }

func (p *parser) take() token {
	t := p.peek()
	if t.kind != tokEnd {
		p.pos++
	}
	return t
}

func (p *parser) accept(text string) bool {
	if p.peek().is(text) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) errorf(t token, format string, args ...any) error {
	return &SyntaxError{Expression: p.expression, Offset: t.pos, Word: t.word, Message: fmt.Sprintf(format, args...)}
}

// count bounds the work that an expression may cause.
func (p *parser) count(t token, c *cond, err error) (*cond, error) {
	if err != nil {
		return nil, err
	}
	if p.tests += c.tests(); p.tests > maxTests {
		return nil, p.errorf(t, "the expression is too long")
	}
	return c, nil
}

func (c *cond) tests() int {
	if c.a == nil {
		return 1
	}
	n := c.a.tests()
	if c.b != nil {
		n += c.b.tests()
	}
	return n
}

// sequence reads operands between and and or, which bind equally strongly, from left to right, until something else.
func (p *parser) sequence(outer qualifiers) (*cond, error) {
	left, q, bare, err := p.operand(outer)
	if err != nil {
		return nil, err
	}
	for {
		t := p.peek()
		isAnd := t.is("and")
		if !isAnd && !t.is("or") {
			return left, nil
		}
		p.take()
		start := p.peek()
		right, next, bareRight, err := p.operand(q)
		if err != nil {
			return nil, err
		}
		if bare && !bareRight {
			// libpcap's grammar: "(80 or port 443)" is neither a list of ports nor an expression.
			return nil, p.errorf(start, "a list that begins with a bare address or number has only such")
		}
		q = next
		if isAnd {
			left = and(left, right)
		} else {
			left = or(left, right)
		}
	}
}

// operand reads what may stand between and and or. It is bare if it inherits its qualifiers from the operand before it.
func (p *parser) operand(q qualifiers) (c *cond, next qualifiers, bare bool, err error) {
	if p.depth++; p.depth > maxDepth {
		return nil, q, false, p.errorf(p.peek(), "nested too deeply")
	}
	defer func() { p.depth-- }()
	t := p.peek()
	switch {
	case t.is("not") || t.is("!"):
		p.take()
		c, next, bare, err = p.operand(q)
		if err != nil {
			return nil, q, false, err
		}
		return not(c), next, bare, nil
	case (t.is("(") || t.kind == tokNumber) && p.relationAhead(), t.kind == tokNumber && p.peekAt(1).operates():
		c, err = p.relation()
		c, err = p.count(t, c, err)
		return c, qualifiers{}, false, err
	case t.is("("):
		c, bare, err = p.group(q)
		return c, q, bare, err
	case t.kind == tokKeyword || t.is("-"):
		c, next, err = p.term()
		c, err = p.count(t, c, err)
		return c, next, false, err
	case t.kind == tokEnd || t.kind == tokOp:
		return nil, q, false, p.unexpected(t, "an expression")
	}
	c, err = p.id(q)
	c, err = p.count(t, c, err)
	return c, q, true, err
}

// group reads an expression, or a list, in parentheses.
func (p *parser) group(q qualifiers) (c *cond, bare bool, err error) {
	p.take()
	start := p.pos
	if c, err = p.sequence(q); err != nil {
		return nil, false, err
	}
	if !p.accept(")") {
		return nil, false, p.unexpected(p.peek(), "and, or, or )")
	}
	return c, p.listAt(start), nil
}

// listAt tells whether an operand that was read from a token on begins with a bare address or number.
func (p *parser) listAt(pos int) bool {
	for p.tokens[pos].is("(") || p.tokens[pos].is("not") || p.tokens[pos].is("!") {
		pos++
	}
	kind := p.tokens[pos].kind
	if kind == tokNumber {
		saved := p.pos
		defer func() { p.pos = saved }()
		p.pos = pos
		return !p.relationAhead()
	}
	return kind != tokKeyword && kind != tokOp
}

// term reads a word of the language with what belongs to it.
func (p *parser) term() (*cond, qualifiers, error) {
	t := p.peek()
	none := qualifiers{}
	if t.is("-") || t.is("len") || protocolWords[t.text] && p.peekAt(1).is("[") {
		c, err := p.relation()
		return c, none, err
	}
	proto := ""
	if protocolWords[t.text] {
		proto = t.text
		p.take()
	}
	q, err := p.head(proto)
	if err != nil {
		return nil, none, err
	}
	if q.known {
		c, err := p.qualified(q)
		return c, q, err
	}
	var c *cond
	switch {
	case p.peek().is("broadcast") || p.peek().is("multicast"):
		c, err = p.cast(t, proto)
	case proto != "":
		if following := p.peek(); following.kind != tokEnd && following.kind != tokKeyword && !following.is(")") {
			return nil, none, p.afterProtocol(proto, following)
		}
		c, err = p.abbreviation(t, proto)
	default:
		c, err = p.other()
	}
	return c, none, err
}

// head reads the qualifiers that follow a protocol, if there is one.
func (p *parser) head(proto string) (qualifiers, error) {
	q := qualifiers{known: true, proto: proto}
	if p.peek().is("src") || p.peek().is("dst") {
		t := p.take()
		q.dir = t.text
		other := "dst"
		if t.text == "dst" {
			other = "src"
		}
		if op := p.peek(); op.is("or") || op.is("and") {
			if !p.peekAt(1).is(other) {
				return q, p.errorf(p.peekAt(1), "expected %s after %q", other, t.text+" "+op.text)
			}
			p.take()
			p.take()
			q.dir = "src " + op.text + " dst"
		}
	}
	t := p.peek()
	switch {
	case t.is("host") || t.is("net") || t.is("port") || t.is("portrange"):
		q.typ = p.take().text
	case q.dir != "":
		if t.is("proto") || t.is("protochain") || t.is("gateway") {
			return q, p.errorf(t, "%s takes neither src nor dst", t.text)
		}
	case t.is("proto"):
		q.typ = p.take().text
	case t.is("protochain"):
		return q, p.errorf(t, "protochain is not supported, since it needs a loop; write proto")
	case t.is("gateway"):
		return q, p.errorf(t, "gateway is not supported, since it needs a table of hosts; write ether host and not host")
	default:
		return qualifiers{}, nil
	}
	return q, nil
}

// qualified reads what follows qualifiers: an address, port or protocol, or several in parentheses.
func (p *parser) qualified(q qualifiers) (*cond, error) {
	t := p.peek()
	if p.depth++; p.depth > maxDepth {
		return nil, p.errorf(t, "nested too deeply")
	}
	defer func() { p.depth-- }()
	if t.is("not") || t.is("!") {
		p.take()
		c, err := p.qualified(q)
		if err != nil {
			return nil, err
		}
		return not(c), nil
	}
	if !t.is("(") {
		return p.id(q)
	}
	c, bare, err := p.group(q)
	if err == nil && !bare {
		return nil, p.errorf(t, "expected %s in the parentheses", q.wants())
	}
	return c, err
}
