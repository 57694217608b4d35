// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"
)

// EventStats is what became of the occurrences of one type of event, since it was attached. At rest,
// Produced = Submitted + Dropped + Filtered + Limited.
type EventStats struct {
	Produced  uint64
	Submitted uint64 // into the ring
	Dropped   uint64 // the ring was full
	Filtered  uint64 // did not pass the user's filter
	Limited   uint64 // over the user's rate
}

// EventStats of each event that is enabled and available, by name, summed over all CPUs.
func (p *Probe) EventStats() (map[string]EventStats, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == closed {
		return nil, os.ErrClosed
	}
	stats := make(map[string]EventStats, len(p.EventIDs))
	m := p.maps[eventStatsMap]
	if m == nil {
		return stats, nil
	}
	var cells [][]byte
	for name, id := range p.EventIDs {
		if err := m.Lookup(id, &cells); err != nil {
			return nil, fmt.Errorf("probe %s: read the account of event %s: %w", p.Spec.Name, name, err)
		}
		var sum EventStats
		for _, cell := range cells {
			sum.Produced += binary.NativeEndian.Uint64(cell[0:])
			sum.Submitted += binary.NativeEndian.Uint64(cell[8:])
			sum.Dropped += binary.NativeEndian.Uint64(cell[16:])
			sum.Filtered += binary.NativeEndian.Uint64(cell[24:])
			sum.Limited += binary.NativeEndian.Uint64(cell[32:])
		}
		stats[name] = sum
	}
	return stats, nil
}

// ProgramStats is what one of the probe's programs has cost.
type ProgramStats struct {
	Name, Hook string
	// Runs and Time are counted only while run statistics are on (BPF_ENABLE_STATS).
	Runs uint64
	Time time.Duration
	// RecursionMisses are occurrences that the program did not see because it was interrupted by itself.
	RecursionMisses uint64
}

// ProgramStats of the loaded programs.
func (p *Probe) ProgramStats() ([]ProgramStats, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == closed {
		return nil, os.ErrClosed
	}
	stats := make([]ProgramStats, 0, len(p.programs))
	for _, program := range p.programs {
		s, err := program.Stats()
		if err == nil {
			err = program.instances.add(s)
		}
		if err != nil {
			return nil, fmt.Errorf("probe %s: read the statistics of program %s: %w", p.Spec.Name, program.name, err)
		}
		stats = append(stats, ProgramStats{
			Name: program.name, Hook: program.spec.SectionName,
			Runs: s.RunCount, Time: s.Runtime, RecursionMisses: s.RecursionMisses,
		})
	}
	return stats, nil
}

// MapStats is how full a table's map is.
type MapStats struct {
	Map string
	// Entries that the last read found, and Capacity, in rows.
	Entries, Capacity int
	// Overflow tells whether the last read found that it had been full.
	Overflow bool
}

// MapStats of the tables, in their order. It asks nothing of the kernel.
func (p *Probe) MapStats() []MapStats {
	stats := make([]MapStats, 0, len(p.Tables))
	for _, t := range p.Tables {
		stats = append(stats, MapStats{Map: t.Map, Entries: t.Len(), Capacity: t.Capacity(), Overflow: t.Stats().Overflow})
	}
	return stats
}
