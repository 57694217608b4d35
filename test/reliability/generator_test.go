// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"bufio"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// numbered is a probe of a user's kind, which a receiver loads by its path.
//
//go:embed numbered/probe.yaml numbered/numbered.bpf.o
var numbered embed.FS

// burst is how many events of each type, or keys, come with one system call of a generator: the most that the probe makes or, on emulated
// processors, as many as an old kernel's verifier looks through in seconds. TestMain sets it.
var burst int64

// numberedProbe is the probe's folder, and the token that its generators need.
func numberedProbe(t testing.TB) (dir string, token uint32) {
	t.Helper()
	kernel.NeedRoot(t)
	parent := t.TempDir()
	require.NoError(t, os.Chmod(parent, 0o755))
	require.NoError(t, os.CopyFS(parent, numbered))
	return filepath.Join(parent, "numbered"), 0x01010101 | rand.Uint32()&0x7e7e7e7e // a name has no zero byte in it
}

// What generators make.
const (
	events = 'e'
	keys   = 'k'
)

// generator is a process that makes numbered events or keys on one CPU.
type generator struct {
	t       testing.TB
	process *exec.Cmd
	stdin   io.WriteCloser
	// made is how many bursts there were so far, at least.
	made  atomic.Int64
	ended chan struct{}
	err   error
}

// newGenerator prepares one, in a cgroup if it is not nil. pace is the time that a burst takes at least.
func newGenerator(t testing.TB, c *kernel.Cgroup, token uint32, what byte, stream int, pace time.Duration) *generator {
	t.Helper()
	args := []string{strconv.FormatUint(uint64(token), 10), string(what), strconv.Itoa(stream), pace.String()}
	g := &generator{t: t, process: exec.Command("/proc/self/exe", args...), ended: make(chan struct{})}
	if c != nil {
		g.process = c.Command("/proc/self/exe", args...)
	}
	g.process.Env = append(os.Environ(), childVariable+"=generate")
	g.process.Stderr = os.Stderr
	var err error
	g.stdin, err = g.process.StdinPipe()
	require.NoError(t, err)
	out, err := g.process.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, g.process.Start())
	go func() {
		defer close(g.ended)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			n, err := strconv.ParseInt(lines.Text(), 10, 64)
			if err != nil {
				g.err = err
				break
			}
			g.made.Store(n)
		}
		if err := g.process.Wait(); err != nil {
			g.err = err
		}
	}()
	t.Cleanup(func() {
		_ = g.stdin.Close()
		_ = g.process.Process.Kill()
		<-g.ended
	})
	return g
}

// run makes n bursts and comes back. It may be called again.
func (g *generator) run(n int) {
	g.t.Helper()
	before := g.made.Load()
	_, err := fmt.Fprintln(g.stdin, n)
	require.NoError(g.t, err)
	require.Eventually(g.t, func() bool { return g.made.Load() == before+int64(n) || g.over() }, 30*time.Minute, time.Millisecond)
	require.False(g.t, g.over(), "the generator ended: %v", g.err)
}

// on tells whether it is on a CPU and may be on no other.
func (g *generator) on(cpu int) bool {
	g.t.Helper()
	var want unix.CPUSet
	want.Set(cpu)
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", g.process.Process.Pid))
	require.NoError(g.t, err)
	return slices.ContainsFunc(threads, func(thread os.DirEntry) bool {
		id, err := strconv.Atoi(thread.Name())
		require.NoError(g.t, err)
		var cpus unix.CPUSet
		return unix.SchedGetaffinity(id, &cpus) == nil && cpus == want
	})
}

// end ends its process.
func (g *generator) end() {
	g.t.Helper()
	require.NoError(g.t, g.stdin.Close())
	<-g.ended
	require.NoError(g.t, g.err)
}

// together has generators make n bursts each, at the same time.
func together(n int, generators ...*generator) {
	var running sync.WaitGroup
	for _, g := range generators {
		running.Go(func() { g.run(n) })
	}
	running.Wait()
}

func (g *generator) over() bool {
	select {
	case <-g.ended:
		return true
	default:
		return false
	}
}

// stay has this thread run on one CPU: two that met might keep each other's programs from running, on kernels that may preempt there. While a CPU is away,
// its threads run elsewhere, and they do not come back by themselves.
func stay(cpu int) error {
	var cpus unix.CPUSet
	cpus.Set(cpu)
	err := unix.SchedSetaffinity(0, &cpus)
	if errors.Is(err, unix.EINVAL) {
		if online, err := os.ReadFile(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/online", cpu)); err == nil && string(online) == "0\n" {
			return nil
		}
	}
	return err
}

// generate is the generator's process. It reads how many bursts to make, makes them, and tells how many there were in all.
func generate(args []string) error {
	runtime.LockOSThread()
	token, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil {
		return err
	}
	stream, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	pace, err := time.ParseDuration(args[3])
	if err != nil {
		return err
	}
	cpu := stream % runtime.NumCPU()
	var name [16]byte
	binary.NativeEndian.PutUint32(name[:], uint32(token))
	name[4], name[5] = args[1][0], byte('A'+stream)
	in := bufio.NewScanner(os.Stdin)
	total := 0
	for in.Scan() {
		n, err := strconv.Atoi(strings.TrimSpace(in.Text()))
		if err != nil {
			return err
		}
		if err := stay(cpu); err != nil {
			return fmt.Errorf("stay on CPU %d: %w", cpu, err)
		}
		start := time.Now()
		for i := range n {
			if pace > 0 {
				if wait := time.Until(start.Add(time.Duration(i) * pace)); wait > 0 {
					time.Sleep(wait)
				}
			}
			if _, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name)), 0, 0, 0, 0); errno != 0 {
				return fmt.Errorf("set the thread's name: %w", errno)
			}
			if total++; total%16 == 0 || i == n-1 {
				fmt.Println(total)
			}
		}
	}
	return in.Err()
}
