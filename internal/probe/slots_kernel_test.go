// SPDX-License-Identifier: Apache-2.0

//go:build linux

package probe

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

//go:embed testdata/slots/slots.bpf.o
var slotsObject []byte

// The operations of testdata/slots.
const (
	slotFind = iota
	slotPut
	slotAdd
	slotRemove
)

// firstAddress is where the kernel has its memory on amd64; any other would do.
const firstAddress = 0xffff888000000000

// slotsInSet is how many slots an element of the array has, of SLOTTED_HASH in bpf/include/slots.h.
const slotsInSet = 16

// nthAddress is that of one of many objects beside each other.
func nthAddress(n int) uint64 { return firstAddress + uint64(n)*2048 }

// slotted is a hash with slots.
type slotted struct {
	t       testing.TB
	program *ebpf.Program
	rows    *ebpf.Map
	slots   *ebpf.Map
}

func newSlotted(t testing.TB, sets, entries uint32) *slotted {
	t.Helper()
	needs.Root(t)
	if err := kernel.New(kernel.Options{}).Require("func/bpf_sk_storage_get_tracing"); err != nil {
		require.ErrorIs(t, err, kernel.ErrNotSupported)
		t.Skip("no atomic exchange for programs before Linux 5.12") // about as old as that function
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(slotsObject))
	require.NoError(t, err)
	require.NoError(t, spec.Variables["rows"+setsSuffix].Set(sets))
	spec.Maps["rows"+slotsSuffix].MaxEntries = sets
	spec.Maps["rows"].MaxEntries = entries
	c, err := ebpf.NewCollection(spec)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return &slotted{t, c.Programs["obey"], c.Maps["rows"], c.Maps["rows"+slotsSuffix]}
}

// do returns what was found, or the error's number.
func (s *slotted) do(operation int, address, value uint64) uint32 {
	order := make([]byte, 14, 14+24) // an Ethernet header
	for _, n := range []uint64{uint64(operation), address, value} {
		order = binary.NativeEndian.AppendUint64(order, n)
	}
	result, _, err := s.program.Test(order)
	if err != nil {
		s.t.Error(err)
	}
	return result
}

// elsewhere is how many rows did not get their slot.
func (s *slotted) elsewhere() (n int) {
	var key, value []byte
	for i := s.rows.Iterate(); i.Next(&key, &value); {
		n++
	}
	return n
}

// requireEmpty wants nothing left anywhere, and nobody to be told to look elsewhere.
func (s *slotted) requireEmpty() {
	s.t.Helper()
	require.Zero(s.t, s.elsewhere())
	for i := range s.slots.MaxEntries() {
		set, err := s.slots.LookupBytes(i)
		require.NoError(s.t, err)
		require.Equal(s.t, make([]byte, (slotsInSet+1)*8), set[:(slotsInSet+1)*8], "addresses, and the number of rows elsewhere")
	}
}

// A Go map is the truth, for addresses that often want the same slot.
func TestKernelSlotsAreAMap(t *testing.T) {
	s := newSlotted(t, 2, 64)
	truth := make(map[uint64]uint32)
	addresses := make([]uint64, 48)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range addresses {
		addresses[i] = firstAddress + random.Uint64N(1<<30)*2048
	}
	mostElsewhere := 0
	for i := range 20000 {
		address := addresses[random.IntN(len(addresses))]
		value := uint32(i + 1)
		switch operation := random.IntN(4); operation {
		case slotFind:
			require.Equal(t, truth[address], s.do(slotFind, address, 0), i)
		case slotPut:
			require.Zero(t, s.do(slotPut, address, uint64(value)))
			truth[address] = value
		case slotAdd:
			want := uint32(0)
			if truth[address] == 0 {
				truth[address] = value
			} else {
				want = uint32(unix.EEXIST)
			}
			require.Equal(t, want, s.do(slotAdd, address, uint64(value)), i)
		case slotRemove:
			require.Zero(t, s.do(slotRemove, address, 0))
			delete(truth, address)
		}
		if i%100 == 0 {
			mostElsewhere = max(mostElsewhere, s.elsewhere())
		}
	}
	for _, address := range addresses {
		assert.Equal(t, truth[address], s.do(slotFind, address, 0))
		s.do(slotRemove, address, 0)
	}
	assert.Greater(t, mostElsewhere, 5, "no address wanted the slot of another")
	s.requireEmpty()
}

// What has no room is not there, and takes nothing from the others.
func TestKernelSlotsAreFull(t *testing.T) {
	s := newSlotted(t, 1, 4)
	there := make(map[uint64]bool)
	for i := range 64 {
		address := nthAddress(i)
		switch s.do(slotAdd, address, uint64(i+1)) {
		case 0:
			there[address] = true
		default:
			require.Zero(t, s.do(slotFind, address, 0))
		}
	}
	assert.Len(t, there, slotsInSet+4)
	for i := range 64 {
		address := nthAddress(i)
		if there[address] {
			assert.EqualValues(t, i+1, s.do(slotFind, address, 0))
		}
		s.do(slotRemove, address, 0)
		assert.Zero(t, s.do(slotFind, address, 0))
	}
	s.requireEmpty()
	for i := range slotsInSet {
		assert.Zero(t, s.do(slotAdd, nthAddress(i), 1), "room is given back")
	}
}

// Each address has one owner, as a socket has its lock; they share slots.
func TestKernelSlotsOfManyAtOnce(t *testing.T) {
	s := newSlotted(t, 1, 64)
	const owners, each, rounds = 8, 8, 1000
	var running sync.WaitGroup
	for owner := range owners {
		running.Go(func() {
			for round := range rounds {
				for i := range each {
					address := nthAddress(owner*each + i)
					value := uint64(owner*rounds + round + 1)
					if e := s.do(slotPut, address, value); e != 0 {
						t.Errorf("put: error %d", e)
					}
					if found := s.do(slotFind, address, 0); uint64(found) != value {
						t.Errorf("found %d instead of %d", found, value)
					}
				}
				for i := range each {
					address := nthAddress(owner*each + i)
					s.do(slotRemove, address, 0)
					if found := s.do(slotFind, address, 0); found != 0 {
						t.Errorf("found %d that was removed", found)
					}
				}
			}
		})
	}
	running.Wait()
	s.requireEmpty()
	for i := range 64 {
		assert.Zero(t, s.do(slotAdd, nthAddress(i), 1))
	}
	assert.Equal(t, 64-slotsInSet, s.elsewhere(), "slots that are lost")
}

// Objects that the allocator has put into one block are in one element, each with a slot of its own: the sizes are those of Linux's sockets.
func TestKernelSlotsOfNeighbors(t *testing.T) {
	const block = 32 << 10
	for _, size := range []uint64{2176, 2368, 2496} {
		s := newSlotted(t, 64, 64)
		n := 0
		for address := uint64(firstAddress + 7*block); address+size <= firstAddress+8*block; address += size {
			require.Zero(t, s.do(slotAdd, address, 1))
			n++
		}
		assert.Zero(t, s.elsewhere(), "of %d bytes", size)
		elements := 0
		for i := range s.slots.MaxEntries() {
			set, err := s.slots.LookupBytes(i)
			require.NoError(t, err)
			if free := make([]byte, slotsInSet*8); !bytes.Equal(set[:len(free)], free) {
				elements++
			}
		}
		assert.Equal(t, 1, elements, "%d of %d bytes", n, size)
	}
}
