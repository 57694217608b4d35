// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/internal/snapshot"
)

// Table is a map and the metrics that it becomes.
type Table struct {
	source  snapshot.Table
	builder *Metrics
	probe   *probe.Probe
	ttl     time.Duration
	views   []*view
	// since is when the rows that come now began to count; 0 before the first Read.
	since pcommon.Timestamp
	// failed tells that the last Read ended early: what it left comes with the next one.
	failed bool
	// overflowed tells whether the last Read had something for an overflow series.
	overflowed bool
	// expected is how many rows the last Read had.
	expected int
	// The rows that are being looked up.
	lookups    []lookup
	identities []byte
}

// NewTable prepares the metrics of one of a probe's maps. ttl is how long series are kept. The error tells which metric's
// fields do not fit the map's BTF.
func NewTable(b *Metrics, t *probe.Table, p *probe.Probe, ttl time.Duration) (*Table, error) {
	table := &Table{source: t.Table, builder: b, probe: p, ttl: ttl}
	for _, name := range t.Metrics {
		m, err := newMetric(name, t, p, b.options.Names)
		if err != nil {
			return nil, err
		}
		limit := cmp.Or(p.Settings.Metrics[name].MaxSeries, p.Settings.MaxSeries, probe.DefaultMaxSeries)
		v := &view{
			metric:  m,
			outputs: outputs{byResource: make(map[*resource]output)},
			series:  newSeriesSet(limit, len(m.row)),
			kept:    m.level() || !b.options.Delta,
		}
		v.unique = !v.kept && t.Kind() == snapshot.Swapped && t.Capacity() <= limit && m.unique(t, p)
		if t.Kind() == snapshot.Plain && !m.level() {
			v.previous = newPrevious()
		}
		table.views = append(table.views, v)
	}
	return table, nil
}

// Overflowed tells whether the last Read found more than a limit allows, in the kernel's map or among the series, so that
// something went into an overflow series.
func (t *Table) Overflowed() bool { return t.overflowed }

// Read takes a snapshot of the map into the payload and returns the number of rows. After an error the payload has what
// came before it; what did not come is in the next one. Levels, which can not come in parts, are missing until then.
func (t *Table) Read(ctx context.Context) (int, error) {
	if t.since == 0 {
		t.since = t.builder.since(t.probe.Started)
		t.builder.tables = append(t.builder.tables, t)
	}
	n := 0
	delivered := false
	t.overflowed = false
	t.expected = t.source.Len()
	err := t.source.Read(ctx, func(rows snapshot.Rows) error {
		delivered = true
		if !rows.Overflow {
			n += rows.N
		}
		for _, v := range t.views {
			t.add(v, rows)
		}
		return nil
	})
	for _, v := range t.views {
		// A swapped map's next rows have those with them that were left.
		if v.level() && (err != nil || t.failed && t.source.Kind() == snapshot.Swapped) {
			v.series.zero()
			continue
		}
		t.flush(v, err != nil)
		v.outputs.clear()
	}
	t.failed = err != nil
	if delivered || err == nil {
		t.since = t.builder.payload.now
	}
	if err != nil {
		return n, fmt.Errorf("reading map: %w", err)
	}
	return n, nil
}

// shift moves all times that are kept.
func (t *Table) shift(d time.Duration) {
	move := func(at pcommon.Timestamp) pcommon.Timestamp { return pcommon.NewTimestampFromTime(at.AsTime().Add(d)) }
	t.since = move(t.since)
	for _, v := range t.views {
		for i := range v.series.list {
			v.series.list[i].start = move(v.series.list[i].start)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
