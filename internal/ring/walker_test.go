// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ring

import (
	"encoding/binary"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func all(records *[]string) func([]byte) bool {
	return func(record []byte) bool {
		*records = append(*records, string(record))
		return true
	}
}

func TestDrainEmpty(t *testing.T) {
	r := newFakeRing(4096)
	n, more, err := r.drain(func([]byte) bool { t.Fatal("a record of nothing"); return true })
	require.NoError(t, err)
	assert.Zero(t, n)
	assert.False(t, more)
}

func TestDrainSkipsDiscardedAndStopsAtBusy(t *testing.T) {
	r := newFakeRing(4096)
	require.True(t, r.submit([]byte("one")))
	at, ok := r.reserve([]byte("withdrawn"))
	require.True(t, ok)
	r.commitAt(at, len("withdrawn"), discardBit)
	require.True(t, r.submit(nil))
	busy, ok := r.reserve([]byte("three"))
	require.True(t, ok)
	require.True(t, r.submit([]byte("four")))

	var got []string
	n, more, err := r.drain(all(&got))
	require.NoError(t, err)
	assert.False(t, more)
	assert.Equal(t, 2, n)
	assert.Equal(t, []string{"one", ""}, got)
	assert.Equal(t, busy, r.positions[0], "the reader waits at the record that is being written")
	assert.EqualValues(t, 16+16, r.unread())

	for len(r.woken) > 0 {
		<-r.woken
	}
	r.commitAt(busy, len("three"), 0)
	assert.Len(t, r.woken, 1, "finishing it wakes the reader")
	n, _, err = r.drain(all(&got))
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	assert.Equal(t, []string{"one", "", "three", "four"}, got)
	assert.Zero(t, r.unread())
}

func TestDrainStopsWhenTold(t *testing.T) {
	r := newFakeRing(4096)
	for _, s := range []string{"a", "b", "c"} {
		require.True(t, r.submit([]byte(s)))
	}
	var got []string
	n, more, err := r.drain(func(record []byte) bool {
		got = append(got, string(record))
		return string(record) != "b"
	})
	require.NoError(t, err)
	assert.True(t, more)
	assert.Equal(t, 2, n)
	n, more, err = r.drain(all(&got))
	require.NoError(t, err)
	assert.False(t, more)
	assert.Equal(t, 1, n)
	assert.Equal(t, []string{"a", "b", "c"}, got)
}

func TestDrainKeepsItsPlaceWhenTheCallbackPanics(t *testing.T) {
	r := newFakeRing(4096)
	require.True(t, r.submit([]byte("a")))
	require.True(t, r.submit([]byte("b")))
	assert.Panics(t, func() { _, _, _ = r.drain(func([]byte) bool { panic("no") }) })
	var got []string
	_, _, err := r.drain(all(&got))
	require.NoError(t, err)
	assert.Equal(t, []string{"b"}, got)
}

func TestDrainGivesRoomBackOnTheWay(t *testing.T) {
	const size = 1 << 20
	r := newFakeRing(size)
	record := make([]byte, 1016) // 1024 with its header
	for range size/1024 - 1 {
		require.True(t, r.submit(record))
	}
	require.False(t, r.submit(record), "full")
	var read uint64
	n, _, err := r.drain(func([]byte) bool {
		read += 1024
		assert.LessOrEqual(t, read-r.positions[0], uint64(commitBytes))
		return true
	})
	require.NoError(t, err)
	assert.Equal(t, size/1024-1, n)
}

// A writer as fast as the reader can not keep Drain from returning.
func TestDrainIsBounded(t *testing.T) {
	r := newFakeRing(4096)
	require.True(t, r.submit(make([]byte, 8)))
	n, more, err := r.drain(func([]byte) bool {
		require.True(t, r.submit(make([]byte, 8)))
		return true
	})
	require.NoError(t, err)
	assert.True(t, more)
	assert.Equal(t, 4096/16, n)
}

func TestDrainCorrupt(t *testing.T) {
	tests := []struct {
		name               string
		consumer, producer uint64
		header             uint32
	}{
		{"record longer than what is there", 0, 64, 57},
		{"longest length", 0, 64, lengthMask},
		{"discarded and too long", 0, 64, 60 | discardBit},
		{"room for half a header", 0, 4, 0},
		{"reader ahead of writers", 128, 64, 0},
		{"more unread than the ring holds", 0, 4096 + 8, 8},
		{"position that is not aligned", 4, 64, 8},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newFakeRing(4096)
			r.setHeader(tt.consumer&^7, tt.header)
			r.positions = [2]uint64{tt.consumer, tt.producer}
			for range 2 {
				n, _, err := r.drain(func([]byte) bool { t.Fatal("a record"); return true })
				require.ErrorIs(t, err, ErrCorrupt)
				assert.Zero(t, n)
				assert.Equal(t, tt.consumer, r.positions[0])
			}
			assert.LessOrEqual(t, r.unread(), r.size())
		})
	}
}

