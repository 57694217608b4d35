// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"bytes"
	"debug/elf"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// execProbe is loaded for the execs of one new cgroup.
func execProbe(t *testing.T, variables map[string]any) (*processProbe, *cgroup) {
	t.Helper()
	kernel.NeedRoot(t)
	group := newCgroup(t)
	return loadProcess(t, processOptions{
		Programs: []string{"process_exec"}, Events: []uint32{eventExec}, Cgroup: group, Variables: variables,
	}), group
}

func (p *processProbe) execs() []execEvent {
	p.t.Helper()
	return decodeExecs(p.t, p.drain()[eventExec])
}

// lastExec runs a command that succeeds, and returns its last exec.
func (p *processProbe) lastExec(cmd *exec.Cmd) execEvent {
	p.t.Helper()
	state := finish(p.t, cmd)
	require.Zero(p.t, state.ExitCode())
	execs := p.execs()
	require.NotEmpty(p.t, execs)
	last := execs[len(execs)-1]
	require.EqualValues(p.t, state.Pid(), last.Process.PID)
	return last
}

// running is a process that waits for its standard input to end.
type running struct {
	cmd   *exec.Cmd
	input io.Closer
}

// startRunning returns when the program is being executed, or about to be.
func startRunning(t *testing.T, cmd *exec.Cmd) *running {
	t.Helper()
	input, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	r := &running{cmd, input}
	t.Cleanup(r.stop)
	return r
}

func (r *running) stop() {
	r.input.Close()
	_ = r.cmd.Wait()
}

// proc is a file of the process's in /proc.
func (r *running) proc(name string) string {
	return filepath.Join("/proc", strconv.Itoa(r.cmd.Process.Pid), name)
}

// exe is the path of its program, which is not the test's. Newer kernels close the pipe that Start waits for a little before the program is.
func (r *running) exe(t *testing.T) (path string) {
	t.Helper()
	own, err := os.Readlink("/proc/self/exe")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		path, err = os.Readlink(r.proc("exe"))
		return err == nil && path != own
	}, time.Minute, time.Millisecond)
	return path
}

func TestKernelProcessExecAgreesWithProc(t *testing.T) {
	p, group := execProbe(t, map[string]any{"max_args_size": uint64(8192)})
	base := t.TempDir()
	deep := filepath.Join(base, strings.Repeat("some-component/", 25))
	long := filepath.Join(base, strings.Repeat("l", 255), strings.Repeat("m", 255))
	mounted := filepath.Join(base, "mounted")
	require.NoError(t, os.MkdirAll(filepath.Join(mounted, "above"), 0o755))
	mount(t, "tmpfs", filepath.Join(mounted, "above"), "tmpfs", 0)
	source := filepath.Join(base, "source", "below")
	target := filepath.Join(mounted, "above", "target")
	require.NoError(t, os.MkdirAll(source, 0o755))
	require.NoError(t, os.MkdirAll(target, 0o755))
	mount(t, source, target, "", unix.MS_BIND)
	for _, dir := range []string{deep, long, source, filepath.Join(mounted, "above")} {
		copyProgram(t, "/bin/cat", filepath.Join(dir, "cat"))
	}
	odd := []string{"", " ", "two words", "new\nline", "\x01\xff\xfe", "ü", strings.Repeat("x", 3000), ""}
	for _, test := range []struct {
		name, program, dir string
		args               []string
	}{
		{"a system program", "/bin/cat", "/", nil},
		{"a deep path", filepath.Join(deep, "cat"), deep, nil},
		{"long components", filepath.Join(long, "cat"), long, nil},
		{"a file system below another", filepath.Join(mounted, "above", "cat"), filepath.Join(mounted, "above"), nil},
		{"a bind mount", filepath.Join(target, "cat"), target, nil},
		{"the source of a bind mount", filepath.Join(source, "cat"), base, nil},
		{"a file system of the kernel", "/bin/cat", "/proc/self", nil},
		{"odd arguments", "/bin/sh", base, append([]string{"-c", "exec /bin/cat", "name"}, odd...)},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := group.command(test.program, test.args...)
			cmd.Dir = test.dir
			cmd.Args[0] = "an argument of its own choice"
			r := startRunning(t, cmd)
			exe := r.exe(t)
			cwd, err := os.Readlink(r.proc("cwd"))
			require.NoError(t, err)
			comm, err := os.ReadFile(r.proc("comm"))
			require.NoError(t, err)
			r.stop()
			execs := p.execs()
			require.NotEmpty(t, execs)
			first, last := execs[0], execs[len(execs)-1]
			require.Equal(t, cmd.Args, first.Args)
			require.EqualValues(t, len(cmd.Args), first.ArgsCount)
			require.EqualValues(t, len(strings.Join(cmd.Args, "\x00"))+1, first.ArgsSize)
			require.False(t, first.ArgsTruncated)
			require.Equal(t, cwd, first.Directory)
			require.EqualValues(t, os.Getpid(), first.Process.ParentPID)
			require.Equal(t, first.Process.PID, first.Process.VPID)
			if len(execs) == 1 { // else the link in /proc is already the second program's
				require.Equal(t, exe, last.Path)
				require.Equal(t, strings.TrimSuffix(string(comm), "\n"), last.Process.comm())
			}
			require.Equal(t, filepath.Base(last.Path), last.Name)
			require.False(t, last.Memfd || last.Gone || last.PathTruncated || last.DirectoryTruncated)
		})
	}
}

