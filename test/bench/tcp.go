// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/bench/hooks"
)

const (
	tcpProbe  = `{ probes: { tcp: } }`
	tcpServer = "127.0.0.1:8080"
)

// connections holds a server with one connection for each request against itself without the probe, and measures what the programs cost
// meanwhile and what a collection costs with many connections.
func connections(ctx context.Context, r *run) error {
	return onOwnLoopback(func() error {
		if err := r.requests(ctx); err != nil {
			return err
		}
		if err := r.troubles(ctx); err != nil {
			return err
		}
		return r.visits(ctx)
	})
}

// onOwnLoopback calls fn on a thread whose network namespace has nobody else in it.
func onOwnLoopback(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := ownLoopback(); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return <-done
}

// ownLoopback puts the calling thread into a network namespace in which there is nobody else.
func ownLoopback() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	for file, value := range map[string]string{"ip_local_port_range": "1024 65535", "tcp_tw_reuse": "1"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+file, []byte(value), 0); err != nil {
			return fmt.Errorf("set up a network namespace: %w", err)
		}
	}
	l, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

// onOneCPU calls fn with the calling thread, and what it starts, on one CPU: the last, so that there are others for whoever watches.
func onOneCPU(fn func() error) error {
	var allowed, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return fmt.Errorf("read which CPUs are ours: %w", err)
	}
	for cpu := range len(allowed) * 64 {
		if allowed.IsSet(cpu) {
			one.Zero()
			one.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("stay on one CPU: %w", err)
	}
	return errors.Join(fn(), unix.SchedSetaffinity(0, &allowed))
}

// nginx serves an empty page on two processes until the result is called.
func nginx(ctx context.Context) (stop func(), err error) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		return nil, fmt.Errorf("nginx: %w", errNoPeer)
	}
	dir, err := os.MkdirTemp("", "bench-nginx")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; worker_processes 2; pid %[1]s/pid; error_log /dev/null;
