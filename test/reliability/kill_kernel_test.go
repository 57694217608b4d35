// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// receive is a process that runs a receiver with the configuration on its standard input, up to an empty line. It writes what it is at; the
// next line ends it. Logs are delivered to a consumer that does not return.
func receive() error {
	in := bufio.NewReader(os.Stdin)
	var config strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if line == "\n" {
			break
		}
		config.WriteString(line)
	}
	logs, err := consumer.NewLogs(func(ctx context.Context, _ plog.Logs) error {
		fmt.Println("delivering")
		<-ctx.Done()
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	ctx := context.Background()
	components, err := create(ctx, componenttest.NewNopTelemetrySettings(), config.String(), nothing, logs)
	if err != nil {
		return err
	}
	fmt.Println("loading")
	host := &strictHost{Host: componenttest.NewNopHost()}
	for _, c := range components {
		if err := c.Start(ctx, host); err != nil {
			return err
		}
	}
	if err := host.err(); err != nil {
		return err
	}
	fmt.Println("attached")
	if _, err := in.ReadString('\n'); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	fmt.Println("ending")
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, c := range components {
		_ = c.Shutdown(ctx) // the consumer takes nothing
	}
	fmt.Println("ended")
	return nil
}

// receiving is such a process.
type receiving struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // closed when it has ended
	said  string      // the last of those that were read
}

func startReceiving(t *testing.T, network *kernel.Network, config string) *receiving {
	t.Helper()
	r := &receiving{t: t, cmd: exec.Command("/proc/self/exe"), lines: make(chan string, 100)}
	r.cmd.Env = append(os.Environ(), childVariable+"=receive")
	r.cmd.Stderr = os.Stderr
	var err error
	r.stdin, err = r.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := r.cmd.StdoutPipe()
	require.NoError(t, err)
	network.Do(func() { err = r.cmd.Start() })
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			r.lines <- lines.Text()
		}
		_ = r.cmd.Wait() // killed, most often
		close(r.lines)
	}()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		for range r.lines {
			continue
		}
		<-ended
	})
	_, err = io.WriteString(r.stdin, strings.TrimSpace(config)+"\n\n")
	require.NoError(t, err)
	r.await("loading")
	return r
}

// await waits until the process is at something.
func (r *receiving) await(what string) {
	r.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-r.lines:
			require.True(r.t, ok, "it ended before %q", what)
			r.said = line
			if line == what {
				return
			}
		case <-timeout:
			require.FailNow(r.t, "it is never there", what)
		}
	}
}

// stop has the process stay where it is, and lists what the kernel holds for it there.
func (r *receiving) stop() kernel.Objects {
	r.t.Helper()
	pid := r.cmd.Process.Pid
	require.NoError(r.t, r.cmd.Process.Signal(syscall.SIGSTOP))
	// All of its threads have to have stopped: until then, one may be making something.
	require.Eventually(r.t, func() bool {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		require.NoError(r.t, err)
		for _, task := range tasks {
			b, err := os.ReadFile(task)
			if err != nil {
				return false
			}
			// The state follows the name, which may have anything in it.
			if rest := string(b[strings.LastIndexByte(string(b), ')')+1:]); !strings.HasPrefix(rest, " T") {
				return false
			}
		}
		return len(tasks) > 0
	}, patience, time.Millisecond)
	return kernel.HeldBy(r.t, pid)
}

// iterator is what a descriptor of an iterator that is being read is called.
const iterator = "anon_inode:bpf_iter"

// stopInCollection has the process stay where an iterator of a collection is being read.
func (r *receiving) stopInCollection() {
	r.t.Helper()
	r.await("attached")
	for begin := time.Now(); r.stop().Descriptors[iterator] == 0; {
		require.Less(r.t, time.Since(begin), patience, "it is never seen to collect")
		require.NoError(r.t, r.cmd.Process.Signal(syscall.SIGCONT))
		time.Sleep(rand.N(2 * time.Millisecond)) // or it gets nowhere
	}
}

// kill ends the process. All that it said until then has been read.
func (r *receiving) kill() {
	r.t.Helper()
	require.NoError(r.t, r.cmd.Process.Kill())
	for line := range r.lines {
		r.said = line
	}
}

