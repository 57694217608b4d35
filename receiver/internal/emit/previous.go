// SPDX-License-Identifier: Apache-2.0

package emit

// previous is what the rows of a plain map said last. Their growth since then is what is counted: by row, for the series that a
// row belongs to may change, as when an interface gets another name or a cgroup becomes a container's.
type previous struct {
	rows    map[string]int
	numbers []uint64 // as many for each row as a row has
}

func newPrevious() *previous { return &previous{rows: make(map[string]int)} }

// growth replaces a row's numbers by their growth. A number that is less than it was has begun anew.
func (p *previous) growth(key []byte, row []uint64) {
	i, ok := p.rows[string(key)]
	if !ok {
		i = len(p.numbers)
		p.rows[string(key)] = i
		p.numbers = append(p.numbers, row...)
		return
	}
	for j, last := range p.numbers[i : i+len(row)] {
		now := row[j]
		p.numbers[i+j] = now
		if now >= last {
			row[j] = now - last
		}
	}
}