events { worker_connections 4096; }
http { access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
server { listen %[2]s backlog=4096; location / { return 200 "ok"; } } }`, dir, tcpServer)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, "-p", dir, "-c", config)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start nginx: %w", err)
	}
	stop = func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}
	for range 100 {
		if c, err := net.Dial("tcp", tcpServer); err == nil {
			_ = c.Close()
			return stop, nil
		}
		pause(ctx, 50*time.Millisecond)
	}
	stop()
	return nil, errors.New("nginx does not serve")
}

// wrk asks for a page as fast as it can, each time on a connection of its own, until it is stopped.
func wrk(ctx context.Context) (stop func(), err error) {
	path, err := exec.LookPath("wrk")
	if err != nil {
		return nil, fmt.Errorf("wrk: %w", errNoPeer)
	}
	command := exec.CommandContext(ctx, path, "-t1", "-c32", "-d1h", "-H", "Connection: close", "http://"+tcpServer+"/")
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("wrk: %w", err)
	}
	return func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	}, nil
}

// accepted is how many connections were accepted in the calling thread's network namespace.
func accepted() (int, error) {
	b, err := os.ReadFile("/proc/thread-self/net/snmp")
	if err != nil {
		return 0, err
	}
	// Names, then numbers; PassiveOpens is the sixth (net/ipv4/proc.c).
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 6 && f[0] == "Tcp:" && f[6] != "PassiveOpens" {
			return strconv.Atoi(f[6])
		}
	}
	return 0, errors.New("/proc/net/snmp has no PassiveOpens")
}

// perConnection is how long it took until a connection was accepted, on average over a while, in us.
func perConnection(ctx context.Context, d time.Duration) (float64, error) {
	start := time.Now()
	before, err := accepted()
	if err != nil {
		return 0, err
	}
	pause(ctx, d)
	after, err := accepted()
	if err != nil {
		return 0, err
	}
	if after == before {
		return 0, errors.New("wrk asks for nothing")
	}
	return float64(time.Since(start).Microseconds()) / float64(after-before), ctx.Err()
}

// startRequests has nginx and wrk busy with each other until the result is called. They share one CPU, which is so never idle: how long a
// request takes is what it costs.
func startRequests(ctx context.Context) (stop func(), err error) {
	err = onOneCPU(func() error {
		serve, err := nginx(ctx)
		if err != nil {
			return err
		}
		ask, err := wrk(ctx)
		if err != nil {
			serve()
			return err
		}
		stop = func() { ask(); serve() }
		return nil
	})
	if err != nil && stop != nil {
		stop()
	}
	return stop, err
}

func (r *run) requests(ctx context.Context) error {
	stop, err := startRequests(ctx)
	if errors.Is(err, errNoPeer) {
		r.notes = append(r.notes, err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	defer stop()
	if err := r.timesOfRequest(ctx); err != nil {
		return err
	}
	on, err := statistics()
	if err != nil {
		return err
	}
	defer on.Close()
	return r.costsOfRequest(ctx)
}

// timesOfRequest measures a request with and without the probe's programs.
func (r *run) timesOfRequest(ctx context.Context) error {
	// The machine is never quiet for long: many short rounds tell more than a few long ones.
	rounds, slice := 250, 200*time.Millisecond
	if r.quick {
		rounds = 5
	}
	load := func() (float64, error) { return perConnection(ctx, slice) }
	if _, err := load(); err != nil {
		return err
	}
	var attachments []attachment
	for _, source := range []func() ([]*ebpf.Program, func(), error){
		func() ([]*ebpf.Program, func(), error) { return tracingPrograms(ctx, tcpProbe) }, hooks.Nothing, hooks.Least,
	} {
		programs, unload, err := source()
		if err != nil {
			return err
		}
		defer unload()
		attachments = append(attachments, atTracepoints(ctx, programs))
	}
	took, ratios, err := inTurns(rounds, load, attachments...)
	if err != nil {
		return err
	}
	for i, what := range []string{
		"nginx and wrk on one CPU, one connection per request",
		"the same, with programs that do nothing at its hooks",
		"the same, with programs that count connections, bytes and times in the simplest way",
	} {
		f := figure{
			area: "tcp", what: what, ours: took[i+1], unit: "us/request",
			beside: "with none", theirs: took[0], ratio: ratios[i+1],
		}
		if i == 0 {
			f.bar = 1.03
		}
		r.add(f)
	}
	return nil
}

// costsOfRequest measures the programs, and beside them, at the same load, those of a tool that tells of each connection's end.
func (r *run) costsOfRequest(ctx context.Context) error {
	const while = 4 * time.Second
	load := func() (float64, error) { return perConnection(ctx, while) }
	var theirs costs
	tool, err := startPeer(ctx, 1, "tcplife")
	switch {
	case errors.Is(err, errNoPeer):
		r.note("tcplife is not installed (Debian: libbpf-tools): nothing to hold the programs of connections against")
	case err != nil:
		return err
	default:
		defer func() { _ = tool.stop() }()
		load = func() (took float64, err error) {
			before, err := costsOf(tool.programs)
			if err != nil {
				return 0, err
			}
			if took, err = perConnection(ctx, while); err != nil {
				return 0, err
			}
			after, err := costsOf(tool.programs)
			theirs = after.minus(before)
			return took, err
		}
	}
	cost, took, err := programCosts(ctx, tcpProbe, func(*receiving) (float64, error) { return load() })
	if err != nil {
		return err
	}
	perRequest := 0.0
	for _, name := range []string{"set_state", "destroy", "reset_received", "drop_receiver"} {
		if c := cost[name]; c.runs > 0 {
			r.add(figure{area: "tcp", what: "a run of " + name, ours: c.perRun(), unit: "ns"})
			perRequest += float64(c.time) * took / float64(while.Microseconds())
		}
	}
	all := figure{area: "tcp", what: "all programs, for a request's two ends, with statistics", ours: perRequest, unit: "ns"}
	if len(theirs) > 0 {
		all.beside, all.theirs = "tcplife", theirs.total()*took/float64(while.Microseconds())
	}
	r.add(all)
	return nil
}

// programCosts are those of a receiver's programs during a load.
func programCosts(ctx context.Context, config string, load func(*receiving) (float64, error)) (c costs, result float64, err error) {
	rec, err := receive(ctx, config)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, rec.close()) }()
	programs, err := programsOf(os.Getpid())
	if err != nil {
		return nil, 0, err
	}
	defer closePrograms(maps.Values(programs))
	before, err := costsOf(programs)
	if err != nil {
		return nil, 0, err
	}
	if result, err = load(rec); err != nil {
		return nil, 0, err
	}
	after, err := costsOf(programs)
	if err != nil {
		return nil, 0, err
	}
	return after.minus(before), result, nil
}

// visits measures a collection's iterators with 10,000 idle sockets: 5,000 connections, both ends.
func (r *run) visits(ctx context.Context) error {
	const n = 5000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	l, err := net.Listen("tcp4", "127.0.0.1:8081")
	if err != nil {
		return err
	}
	defer l.Close()
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	for range n {
		c, err := net.Dial("tcp4", "127.0.0.1:8081")
		if err != nil {
			return err
		}
		open = append(open, c)
		if c, err = l.Accept(); err != nil {
			return err
		}
		open = append(open, c)
	}
	on, err := statistics()
	if err != nil {
		return err
	}
	defer on.Close()
	const enough = 8
	c, collections, err := programCosts(ctx, `{ collection_interval: 1s, probes: { tcp: } }`, func(rec *receiving) (float64, error) {
		for ctx.Err() == nil && rec.collections.Load() < enough {
			pause(ctx, time.Millisecond)
		}
		return float64(rec.collections.Load()), ctx.Err()
	})
	if err != nil {
		return err
	}
	iterators := c["meet"].time + c["collect"].time + c["collect_elsewhere"].time
	r.add(figure{area: "tcp", what: "a collection's iterators, with 10,000 idle sockets", ours: float64(iterators) / collections / 1e6, unit: "ms"})
	return nil
}
