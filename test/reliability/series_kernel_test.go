// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// sums adds up all series of a counter there ever were. Of a cumulative series, it is the last value that counts; a series that is not in a
// payload any more has ended.
type sums struct {
	metric     string
	cumulative bool
	live       map[seriesKey]int64
	ended      int64
	overflow   int64 // of it
	most       int   // series in one payload
	series     int   // that began
}

type seriesKey struct {
	key      int64 // -1: overflow
	overflow bool
	start    pcommon.Timestamp
}

func (s *sums) take(t testing.TB, md pmetric.Metrics) {
	now := make(map[seriesKey]int64)
	n := 0
	numberPoints(md, s.metric, func(p pmetric.NumberDataPoint) {
		n++
		key := seriesKey{start: p.StartTimestamp()}
		if v, ok := p.Attributes().Get("otel.metric.overflow"); ok {
			key.key, key.overflow = -1, v.Bool()
		} else {
			v, _ := p.Attributes().Get("ebpf.test.key")
			key.key = v.Int()
		}
		if !s.cumulative {
			s.ended += p.IntValue()
			if key.overflow {
				s.overflow += p.IntValue()
			}
			return
		}
		if _, twice := now[key]; twice {
			assert.Fail(t, "a series is twice in one payload", "%v", key)
		}
		now[key] = p.IntValue()
		if key.overflow {
			s.overflow = p.IntValue()
		}
	})
	s.most = max(s.most, n)
	if n == 0 || !s.cumulative {
		s.series += n
		return
	}
	for key, value := range s.live {
		if next, ok := now[key]; !ok {
			s.ended += value
		} else if next < value {
			assert.Fail(t, "a counter fell", "%v from %d to %d", key, value, next)
		}
	}
	for key := range now {
		if _, ok := s.live[key]; !ok {
			s.series++
		}
	}
	s.live = now
}

func (s *sums) total() int64 {
	total := s.ended
	for _, v := range s.live {
		total += v
	}
	return total
}

// Millions of keys that each come once, into maps and tables for a few of them. The sum of all series is the truth, of occurrences and of
// the keys' numbers; memory is that of the limit.
func TestKernelSeriesExplosion(t *testing.T) {
	keysMade, few := size(20_000, 1_000_000, 10_000_000), size(1000, 10_000, 10_000)
	// Over many ticks, and a minute where there is one.
	interval := time.Duration(size(1, 1, 4)) * tick
	pace := time.Duration(size(1, 3, 60)) * time.Second * 2 * time.Duration(burst) / time.Duration(keysMade)
	for _, test := range []struct {
		name      string
		config    string
		maxSeries int
		limit     int  // bytes
		overflows bool // in any case: there are more keys in a tick
	}{
		{"cumulative", "temporality: cumulative", few, 128 * MiB, true},
		{"cumulative, short-lived", "temporality: cumulative\nseries_ttl: 1s", few, 128 * MiB, true},
		{"delta", "temporality: delta", few, 128 * MiB, true},
		{"delta, many series", "temporality: delta", 20 * few, 512 * MiB, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, token := numberedProbe(t)
			generators := []*generator{newGenerator(t, nil, token, keys, 0, pace), newGenerator(t, nil, token, keys, 1, pace)}
			cumulative := strings.Contains(test.config, "cumulative")
			count := &sums{metric: "ebpf.test.keys", cumulative: cumulative}
			sum := &sums{metric: "ebpf.test.keys.sum", cumulative: cumulative}
			var mu sync.Mutex
			ticks := 0
			sink := metricsFunc(t, func(_ context.Context, md pmetric.Metrics) error {
				mu.Lock()
				defer mu.Unlock()
				ticks++
				count.take(t, md)
				sum.take(t, md)
				return nil
			})
			m := watchMemory(t)
			r := start(t, fmt.Sprintf("%s\ncollection_interval: %v\nprobes: { numbered: { path: %q, token: %d, burst: %d, max_series: %d } }",
				test.config, interval, dir, token, burst, test.maxSeries), sink, nil)
			begin := time.Now()
			each := keysMade / 2 / int(burst)
			together(each, generators...)
			took := time.Since(begin)
			misses := r.number("otelcol_receiver_ebpf_program_recursion_misses", func(get func(string) string) bool { return get("program") == "number_keys" })
			r.stop()
			grown := m.grown()
			require.Zero(t, misses, "the generators disturbed each other")

			n := int64(each) * burst
			assert.Equal(t, 2*n, count.total(), "occurrences")
			assert.Equal(t, 2*(n*(n-1)/2), sum.total(), "numbers")
			// The kernel asks whether a hash that allocates has room before it counts a new row: each CPU may be in between.
			assert.LessOrEqual(t, count.most, test.maxSeries+1+runtime.NumCPU()-1)
			assert.Less(t, grown, test.limit)
			if test.overflows {
				assert.Positive(t, count.overflow)
			}
			t.Logf("%d keys in %.1f s: %d series in %d payloads, at most %d in one, %.1f %% in overflow; memory grew by %.1f MiB",
				2*n, took.Seconds(), count.series, ticks, count.most, 100*float64(count.overflow)/float64(2*n), float64(grown)/MiB)
		})
	}
}
