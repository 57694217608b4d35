// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/bench/storm"
)

// childFlag makes this program a workload.
const childFlag = "-child"

// startChild starts a workload. Closing its stdin ends it.
func (r *run) startChild(ctx context.Context, mode string, args ...string) (*process, error) {
	cmd := exec.CommandContext(ctx, r.self, append([]string{childFlag, mode}, args...)...)
	cmd.Stderr = os.Stderr
	p := &process{cmd: cmd}
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.stdout = bufio.NewReader(stdout)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start workload %s: %w", mode, err)
	}
	return p, nil
}

type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// end closes the workload's stdin and returns what it then writes.
func (p *process) end() (string, error) {
	_ = p.stdin.Close() // tells it to end
	text, err := io.ReadAll(p.stdout)
	return strings.TrimSpace(string(text)), errors.Join(err, p.cmd.Wait())
}

// child is what a workload does.
func child(mode string, args []string) error {
	debug.SetGCPercent(-1) // no work but its own
	switch mode {
	case "schedule":
		return schedule()
	case "spawn":
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		return spawn(n)
	case "packets":
		return sendPackets(args)
	case "generate":
		return generate(args)
	}
	return fmt.Errorf("no workload %q", mode)
}

// stopped is closed when stdin is.
func stopped() <-chan struct{} {
	c := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until it ends
		close(c)
	}()
	return c
}

// schedule makes context switches until stdin ends: two threads that wake each other through pipes, and processes that are born,
// run /bin/true, and end.
func schedule() error {
	stop := stopped()
	var there, back [2]int
	if err := errors.Join(unix.Pipe2(there[:], unix.O_CLOEXEC), unix.Pipe2(back[:], unix.O_CLOEXEC)); err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	var wg sync.WaitGroup
	echo := func(from, to int) {
		b := make([]byte, 1)
		for {
			if n, err := unix.Read(from, b); n != 1 || err != nil {
				_ = unix.Close(to)
				return
			}
			if n, err := unix.Write(to, b); n != 1 || err != nil {
				return
			}
		}
	}
	wg.Go(func() { echo(there[0], back[1]) })
	wg.Go(func() { echo(back[0], there[1]) })
	if _, err := unix.Write(there[1], []byte{1}); err != nil {
		return err
	}
	for {
		select {
		case <-stop:
			return nil // the threads end with the process
		default:
		}
		if err := spawnOne(); err != nil {
			return err
		}
	}
}

func spawnOne() error {
	pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{Env: []string{}})
	if err != nil {
		return fmt.Errorf("run /bin/true: %w", err)
	}
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &status, 0, nil)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// spawn runs /bin/true n times and writes how long one took, in ns: the time that a quarter of them stayed below. What is
// added to each moves it as it does the median, and a busy machine moves it less.
func spawn(n int) error {
	times := make([]float64, n)
	for i := range times {
		start := time.Now()
		if err := spawnOne(); err != nil {
			return err
		}
		times[i] = float64(time.Since(start).Nanoseconds())
	}
	slices.Sort(times)
	fmt.Println(int64(times[n/4]))
	return nil
}

// generate makes records at a rate: args are how many a second, how many at once, and for how many seconds. It begins when it
// reads a line, and writes how many it made.
func generate(args []string) error {
	var numbers [3]int
	for i := range numbers {
		n, err := strconv.Atoi(args[i])
		if err != nil {
			return err
		}
		numbers[i] = n
	}
	rate, burst, seconds := numbers[0], numbers[1], numbers[2]
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	pause := time.Second * time.Duration(burst) / time.Duration(rate)
	made, total := 0, rate*seconds
	start := time.Now()
	for made < total {
		// Late bursts come at once: the rate is that of the whole time.
		due := start.Add(pause * time.Duration(made/burst))
		if wait := time.Until(due); wait > 0 {
			t := unix.NsecToTimespec(wait.Nanoseconds())
			_ = unix.Nanosleep(&t, nil) // a signal makes it come early, and then wait again
			continue
		}
		if err := storm.Trigger(); err != nil {
			return err
		}
		made += burst
	}
	fmt.Println(made, time.Since(start).Nanoseconds())
	return nil
}
