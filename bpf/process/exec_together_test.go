// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// Execs that meet on one CPU do not meet in a record: each has the path, directory and arguments of its own process. Where the kernel
// preempts a task in the middle of a program, it skips that program for the others, and says how often.
func TestKernelProcessExecsAtOnce(t *testing.T) {
	kernel.NeedRoot(t)
	group := newCgroup(t)
	p := loadProcess(t, processOptions{
		Programs: []string{"process_exec"}, Events: []uint32{eventExec}, Cgroup: group, RingSize: 16 << 20,
		Variables: map[string]any{"max_args_size": uint64(8192)},
	})
	type exec struct{ path, directory, argument string }
	each := kernel.Load(400, 12)
	writers := make([]exec, 8)
	for i := range writers { // before any of them forks: a child would hold the file open for writing
		writers[i].directory = filepath.Join(t.TempDir(), strings.Repeat(strconv.Itoa(i), 200))
		writers[i].path = filepath.Join(writers[i].directory, "true")
		copyProgram(t, "/bin/true", writers[i].path)
	}
	var mu sync.Mutex
	started := make(map[uint32]exec)
	var all sync.WaitGroup
	for w, e := range writers {
		all.Go(func() {
			for i := range each {
				e.argument = strings.Repeat(fmt.Sprintf("%d.%d ", w, i), 500)
				cmd := group.command(e.path, e.argument)
				cmd.Dir = e.directory
				if !assert.NoError(t, cmd.Run()) {
					return
				}
				mu.Lock()
				started[uint32(cmd.ProcessState.Pid())] = e
				mu.Unlock()
			}
		})
	}
	all.Wait()
	require.Len(t, started, len(writers)*each)
	found := make(map[uint32]exec)
	for _, e := range p.execs() {
		require.Len(t, e.Args, 2)
		require.Equal(t, e.Path, e.Args[0])
		found[e.Process.PID] = exec{e.Path, e.Directory, e.Args[1]}
	}
	for pid, e := range found {
		require.Equal(t, started[pid], e)
	}
	stats, err := p.programs["process_exec"].Stats()
	require.NoError(t, err)
	require.LessOrEqual(t, uint64(len(started)-len(found)), stats.RecursionMisses)
}