// When Drain has returned, a record either has been seen by it or wakes the reader. The ring
// is small, so that reader and writer meet at nearly every record; a wake-up that is missed stops both.
func TestDrainNeverMissesAWakeUp(t *testing.T) {
	const records = 300_000
	r := newFakeRing(4096)
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		var record [8]byte
		for i := range uint64(records) {
			binary.NativeEndian.PutUint64(record[:], i)
			for !r.submit(record[:]) {
				select {
				case <-stop:
					return
				default:
					runtime.Gosched()
				}
			}
		}
	})
	defer writer.Wait()
	defer close(stop)
	var next uint64
	for {
		_, more, err := r.drain(func(record []byte) bool {
			if got := binary.NativeEndian.Uint64(record); got != next {
				t.Errorf("record %d, expected %d", got, next)
				return false
			}
			next++
			return true
		})
		require.NoError(t, err)
		require.False(t, t.Failed())
		if next == records {
			return
		}
		if more {
			continue
		}
		select {
		case <-r.woken:
		case <-time.After(10 * time.Second):
			t.Fatalf("asleep after %d records with %d bytes unread", next, r.unread())
		}
	}
}

// FuzzDrain feeds the walker any memory, and compares it with a walk that is written as plainly as
// possible.
func FuzzDrain(f *testing.F) {
	const size = 4096
	f.Add(uint64(0), uint64(24), []byte{3, 0, 0, 0, 0, 0, 0, 0, 'a', 'b', 'c'})
	f.Add(uint64(4088), uint64(4112), []byte{9, 0, 0, 0, 0, 0, 0, 0})
	f.Add(uint64(0), uint64(32), []byte{1, 0, 0, 0x40, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x80})
	f.Add(^uint64(0)-7, uint64(16), []byte{0xff, 0xff, 0xff, 0x3f})
	f.Add(uint64(3), uint64(1), []byte{})
	f.Fuzz(func(t *testing.T, consumer, producer uint64, content []byte) {
		r := newFakeRing(size)
		for i := range min(len(content), size) {
			r.data[i], r.data[i+size] = content[i], content[i]
		}
		r.positions = [2]uint64{consumer, producer}

		var got []string
		n, more, err := r.drain(all(&got))
		assert.Equal(t, len(got), n)

		var want []string
		position, corrupt := consumer, false
		for position != producer && position-consumer < size {
			available := producer - position
			if available > size || available < 8 || position%8 != 0 {
				corrupt = true
				break
			}
			header := binary.NativeEndian.Uint32(r.data[position%size:])
			if header>>31 == 1 {
				break
			}
			length := uint64(header << 2 >> 2)
			total := 8 + length
			for total%8 != 0 {
				total++
			}
			if total > available {
				corrupt = true
				break
			}
			if header>>30&1 == 0 {
				record := make([]byte, 0, length)
				for i := range length {
					record = append(record, r.data[(position+8+i)%size])
				}
				want = append(want, string(record))
			}
			position += total
		}
		assert.Equal(t, want, got)
		assert.Equal(t, position, r.positions[0])
		if corrupt {
			require.ErrorIs(t, err, ErrCorrupt)
			return
		}
		require.NoError(t, err)
		assert.False(t, more, "memory that does not change holds at most one ring")
	})
}
