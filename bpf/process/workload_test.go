// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// childVariable, in the environment, makes the test binary one of the processes that the tests look at.
const childVariable = "EBPFRECEIVER_TEST_CHILD"

// The child has to run on the process's first thread, and that is where init functions run.
func init() {
	mode := os.Getenv(childVariable)
	if mode == "" {
		return
	}
	runtime.LockOSThread()
	os.Unsetenv(childVariable)
	name, argument, _ := strings.Cut(mode, ":")
	children[name](argument)
	os.Exit(0)
}

// children by name, with what they do. They report by their exit code.
var children = map[string]func(argument string){
	"burn": func(string) {
		memory := make([]byte, 48<<20)
		for i := 0; i < len(memory); i += 4096 {
			memory[i] = 1
		}
		burn(150 * time.Millisecond)
		zero, err := os.Open("/dev/zero")
		check(err)
		for range 100 {
			_, err = zero.Read(memory[:1<<20])
			check(err)
		}
		runtime.KeepAlive(memory)
	},
	// Threads that come and go, then some that burn time up to the end.
	"threads": func(string) {
		var gone sync.WaitGroup
		for range 20 {
			gone.Go(func() { runtime.LockOSThread() }) // never unlocked: the thread ends
		}
		gone.Wait()
		var burnt sync.WaitGroup
		for range 4 {
			burnt.Go(func() {
				runtime.LockOSThread()
				burn(30 * time.Millisecond)
			})
		}
		burnt.Wait()
		os.Exit(3)
	},
	// Many threads that end at the same time, as the process does.
	"end_together": func(string) {
		var started sync.WaitGroup
		for range 16 {
			started.Add(1)
			go func() {
				runtime.LockOSThread()
				started.Done()
				burn(time.Minute)
			}()
		}
		started.Wait()
	},
	// The first thread ends, and the process goes on without it.
	"leader_first": func(string) {
		go func() {
			runtime.LockOSThread()
			// A thread may have a name of its own, which is not the process's.
			name := append([]byte("the-last-thread"), 0)
			check(unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0))
			for !zombieThread(os.Getpid()) {
				runtime.Gosched()
			}
			burn(20 * time.Millisecond)
			os.Exit(5)
		}()
		exitThread()
	},
	"exec_from_thread": func(string) {
		done := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() == os.Getpid() {
				os.Exit(99)
			}
			check(syscall.Exec("/bin/true", []string{"true", "from-a-thread"}, nil))
		}()
		<-done
	},
	"memfd": func(string) {
		fd, err := unix.MemfdCreate("hidden", 0)
		check(err)
		program, err := os.ReadFile("/bin/true")
		check(err)
		f := os.NewFile(uintptr(fd), "memfd")
		_, err = f.Write(program)
		check(err)
		check(execDescriptor(fd))
	},
	"deleted": func(program string) {
		fd, err := unix.Open(program, unix.O_RDONLY, 0)
		check(err)
		check(os.Remove(program))
		check(execDescriptor(fd))
	},
	// argument: "execve or execveat,count,path"
	"fail": func(argument string) {
		parts := strings.SplitN(argument, ",", 3)
		count, err := strconv.Atoi(parts[1])
		check(err)
		for range count {
			var err error
			if parts[0] == "execve" {
				err = syscall.Exec(parts[2], []string{"x"}, nil)
			} else {
				err = execveat(unix.AT_FDCWD, parts[2], 0)
			}
			if err == nil {
				os.Exit(98)
			}
		}
	},
	// Waits for its input to end, then takes memory until it is stopped.
	"eat": func(string) {
		var b [1]byte
		_, _ = os.Stdin.Read(b[:])
		for {
			memory := make([]byte, 16<<20)
			for i := 0; i < len(memory); i += 4096 {
				memory[i] = 1
			}
			eaten = append(eaten, memory)
		}
	},
	// A signal to itself, of which a handler is told.
	"signal_self": func(argument string) {
		number, err := strconv.Atoi(argument)
		check(err)
		check(unix.Tgkill(os.Getpid(), unix.Gettid(), syscall.Signal(number)))
	},
}

var eaten [][]byte

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(97)
	}
}

// burn uses processor time until the calling thread has used so much more of it.
func burn(d time.Duration) {
	used := func() time.Duration {
		var ts unix.Timespec
		check(unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts))
		return time.Duration(ts.Nano())
	}
	for end := used() + d; used() < end; {
	}
}

// exitThread ends the calling thread alone.
func exitThread() {
	_, _, _ = unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
}

func zombieThread(tid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", tid))
	check(err)
	return strings.Contains(string(stat), ") Z ")
}

// execDescriptor executes an open file. Debian's 5.10 takes none without a path, and says ENOENT.
func execDescriptor(fd int) error {
	if err := execveat(fd, "", unix.AT_EMPTY_PATH); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), []string{"argument"}, nil)
}

func execveat(dir int, path string, flags int) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	arg, err := unix.BytePtrFromString("argument")
	if err != nil {
		return err
	}
	argv := []*byte{arg, nil}
	envp := []*byte{nil}
	_, _, errno := unix.Syscall6(unix.SYS_EXECVEAT, uintptr(dir), uintptr(unsafe.Pointer(p)),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envp[0])), uintptr(flags), 0)
	return errno
}

// cgroup is a cgroup of the v2 hierarchy, with what the kernel half knows it by.
type cgroup struct {
	*kernel.Cgroup
	ID  uint64
	dir *os.File
}

func newCgroup(t *testing.T) *cgroup {
	t.Helper()
	c := &cgroup{Cgroup: kernel.NewCgroup(t)}
	var err error
	c.dir, err = os.Open(c.Dir)
	require.NoError(t, err)
	t.Cleanup(func() { c.dir.Close() })
	var stat unix.Stat_t
	require.NoError(t, unix.Fstat(int(c.dir.Fd()), &stat))
	c.ID = stat.Ino
	return c
}

// command runs in the cgroup from its first moment on.
func (c *cgroup) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(c.dir.Fd())}
	cmd.Stderr = os.Stderr
	return cmd
}

// child is one of children.
func (c *cgroup) child(t *testing.T, mode string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := c.command(self)
	cmd.Env = append(os.Environ(), childVariable+"="+mode)
	return cmd
}

// finish runs a command and returns how it ended, whatever way that was.
func finish(t *testing.T, cmd *exec.Cmd) *os.ProcessState {
	t.Helper()
	require.NoError(t, cmd.Start())
	_ = cmd.Wait() // the state says more
	require.NotNil(t, cmd.ProcessState)
	return cmd.ProcessState
}

// copyProgram copies an executable, so that the test may rename, move or delete it.
func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
	require.NoError(t, os.WriteFile(to, b, 0o755))
}
