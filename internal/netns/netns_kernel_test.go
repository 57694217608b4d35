// SPDX-License-Identifier: Apache-2.0

//go:build linux

package netns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// Whatever thread was in another namespace, all are back: the first one of a process does not end, and /proc/net is what it sees.
func TestKernelWithin(t *testing.T) {
	needs.Root(t)
	own, err := os.Readlink(Thread)
	require.NoError(t, err)
	there := exec.Command("cat")
	there.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	stdin, err := there.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, there.Start())
	defer func() { stdin.Close(); assert.NoError(t, there.Wait()) }()
	link := fmt.Sprintf("/proc/%d/ns/net", there.Process.Pid)
	fd, inode, err := Open(link)
	require.NoError(t, err)
	defer unix.Close(fd)
	other, err := os.Readlink(link)
	require.NoError(t, err)
	first := 0
	require.Eventually(t, func() bool {
		var wait sync.WaitGroup
		for range 100 {
			wait.Go(func() {
				assert.NoError(t, Within(fd, inode, func() error {
					if unix.Gettid() == os.Getpid() {
						first++ // there is one
					}
					name, err := os.Readlink(Thread)
					assert.Equal(t, other, name)
					return err
				}))
			})
		}
		wait.Wait()
		return first > 0
	}, time.Minute, time.Millisecond)
	tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
	require.NoError(t, err)
	for _, task := range tasks {
		name, err := os.Readlink(task)
		if err == nil { // else it has ended
			assert.Equal(t, own, name, task)
		}
	}
}
