// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ring

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestKernelRecordsArriveInOrder(t *testing.T) {
	tests := map[string]recordSpec{
		"reserve":               {size: 304},
		"reserve, not aligned":  {size: 72},
		"output, many sizes":    {output: true},
		"every other discarded": {size: 24, discardOdd: true},
	}
	for name, spec := range tests {
		t.Run(name, func(t *testing.T) {
			m := newRing(t, 16<<10)
			r := newReader(t, m)
			w := newWriter(t, m, spec)
			assert.Equal(t, 16<<10, r.Size())

			step := uint64(1)
			if spec.discardOdd {
				step = 2
			}
			next, bytes := uint64(0), 0
			for range 400 { // some 20 records at a time, around the ring many times
				w.run(t, 20)
				n, err := r.Drain(func(record []byte) bool {
					bytes += len(record)
					require.EqualValues(t, 0, word(record, 0))
					require.Equal(t, next, word(record, 8))
					if spec.output {
						require.Len(t, record, int(24+next*13&127))
						for at := 8; at+8 <= len(record); at += 8 {
							require.Equal(t, next, word(record, at))
						}
					} else {
						require.Len(t, record, int(spec.size))
						require.Equal(t, next, word(record, len(record)-8))
					}
					next += step
					return true
				})
				require.NoError(t, err)
				require.Positive(t, n)
				require.Zero(t, r.Unread())
			}
			produced, failed := w.counted(t)
			assert.Zero(t, failed)
			assert.GreaterOrEqual(t, produced, uint64(8000))
			assert.Equal(t, (produced+step-1)/step*step, next)
			assert.Greater(t, bytes, 5*r.Size(), "the ring has been gone around")
		})
	}
}

func TestKernelFullRing(t *testing.T) {
	m := newRing(t, 4096)
	r := newReader(t, m)
	w := newWriter(t, m, recordSpec{size: 120})
	delivered, next := 0, uint64(0)
	for range 50 {
		w.run(t, 100)
		unread := r.Unread()
		assert.Greater(t, unread, 4096-2*128)
		n, err := r.Drain(func(record []byte) bool {
			assert.GreaterOrEqual(t, word(record, 8), next)
			next = word(record, 8) + 1
			return true
		})
		require.NoError(t, err)
		assert.Equal(t, unread/128, n)
		delivered += n
	}
	produced, failed := w.counted(t)
	assert.Positive(t, failed)
	assert.EqualValues(t, produced-failed, delivered)
}

// Two writers, one reader, a ring that is full from time to time: each writer's records arrive in
// its own order, and what was produced is delivered or was refused to the writer.
func TestKernelStorm(t *testing.T) {
	m := newRing(t, 256<<10)
	r := newReader(t, m)
	writers := []*writer{
		newWriter(t, m, recordSpec{id: 0, size: 48}),
		newWriter(t, m, recordSpec{id: 1, output: true}),
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for _, w := range writers {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					w.run(t, 50)
				}
			}
		})
	}

	var next, delivered [2]uint64
	drain := func() {
		_, err := r.Drain(func(record []byte) bool {
			id, sequence := word(record, 0), word(record, 8)
			if id > 1 || sequence < next[id] {
				t.Errorf("record %d of writer %d, expected %d or later", sequence, id, next[id])
				return false
			}
			next[id] = sequence + 1
			delivered[id]++
			return true
		})
		require.NoError(t, err)
	}
	for min(delivered[0], delivered[1]) < 50_000 && !t.Failed() {
		if err := r.Wait(20 * time.Millisecond); err != nil {
			t.Errorf("wait: %v", err)
		}
		drain()
	}
	close(stop)
	running.Wait()
	for r.Unread() > 0 && !t.Failed() {
		drain()
	}
	for i, w := range writers {
		produced, failed := w.counted(t)
		assert.Equal(t, produced, delivered[i]+failed, "writer %d", i)
		t.Logf("writer %d: produced %d, delivered %d, refused by the full ring %d", i, produced, delivered[i], failed)
	}
}

// A writer that wakes the reader only when it has caught up must wake it each time.
func TestKernelWakeUp(t *testing.T) {
	for name, flags := range map[string]int32{"adaptive": adaptive, "forced": forceWakeUp} {
		t.Run(name, func(t *testing.T) {
			m := newRing(t, 1<<20)
			r := newReader(t, m)
			w := newWriter(t, m, recordSpec{size: 24, flags: flags})
			const runs = 20_000
			var running sync.WaitGroup
			running.Go(func() {
				for range runs {
					w.run(t, 1)
				}
			})
			defer running.Wait()
			for last := uint64(0); last+1 < runs; {
				start := time.Now()
				require.NoError(t, r.Wait(20*time.Second))
				require.Less(t, time.Since(start), 10*time.Second, "the wake-up after record %d was missed", last)
				_, err := r.Drain(func(record []byte) bool { last = word(record, 8); return true })
				require.NoError(t, err)
			}
		})
	}
}

