// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

const processObject = "process.bpf.o"

// Enumerators of enum process_event.
const (
	eventExec = iota
	eventExit
	eventFork
	eventSignal
	eventOOMKill
)

// Flags of enum event_filter.
const filterCgroup = 1 << 2

// arguments is how many arguments a tracepoint has in the running kernel.
func arguments(t *testing.T, tracepoint string) int {
	t.Helper()
	types, err := btf.LoadKernelSpec()
	require.NoError(t, err)
	var function *btf.Typedef
	require.NoError(t, types.TypeByName("btf_trace_"+tracepoint, &function))
	pointer, ok := function.Type.(*btf.Pointer)
	require.True(t, ok)
	proto, ok := pointer.Target.(*btf.FuncProto)
	require.True(t, ok)
	return len(proto.Params) - 1 // the first is the attachment's
}

// exitPrograms are the ways to see a process's end once of which this kernel is capable, the best one first. The second is that of
// older kernels, and works on all.
func exitPrograms(t *testing.T) []string {
	t.Helper()
	if arguments(t, "sched_process_exit") < 2 {
		return []string{"process_exit_counted"}
	}
	return []string{"process_exit", "process_exit_counted"}
}

// oomPrograms see a victim.
func oomPrograms(t *testing.T) []string {
	t.Helper()
	if arguments(t, "mark_victim") < 2 {
		return []string{"oom_kill_marked", "oom_kill_exit"}
	}
	return []string{"oom_kill"}
}

// eventConfig is struct event_config.
type eventConfig struct {
	Interval, Burst  uint64
	Enabled, Filters uint32
}

// eventFilterKey is struct event_filter_key.
type eventFilterKey struct {
	Event, Filter uint32
	Value         [16]byte
}

// eventStats is struct event_stats.
type eventStats struct{ Produced, Submitted, Dropped, Filtered, Limited uint64 }

// processOptions choose what of the probe is loaded.
type processOptions struct {
	// Programs by name.
	Programs []string
	// Events that are enabled, of Cgroup only.
	Events []uint32
	Cgroup *cgroup
	// Variables of the object.
	Variables map[string]any
	// RingSize in bytes; 0 takes the object's.
	RingSize uint32
}

// processProbe is the loaded and attached probe. Its records are submitted before the call that caused them
// returns, so that whoever has waited for a process finds its records without waiting again.
type processProbe struct {
	t        *testing.T
	programs map[string]*ebpf.Program
	maps     map[string]*ebpf.Map
	// tables are the inner maps of the swapped ones.
	tables map[string]*ebpf.Map
	reader *ringbuf.Reader
}

func loadProcess(t *testing.T, o processOptions) *processProbe {
	t.Helper()
	spec, err := ebpf.LoadCollectionSpec(processObject)
	require.NoError(t, err)
	for name := range spec.Programs {
		keep := false
		for _, wanted := range o.Programs {
			keep = keep || name == wanted
		}
		if !keep {
			delete(spec.Programs, name)
		}
	}
	require.Len(t, spec.Programs, len(o.Programs))
	if o.RingSize != 0 {
		spec.Maps["events"].MaxEntries = o.RingSize
	}
	var configs [16]eventConfig
	for _, id := range o.Events {
		configs[id].Enabled = 1
		if o.Cgroup != nil {
			configs[id].Filters = filterCgroup
		}
	}
	require.NoError(t, spec.Variables["event_config"].Set(configs))
	require.NoError(t, spec.Variables["event_wakeup_bytes"].Set(uint32(0)))
	for name, value := range o.Variables {
		require.NoError(t, spec.Variables[name].Set(value), name)
	}
	p := &processProbe{t: t, tables: map[string]*ebpf.Map{}}
	kernel.Unprivileged(t, func() { p.load(spec, o) })
	return p
}

// load loads and attaches.
func (p *processProbe) load(spec *ebpf.CollectionSpec, o processOptions) {
	t := p.t
	t.Helper()
	collection, err := ebpf.NewCollection(spec)
	require.NoError(t, err)
	t.Cleanup(collection.Close)
	p.programs, p.maps = collection.Programs, collection.Maps
	for _, name := range []string{"processes_created", "process_lifetimes", "exec_failures"} {
		inner, err := ebpf.NewMap(spec.Maps[name].InnerMap.Copy())
		require.NoError(t, err)
		t.Cleanup(func() { inner.Close() })
		require.NoError(t, p.maps[name].Put(uint32(0), inner))
		p.tables[name] = inner
	}
	if o.Cgroup != nil {
		for _, id := range o.Events {
			key := eventFilterKey{Event: id, Filter: filterCgroup}
			binary.NativeEndian.PutUint64(key.Value[:], o.Cgroup.ID)
			require.NoError(t, p.maps["event_filters"].Put(key, uint8(1)))
		}
	}
	p.reader, err = ringbuf.NewReader(p.maps["events"])
	require.NoError(t, err)
	t.Cleanup(func() { p.reader.Close() })
	for name, program := range p.programs {
		p.attach(program, spec.Programs[name].SectionName)
	}
}

// attach keeps the link until the test ends: a discarded one would detach when it is collected.
func (p *processProbe) attach(program *ebpf.Program, section string) {
	p.t.Helper()
	var l link.Link
	var err error
	if tracepoint, ok := strings.CutPrefix(section, "tracepoint/"); ok {
		group, name, _ := strings.Cut(tracepoint, "/")
		l, err = link.Tracepoint(group, name, program, nil)
	} else {
		l, err = link.AttachTracing(link.TracingOptions{Program: program})
	}
	require.NoError(p.t, err, section)
	p.t.Cleanup(func() { l.Close() })
}

