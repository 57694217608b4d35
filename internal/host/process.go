// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

import (
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Defaults of [ProcessOptions].
const (
	DefaultMaxProcesses = 16_384
	DefaultProcessTTL   = time.Minute
)

// tick is the unit of times in /proc: 1/USER_HZ, which is 100 on every architecture that we run on.
const tick = uint64(time.Second / 100)

// ProcessOptions are the settings of [NewProcesses]. The zero value serves.
type ProcessOptions struct {
	// Root is where the host's root directory is mounted, such as "/hostfs"; empty for here. Its /proc must be the
	// host's, or the pids that programs report mean other processes in it.
	Root string
	// Cgroups, if any, gives CgroupID to processes that are read from /proc.
	Cgroups *Cgroups
	// Max bounds how many processes are remembered.
	Max int
	// TTL is how long what was read from /proc is taken for true: a process may change its name, or execute
	// another program while exec events are off.
	TTL time.Duration
	// GoneTTL is how long a process is remembered after its end.
	GoneTTL time.Duration
	// NegativeTTL is how long a process that was not found is not looked for again.
	NegativeTTL time.Duration
	// Now is the clock; nil takes time.Now.
	Now func() time.Time
}

// Process is what is known of a process. It never changes once it was handed out.
type Process struct {
	PID uint32
	// Start is when it started, CLOCK_BOOTTIME in ns, as the kernel reported it. 0 when the asker did not know.
	Start uint64
	// Name is its thread group leader's comm, at most 15 bytes unless it is a kernel worker.
	Name string
	// ExecutablePath as its own root directory has it; empty for kernel threads and where it could not be read.
	ExecutablePath string
	// ParentPID when it was read or learned.
	ParentPID uint32
	// CgroupID in the hierarchy that names containers; 0 when unknown.
	CgroupID uint64
}

// Processes resolves pids with start times to processes. It is safe for concurrent use.
type Processes struct {
	proc        string
	cgroups     *Cgroups
	cache       *cache[processKey, Process]
	ttl         time.Duration
	goneTTL     time.Duration
	negativeTTL time.Duration
	now         func() time.Time
}

// A pid alone is used again.
type processKey struct {
	start uint64
	pid   uint32
}

// unknownProcess stands for all that were not found.
var unknownProcess = &Process{}

// NewProcesses reads nothing yet.
func NewProcesses(opts ProcessOptions) *Processes {
	p := &Processes{
		proc:        under(opts.Root, "/proc"),
		cgroups:     opts.Cgroups,
		cache:       newCache[processKey, Process](orDefault(opts.Max, DefaultMaxProcesses)),
		ttl:         orDefault(opts.TTL, DefaultProcessTTL),
		goneTTL:     orDefault(opts.GoneTTL, DefaultGoneTTL),
		negativeTTL: orDefault(opts.NegativeTTL, DefaultNegativeTTL),
		now:         opts.Now,
	}
	if p.now == nil {
		p.now = time.Now
	}
	return p
}

// Len returns how many processes are remembered, those that were not found among them.
func (p *Processes) Len() int { return p.cache.len() }

// Learn is told of a process as an exec event has it. PID and Start must be set. It stands until the next exec.
func (p *Processes) Learn(process Process) {
	p.cache.put(processKey{process.Start, process.PID}, &process, rankLive, 0, p.now().UnixNano())
}

// MarkGone is told that a process ended: it is remembered for a while yet.
func (p *Processes) MarkGone(pid uint32, start uint64) {
	now := p.now()
	p.cache.retire(processKey{start, pid}, rankGone, now.Add(p.goneTTL).UnixNano(), now.UnixNano())
}

// Resolve returns the process that has a pid and started at a time, CLOCK_BOOTTIME in ns: its
// task_struct.start_boottime. A start of 0 takes whoever has the pid now. It reports false when it is not known and
// not there any more.
func (p *Processes) Resolve(pid uint32, start uint64) (*Process, bool) {
	key := processKey{start, pid}
	known, expires := p.cache.get(key)
	if known != nil && (expires == 0 || p.now().UnixNano() < expires) {
		if known == unknownProcess {
			return nil, false
		}
		return known, true
	}
	return p.find(key, known)
}

// find reads a process that is not known, or whose time is over.
func (p *Processes) find(key processKey, old *Process) (*Process, bool) {
	found, ok := p.read(key)
	now := p.now()
	r, ttl := rankLive, p.ttl
	if !ok {
		found, r, ttl = unknownProcess, rankUnknown, p.negativeTTL
		if old != nil && old != unknownProcess && key.start != 0 {
			// It ended since. What it was called is still true.
			found, r, ttl = old, rankGone, p.goneTTL
		}
	}
	found = p.cache.replace(key, old, found, r, now.Add(ttl).UnixNano(), now.UnixNano())
	if found == unknownProcess {
		return nil, false
	}
	return found, true
}

// read reads a process from /proc, and reports whether it is there and the one that is meant.
func (p *Processes) read(key processKey) (*Process, bool) {
	// An open directory stays that process's, even if its pid is used again in between.
	dir, err := os.OpenRoot(filepath.Join(p.proc, strconv.FormatUint(uint64(key.pid), 10)))
	if err != nil {
		return nil, false
	}
	defer dir.Close()
	data, err := dir.ReadFile("stat")
	if err != nil {
		return nil, false
	}
	stat, err := parseStat(data)
	if err != nil || !sameStart(stat.start, key.start) {
		return nil, false
	}
	process := &Process{PID: key.pid, Start: key.start, Name: stat.name, ParentPID: stat.parent}
	if data, err := dir.ReadFile("comm"); err == nil {
		process.Name = parseComm(data)
	}
	// A kernel thread has none, and other users' are not to be seen without CAP_SYS_PTRACE.
	if link, err := dir.Readlink("exe"); err == nil {
		process.ExecutablePath = parseExe(link)
	}
	if p.cgroups != nil {
		if data, err := dir.ReadFile("cgroup"); err == nil {
			name, ok := parseProcCgroup(data, p.cgroups.Hierarchy())
			if ok {
				name, ok = p.cgroups.fromNamespace(name)
			}
			if ok {
				process.CgroupID, _ = p.cgroups.IDOf(name)
			}
		}
	}
	return process, true
}

// sameStart compares a start time in ticks with one in ns. /proc rounds down; a tick either way is allowed for.
func sameStart(ticks, ns uint64) bool {
	want := ns / tick
	return ns == 0 || ticks == want || ticks+1 == want || ticks == want+1
}