func TestKernelNoWakeUpIsFoundAfterTheTimeout(t *testing.T) {
	m := newRing(t, 1<<20)
	r := newReader(t, m)
	w := newWriter(t, m, recordSpec{size: 24, flags: noWakeUp})
	require.NoError(t, r.Wait(0))

	// The first wait after a record has to be as long as the ones without.
	for range 3 {
		w.run(t, 5)
		start := time.Now()
		require.NoError(t, r.Wait(50*time.Millisecond))
		assert.GreaterOrEqual(t, time.Since(start), 50*time.Millisecond, "woken by a record that does not wake")
		n, err := r.Drain(func([]byte) bool { return true })
		require.NoError(t, err)
		assert.GreaterOrEqual(t, n, 5)
	}

	// Whoever stops early need not wait for the rest.
	w.run(t, 5)
	n, err := r.Drain(func([]byte) bool { return false })
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	start := time.Now()
	require.NoError(t, r.Wait(time.Minute))
	assert.Less(t, time.Since(start), 30*time.Second)
}

func TestKernelRecordsFromBeforeTheReader(t *testing.T) {
	m := newRing(t, 4096)
	w := newWriter(t, m, recordSpec{size: 24, flags: noWakeUp})
	w.run(t, 3)
	r := newReader(t, m)
	start := time.Now()
	require.NoError(t, r.Wait(time.Minute))
	assert.Less(t, time.Since(start), 30*time.Second)
	n, err := r.Drain(func([]byte) bool { return true })
	require.NoError(t, err)
	assert.GreaterOrEqual(t, n, 3)
}

func TestKernelClose(t *testing.T) {
	before := descriptors(t)
	m := newRing(t, 64<<10)
	w := newWriter(t, m, recordSpec{size: 24})
	r, err := NewReader(m)
	require.NoError(t, err)

	var waiting sync.WaitGroup
	for range 3 {
		waiting.Go(func() {
			var err error
			for err == nil {
				err = r.Wait(-1)
			}
			assert.ErrorIs(t, err, os.ErrClosed)
		})
	}
	// Close while a Drain has a record in its hands, and from inside it too.
	w.run(t, 2)
	var records int
	_, err = r.Drain(func(record []byte) bool {
		records++
		var closing sync.WaitGroup
		closing.Go(func() { assert.NoError(t, r.Close()) })
		closing.Wait()
		assert.NoError(t, r.Close())
		assert.EqualValues(t, records-1, word(record, 8), "still mapped")
		return true
	})
	require.NoError(t, err)
	assert.GreaterOrEqual(t, records, 2)
	waiting.Wait()

	n, err := r.Drain(func([]byte) bool { t.Error("a record after Close"); return true })
	require.ErrorIs(t, err, os.ErrClosed)
	assert.Zero(t, n)
	require.ErrorIs(t, r.Wait(0), os.ErrClosed)
	assert.Zero(t, r.Unread())
	require.NoError(t, r.Close())
	assert.False(t, mapped(t), "the ring's memory is still mapped")
	require.NoError(t, w.program.Close())
	require.NoError(t, w.counts.Close())
	require.NoError(t, m.Close())
	assert.Equal(t, before, descriptors(t))
}

func TestKernelCloseInAStorm(t *testing.T) {
	m := newRing(t, 64<<10)
	w := newWriter(t, m, recordSpec{size: 24, flags: forceWakeUp})
	for range 50 {
		r, err := NewReader(m)
		require.NoError(t, err)
		var calls sync.WaitGroup
		seen := make(chan struct{}, 1)
		calls.Go(func() { w.run(t, 5000) })
		for range 2 {
			calls.Go(func() {
				for {
					if err := r.Wait(time.Minute); err != nil {
						assert.ErrorIs(t, err, os.ErrClosed)
						return
					}
					r.Unread()
					_, err := r.Drain(func(record []byte) bool {
						_ = word(record, 8)
						select {
						case seen <- struct{}{}:
						default:
						}
						return true
					})
					if err != nil {
						assert.ErrorIs(t, err, os.ErrClosed)
						return
					}
				}
			})
		}
		<-seen
		assert.NoError(t, r.Close())
		calls.Wait()
	}
}

func TestKernelUnsupportedMap(t *testing.T) {
	needs.Root(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	require.NoError(t, err)
	defer m.Close()
	_, err = NewReader(m)
	require.ErrorIs(t, err, ErrUnsupportedMap)
}

func TestKernelDrainAllocatesNothing(t *testing.T) {
	m := newRing(t, 1<<20)
	r := newReader(t, m)
	w := newWriter(t, m, recordSpec{size: 304, flags: noWakeUp})
	w.run(t, 3000)
	records := 0
	fn := func([]byte) bool { records++; return records%100 != 0 }
	assert.Zero(t, testing.AllocsPerRun(20, func() {
		_, _ = r.Drain(fn)
		_ = r.Wait(0)
	}))
	assert.Equal(t, 2100, records)
}

// descriptors is the number of this process's own open descriptors of eBPF, epoll and eventfd.
func descriptors(t *testing.T) map[string]int {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	require.NoError(t, err)
	found := map[string]int{}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err == nil && strings.HasPrefix(target, "anon_inode:") {
			found[strings.SplitN(target, " ", 2)[0]]++
		}
	}
	return found
}

func mapped(t *testing.T) bool {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	return strings.Contains(string(maps), "bpf-map")
}