func TestKernelProcessPathsAreCut(t *testing.T) {
	p, group := execProbe(t, nil)
	base := t.TempDir()
	name := strings.Repeat("c", 200)
	dir := filepath.Join(base, strings.Repeat(name+"/", 8))
	copyProgram(t, "/bin/true", filepath.Join(dir, "true"))
	cmd := group.command(filepath.Join(dir, "true"))
	cmd.Dir = dir
	e := p.lastExec(cmd)
	require.True(t, e.PathTruncated)
	require.True(t, e.DirectoryTruncated)
	require.True(t, strings.HasSuffix(filepath.Join(dir, "true"), e.Path), e.Path)
	require.True(t, strings.HasSuffix(filepath.Clean(dir), e.Directory), e.Directory)
	require.GreaterOrEqual(t, len(e.Path), 1024)

	many := filepath.Join(base, strings.Repeat("d/", 100))
	copyProgram(t, "/bin/true", filepath.Join(many, "true"))
	e = p.lastExec(group.command(filepath.Join(many, "true")))
	require.True(t, e.PathTruncated)
	require.True(t, strings.HasSuffix(filepath.Join(many, "true"), e.Path), e.Path)
	require.Equal(t, "true", e.Name)
}

// A file that is a mount point itself has the mount point's name, not that of the file behind it.
func TestKernelProcessExecOfMountedFile(t *testing.T) {
	p, group := execProbe(t, nil)
	dir := t.TempDir()
	behind, point := filepath.Join(dir, "ab"), filepath.Join(dir, "run-me")
	copyProgram(t, "/bin/true", behind)
	require.NoError(t, os.WriteFile(point, nil, 0o755))
	cmd := group.command("/bin/sh", "-c", `mount --bind "$1" "$2" && exec "$2"`, "sh", behind, point)
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNS
	cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS // makes all mounts private first
	require.Zero(t, finish(t, cmd).ExitCode())
	execs := p.execs()
	last := execs[len(execs)-1]
	require.Equal(t, point, last.Path)
	require.Equal(t, "run-me", last.Name)
}

// Two mount namespaces call the same file by different names; /proc shows the process's own.
func TestKernelProcessExecInMountNamespace(t *testing.T) {
	p, group := execProbe(t, nil)
	root := t.TempDir()
	libraries(t, root, "/bin/cat")
	copyProgram(t, "/bin/cat", filepath.Join(root, "usr", "bin", "cat"))

	t.Run("chroot", func(t *testing.T) {
		cmd := group.command("/usr/bin/cat")
		cmd.SysProcAttr.Chroot = root
		cmd.Dir = "/usr"
		r := startRunning(t, cmd)
		exe := r.exe(t)
		r.stop()
		execs := p.execs()
		require.Len(t, execs, 1)
		require.Equal(t, exe, execs[0].Path)
		require.Equal(t, root+"/usr/bin/cat", execs[0].Path)
		require.Equal(t, root+"/usr", execs[0].Directory)
	})
	t.Run("container", func(t *testing.T) {
		script := `mount --bind "$1" "$1" && cd "$1" && mkdir -p old && pivot_root . old && cd /usr && exec /usr/bin/cat`
		cmd := group.command("/bin/sh", "-c", script, "sh", root)
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWPID
		input, err := cmd.StdinPipe()
		require.NoError(t, err)
		output, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		// It answers when it is the last program of the script.
		_, err = input.Write([]byte("x"))
		require.NoError(t, err)
		var b [1]byte
		_, err = io.ReadFull(output, b[:])
		require.NoError(t, err)
		exe, err := os.Readlink((&running{cmd: cmd}).proc("exe"))
		require.NoError(t, err)
		input.Close()
		require.NoError(t, cmd.Wait())
		execs := p.execs()
		last := execs[len(execs)-1]
		require.EqualValues(t, cmd.Process.Pid, last.Process.PID)
		require.EqualValues(t, 1, last.Process.VPID)
		require.Equal(t, exe, last.Path)
		require.Equal(t, "/usr/bin/cat", last.Path)
		require.Equal(t, "/usr", last.Directory)
	})
}

