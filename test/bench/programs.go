// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// cost is what a program has cost up to now.
type cost struct {
	runs uint64
	time time.Duration
}

func (c cost) minus(before cost) cost { return cost{c.runs - before.runs, c.time - before.time} }

// perRun in ns.
func (c cost) perRun() float64 {
	if c.runs == 0 {
		return 0
	}
	return float64(c.time.Nanoseconds()) / float64(c.runs)
}

// costs are those of a process's programs, by name.
type costs map[string]cost

func (c costs) minus(before costs) costs {
	d := make(costs, len(c))
	for name, v := range c {
		d[name] = v.minus(before[name])
	}
	return d
}

// total of all programs, in ns.
func (c costs) total() float64 {
	sum := 0.0
	for _, v := range c {
		sum += float64(v.time.Nanoseconds())
	}
	return sum
}

// programsOf are the programs that a process holds, found through its descriptors: nobody else's are looked at.
func programsOf(pid int) (map[string]*ebpf.Program, error) {
	programs := make(map[string]*ebpf.Program)
	err := eachProgram(pid, func(p *ebpf.Program, info *ebpf.ProgramInfo, _ string) bool {
		if programs[info.Name] != nil { // a link's descriptor names its program, too
			return false
		}
		programs[info.Name] = p
		return true
	})
	return programs, err
}

// tracingProgramsOf are those programs of a process that are at tracepoints which tell them of kernel types, as tp_btf.
func tracingProgramsOf(pid int) (programs []*ebpf.Program, err error) {
	err = eachProgram(pid, func(p *ebpf.Program, _ *ebpf.ProgramInfo, link string) bool {
		if p.Type() != ebpf.Tracing || link != "raw_tracepoint" {
			return false
		}
		programs = append(programs, p)
		return true
	})
	return programs, err
}

// eachProgram calls fn with the programs that a process holds, once for each of their descriptors, with the kind of link that this
// is, or none. What fn keeps is its to close.
func eachProgram(pid int, fn func(p *ebpf.Program, info *ebpf.ProgramInfo, link string) (keep bool)) error {
	dir := fmt.Sprintf("/proc/%d/fdinfo", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list a process's descriptors: %w", err)
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		id, err := strconv.Atoi(fdinfoField(string(text), "prog_id"))
		if err != nil {
			continue // something else
		}
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
		if err != nil {
			continue
		}
		info, err := p.Info()
		if err != nil || !fn(p, info, fdinfoField(string(text), "link_type")) {
			_ = p.Close() // a descriptor
		}
	}
	return nil
}

// fdinfoField is empty if there is none.
func fdinfoField(fdinfo, name string) string {
	for line := range strings.Lines(fdinfo) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func closePrograms(programs iter.Seq[*ebpf.Program]) {
	for p := range programs {
		_ = p.Close() // a descriptor
	}
}

func costsOf(programs map[string]*ebpf.Program) (costs, error) {
	c := make(costs, len(programs))
	for name, p := range programs {
		s, err := p.Stats()
		if err != nil {
			return nil, fmt.Errorf("read the statistics of program %s: %w", name, err)
		}
		c[name] = cost{s.RunCount, s.Runtime}
	}
	return c, nil
}

// peer is a tool that runs, with its programs.
type peer struct {
	cmd      *exec.Cmd
	programs map[string]*ebpf.Program
}

var errNoPeer = errors.New("not installed")

// startPeer starts a tool and waits until n programs of it are attached. The error is errNoPeer where there is no such tool.
func startPeer(ctx context.Context, n int, name string, args ...string) (*peer, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath(filepath.Join("/usr/sbin", name)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, errNoPeer)
		}
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGINT) }
	cmd.Stdout = io.Discard
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &peer{cmd: cmd}
	for deadline := time.Now().Add(20 * time.Second); ; {
		if attached(cmd.Process.Pid) >= n {
			break
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			_ = p.stop()
			return nil, fmt.Errorf("%s did not attach its programs", name)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if p.programs, err = programsOf(cmd.Process.Pid); err != nil {
		_ = p.stop()
		return nil, err
	}
	return p, nil
}

// attached is how many links and attached perf events a process holds.
func attached(pid int) int {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir) // none when it has ended
	n := 0
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err == nil && (strings.Contains(target, "bpf_link") || strings.Contains(target, "bpf-link") || strings.Contains(target, "perf_event")) {
			n++
		}
	}
	return n
}

func (p *peer) stop() error {
	closePrograms(maps.Values(p.programs))
	if err := p.cmd.Process.Signal(unix.SIGINT); err != nil {
		return err
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}

// empty is the least that a program on sched_switch can be.
type empty struct {
	program *ebpf.Program
	link    link.Link
}

func newEmpty() (*empty, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "empty", Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "sched_switch", License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return nil, fmt.Errorf("load an empty program: %w", err)
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: p})
	if err != nil {
		_ = p.Close() // the other error is why
		return nil, fmt.Errorf("attach an empty program: %w", err)
	}
	return &empty{p, l}, nil
}

func (e *empty) close() error { return errors.Join(e.link.Close(), e.program.Close()) }

// statistics makes the kernel count runs, until the result is closed.
func statistics() (io.Closer, error) {
	c, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return nil, fmt.Errorf("switch program statistics on: %w", err)
	}
	return c, nil
}