// stats sums an event's counts over the CPUs, and holds them to their identity.
func (p *processProbe) stats(id uint32) eventStats {
	p.t.Helper()
	var perCPU []eventStats
	require.NoError(p.t, p.maps["event_stats"].Lookup(id, &perCPU))
	var sum eventStats
	for _, s := range perCPU {
		sum.Produced += s.Produced
		sum.Submitted += s.Submitted
		sum.Dropped += s.Dropped
		sum.Filtered += s.Filtered
		sum.Limited += s.Limited
	}
	return sum
}

// requireBalanced reads the counts until two readings agree: other processes of the host are counted, too, and a
// per-CPU map is not read at one moment.
func (p *processProbe) requireBalanced(id uint32) eventStats {
	p.t.Helper()
	before := p.stats(id)
	for range 1000 {
		s := p.stats(id)
		if s == before {
			require.Equal(p.t, s.Produced, s.Submitted+s.Dropped+s.Filtered+s.Limited)
			return s
		}
		before = s
	}
	p.t.Fatal("the host never came to rest")
	return eventStats{}
}

// drain returns all records that are in the ring, by event id, in order.
func (p *processProbe) drain() map[uint32][]record {
	p.t.Helper()
	records := make(map[uint32][]record)
	for p.reader.AvailableBytes() > 0 {
		r, err := p.reader.Read()
		require.NoError(p.t, err)
		var header eventHeader
		_, err = binary.Decode(r.RawSample, binary.NativeEndian, &header)
		require.NoError(p.t, err)
		require.EqualValues(p.t, len(r.RawSample), header.Size)
		records[header.ID] = append(records[header.ID], record(r.RawSample))
	}
	return records
}

// record is one of the ring's.
type record []byte

// eventHeader is struct event_header.
type eventHeader struct {
	Time     uint64
	ID, Size uint32
}

// processInfo is struct process_info.
type processInfo struct {
	Start, Cgroup             uint64
	PID, VPID, ParentPID, UID uint32
	Comm                      [16]byte
}

func (i *processInfo) comm() string { return cString(i.Comm[:]) }

func cString(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// blob is struct blob.
type blob struct{ Offset, Length uint16 }

// execFixed is struct exec_event.
type execFixed struct {
	Header                                                        eventHeader
	Process                                                       processInfo
	RealUID, GID, RealGID, ArgsCount, ArgsSize                    uint32
	ArgsTruncated, PathTruncated, DirectoryTruncated, Memfd, Gone bool
	_                                                             [3]byte
	NameBlob, PathBlob, DirectoryBlob, ArgsBlob                   blob
	_                                                             [4]byte
}

// execEvent is a decoded struct exec_event.
type execEvent struct {
	execFixed
	Name, Path, Directory string
	Args                  []string
}

// exitEvent is struct exit_event.
type exitEvent struct {
	Header                                              eventHeader
	Process                                             processInfo
	Lifetime, CPUTime, UserTime, SystemTime, MemoryPeak uint64
	Code, Signal                                        uint32
	CoreDumped                                          bool
	_                                                   [7]byte
}

// forkEvent is struct fork_event.
type forkEvent struct {
	Header     eventHeader
	Process    processInfo
	CreatorPID uint32
	_          [4]byte
}

// signalEvent is struct signal_event.
type signalEvent struct {
	Header               eventHeader
	Process              processInfo
	Signal               uint32
	Code                 int32
	Result               uint32
	SenderPID, SenderUID uint32
	SenderComm           [16]byte
	ToProcess            bool
	_                    [3]byte
}

// oomKillEvent is struct oom_kill_event.
type oomKillEvent struct {
	Header          eventHeader
	Process         processInfo
	Memory          uint64
	ScoreAdjustment int32
	_               [4]byte
}

// decodeAll decodes records of a fixed size.
func decodeAll[T any](t *testing.T, records []record) []T {
	t.Helper()
	decoded := make([]T, len(records))
	for i, r := range records {
		n, err := binary.Decode(r, binary.NativeEndian, &decoded[i])
		require.NoError(t, err)
		require.Len(t, r, n)
	}
	return decoded
}

func decodeExecs(t *testing.T, records []record) []execEvent {
	t.Helper()
	decoded := make([]execEvent, len(records))
	for i, r := range records {
		e := &decoded[i]
		_, err := binary.Decode(r, binary.NativeEndian, &e.execFixed)
		require.NoError(t, err)
		bytesOf := func(b blob) []byte {
			require.LessOrEqual(t, int(b.Offset)+int(b.Length), len(r))
			return r[b.Offset : b.Offset+b.Length]
		}
		e.Name = string(bytesOf(e.NameBlob))
		e.Path = joinComponents(bytesOf(e.PathBlob))
		e.Directory = joinComponents(bytesOf(e.DirectoryBlob))
		if args := bytesOf(e.ArgsBlob); len(args) > 0 {
			e.Args = strings.Split(strings.TrimSuffix(string(args), "\x00"), "\x00")
		}
	}
	return decoded
}

// joinComponents makes a path of components that end with a NUL each, the leaf first.
func joinComponents(b []byte) string {
	path := ""
	for _, component := range strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00") {
		path = "/" + component + path
	}
	return path
}