func TestKernelProcessExecWithoutFile(t *testing.T) {
	p, group := execProbe(t, nil)
	e := p.lastExec(group.child(t, "memfd"))
	require.True(t, e.Memfd)
	require.False(t, e.Gone)
	require.Equal(t, "/memfd:hidden", e.Path)
	require.Equal(t, []string{"argument"}, e.Args)

	program := filepath.Join(t.TempDir(), "program")
	copyProgram(t, "/bin/true", program)
	e = p.lastExec(group.child(t, "deleted:"+program))
	require.False(t, e.Memfd)
	require.True(t, e.Gone)
	require.Equal(t, program, e.Path)

	// Another name is left, but the one that was executed is not.
	copyProgram(t, "/bin/true", program)
	require.NoError(t, os.Link(program, program+"-2"))
	e = p.lastExec(group.child(t, "deleted:"+program))
	require.True(t, e.Gone)
	e = p.lastExec(group.command(program + "-2"))
	require.False(t, e.Gone)

	// A name like a memfd's makes none, on the same kind of file system.
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0)
	program = filepath.Join(dir, "memfd:fake")
	copyProgram(t, "/bin/true", program)
	e = p.lastExec(group.child(t, "deleted:"+program))
	require.False(t, e.Memfd)
	require.True(t, e.Gone)
}

// The kernel opens the interpreter; the script is an argument that the kernel added.
func TestKernelProcessExecOfScript(t *testing.T) {
	p, group := execProbe(t, nil)
	script := filepath.Join(t.TempDir(), "script.sh")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh -u\nexit 0\n"), 0o755))
	cmd := group.command(script, "one")
	state := finish(t, cmd)
	require.Zero(t, state.ExitCode())
	execs := p.execs()
	require.Len(t, execs, 1)
	shell, err := filepath.EvalSymlinks("/bin/sh")
	require.NoError(t, err)
	require.Equal(t, shell, execs[0].Path)
	require.Equal(t, []string{"/bin/sh", "-u", script, "one"}, execs[0].Args)
	require.EqualValues(t, 4, execs[0].ArgsCount)
	require.Equal(t, "script.sh", execs[0].Process.comm())
}

func TestKernelProcessArgumentOptions(t *testing.T) {
	kernel.NeedRoot(t)
	args := []string{"/bin/true"}
	for i := range 3000 {
		args = append(args, "argument-"+strconv.Itoa(i))
	}
	full := []byte(strings.Join(args, "\x00") + "\x00")
	for _, test := range []struct {
		capture bool
		limit   int
	}{{true, 64}, {true, 1024}, {true, 8192}, {true, 1000}, {true, 0}, {false, 1024}} {
		p, group := execProbe(t, map[string]any{"capture_args": test.capture, "max_args_size": uint64(test.limit)})
		state := finish(t, group.command(args[0], args[1:]...))
		require.Zero(t, state.ExitCode())
		execs := p.execs()
		require.Len(t, execs, 1)
		e := execs[0]
		require.EqualValues(t, len(args), e.ArgsCount)
		require.EqualValues(t, len(full), e.ArgsSize)
		if !test.capture {
			require.Empty(t, e.Args)
			require.False(t, e.ArgsTruncated)
			continue
		}
		require.True(t, e.ArgsTruncated)
		require.EqualValues(t, test.limit, e.ArgsBlob.Length)
		want := bytes.TrimSuffix(full[:test.limit], []byte{0})
		require.Equal(t, string(want), strings.Join(e.Args, "\x00"))
	}
	// At the limit is not above it.
	p, group := execProbe(t, map[string]any{"max_args_size": uint64(64)})
	exact := strings.Repeat("x", 64-len("/bin/true")-2)
	e := p.lastExec(group.command("/bin/true", exact))
	require.False(t, e.ArgsTruncated)
	require.Equal(t, []string{"/bin/true", exact}, e.Args)
	e = p.lastExec(group.command("/bin/true", exact+"x"))
	require.True(t, e.ArgsTruncated)
}

func TestKernelProcessCredentials(t *testing.T) {
	p, group := execProbe(t, nil)
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		require.NoError(t, os.Chmod(d, 0o755))
	}
	plain, special := filepath.Join(dir, "plain"), filepath.Join(dir, "special")
	copyProgram(t, "/bin/true", plain)
	copyProgram(t, "/bin/true", special)
	require.NoError(t, os.Chown(special, 54321, 54322))
	require.NoError(t, os.Chmod(special, 0o755|os.ModeSetuid|os.ModeSetgid))
	for program, want := range map[string][4]uint32{plain: {12345, 12345, 12346, 12346}, special: {12345, 54321, 12346, 54322}} {
		cmd := group.command(program)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 12345, Gid: 12346, NoSetGroups: true}
		e := p.lastExec(cmd)
		require.Equal(t, want, [4]uint32{e.RealUID, e.Process.UID, e.RealGID, e.GID})
	}
}

func mount(t *testing.T, source, target, kind string, flags uintptr) {
	t.Helper()
	require.NoError(t, unix.Mount(source, target, kind, flags, ""))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(target, unix.MNT_DETACH)) })
}

// libraries copies what a program is linked to, if it is linked dynamically, into another root directory.
func libraries(t *testing.T, root, program string) {
	t.Helper()
	file, err := elf.Open(program)
	require.NoError(t, err)
	defer file.Close()
	if file.Section(".interp") == nil {
		return
	}
	out, err := exec.Command("ldd", program).Output()
	require.NoError(t, err)
	for _, word := range strings.Fields(string(out)) {
		if strings.HasPrefix(word, "/") {
			copyProgram(t, word, filepath.Join(root, word))
		}
	}
}