// Wherever a receiver's process is killed, the kernel has nothing of it any more, and the next one starts.
func TestKernelKilled(t *testing.T) {
	dir, token := numberedProbe(t)
	network, c := kernel.NewNetwork(t), kernel.NewCgroup(t)
	config := fmt.Sprintf(`
collection_interval: 100ms
probes:
  cpu:
  process: { events: { ebpf.process.exec: { filter: { cgroups: [%q] } }, ebpf.process.exit: { enabled: false } } }
  flow: { interfaces: [lo] }
  numbered: { path: %q, token: %d }
%s`, c.Path, dir, token, socketProbes(t))
	// Probes are loaded one after the other: what is held only grows until all is there.
	r := startReceiving(t, network, config)
	r.await("attached")
	whole := r.stop()
	ofProcess := processPrograms(whole)
	require.Greater(t, ofProcess, 1)
	r.kill()
	t.Logf("when attached, it holds %s", heldText(whole))
	complete := func(o kernel.Objects) bool { return heldText(o) == heldText(whole) }
	phases := []struct {
		name, said string // said: the last that it does before it is killed
		// fits tells whether this is what it holds in the phase.
		fits func(kernel.Objects) bool
		at   func(*receiving)
	}{
		{"before it begins", "loading", func(o kernel.Objects) bool {
			return len(o.Maps)+len(o.Programs)+len(o.Links)+o.Descriptors["socket"] == 0
		}, nil},
		{"it makes maps", "loading", func(o kernel.Objects) bool { return len(o.Maps) > 0 && len(o.Programs)+len(o.Links) == 0 }, nil},
		{"it loads programs", "loading", func(o kernel.Objects) bool { n := processPrograms(o); return n > 0 && n < ofProcess }, nil},
		{"it attaches", "loading", func(o kernel.Objects) bool { return len(o.Links) > 0 && len(o.Links) < len(whole.Links) }, nil},
		{"it opens packet sockets", "loading", func(o kernel.Objects) bool {
			return o.Descriptors["socket"] > 0 && o.Descriptors["socket"] < whole.Descriptors["socket"]
		}, nil},
		{"attached", "attached", complete, func(r *receiving) { r.await("attached") }},
		{"collecting", "attached", func(o kernel.Objects) bool { return complete(o) && o.Descriptors[iterator] > 0 }, (*receiving).stopInCollection},
		{"delivering", "delivering", complete, func(r *receiving) {
			r.await("attached")
			require.NoError(t, c.Command("/bin/true").Run())
			r.await("delivering")
		}},
		{"ending", "ending", func(o kernel.Objects) bool { return len(o.Maps) > 0 }, func(r *receiving) {
			r.await("attached")
			require.NoError(t, c.Command("/bin/true").Run())
			r.await("delivering")
			_, err := io.WriteString(r.stdin, "\n")
			require.NoError(t, err)
			r.await("ending")
		}},
	}
	packets := func() (sockets int) {
		network.Do(func() {
			b, err := os.ReadFile("/proc/thread-self/net/packet")
			require.NoError(t, err)
			sockets = strings.Count(string(b), "\n") - 1
		})
		return sockets
	}
	pinned := entries(t, "/sys/fs/bpf")
	for _, phase := range phases {
		t.Run(phase.name, func(t *testing.T) {
			// It may be out of the phase when it has stopped, or when it was looked at: there are rounds until one of them was in it.
			caught := 0
			for round := 0; round < size(1, 1, 20) || caught == 0; round++ {
				require.Less(t, round, 50, "it was never caught there")
				r := startReceiving(t, network, config)
				if phase.at != nil {
					phase.at(r)
				} else {
					// Without a pause: a phase may be over in a millisecond.
					for begin := time.Now(); len(r.lines) == 0 && !phase.fits(kernel.HeldBy(t, r.cmd.Process.Pid)); {
						require.Less(t, time.Since(begin), patience)
					}
				}
				held := r.stop()
				in := phase.fits(held)
				r.kill()
				in = in && r.said == phase.said
				if in {
					caught++
				}
				t.Logf("it held %s; in the phase: %t", heldText(held), in)
				held.RequireGone(t)
				assert.Zero(t, packets(), "packet sockets")
				assert.Equal(t, pinned, entries(t, "/sys/fs/bpf"), "pinned objects")
			}
		})
	}
	r = startReceiving(t, network, config)
	r.await("attached")
	require.NoError(t, c.Command("/bin/true").Run())
	r.await("delivering")
	held := r.stop()
	r.kill()
	held.RequireGone(t)
}

// processPrograms is how many of the programs are the process probe's, by their names. They are all loaded before one is attached.
func processPrograms(o kernel.Objects) (n int) {
	for _, id := range o.Programs {
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
		if err != nil {
			continue // gone meanwhile
		}
		if info, err := p.Info(); err == nil && strings.HasPrefix(info.Name, "process_") {
			n++
		}
		p.Close()
	}
	return n
}

// heldText says how much of each is held.
func heldText(o kernel.Objects) string {
	return fmt.Sprintf("%d programs, %d maps, %d links, %d sockets", len(o.Programs), len(o.Maps), len(o.Links), o.Descriptors["socket"])
}

// entries are those of a directory, which may not be there.
func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}
