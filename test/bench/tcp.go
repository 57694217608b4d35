// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	tcpProbe  = `{ collection_interval: 1s, probes: { tcp: } }`
	tcpServer = "127.0.0.1:8080"
)

// connections holds a server with one connection for each request against itself without the probe, and measures what the programs cost
// meanwhile and what a collection costs with many connections.
func connections(ctx context.Context, r *run) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread is in a network namespace of its own, and ends with the goroutine
		done <- func() error {
			if err := ownLoopback(); err != nil {
				return err
			}
			if err := r.requests(ctx); err != nil {
				return err
			}
			return r.visits(ctx)
		}()
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

var requestRate = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)

// wrk is how many requests a second are served, each on a connection of its own.
func wrk(ctx context.Context, seconds int) (float64, error) {
	path, err := exec.LookPath("wrk")
	if err != nil {
		return 0, fmt.Errorf("wrk: %w", errNoPeer)
	}
	out, err := exec.CommandContext(ctx, path, "-t1", "-c32", "-d"+strconv.Itoa(seconds), "-H", "Connection: close", "http://"+tcpServer+"/").Output()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w", err)
	}
	m := requestRate.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("wrk: %s", out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

func (r *run) requests(ctx context.Context) error {
	rounds, seconds := 10, 4
	if r.quick {
		rounds, seconds = 3, 2
	}
	stop, err := nginx(ctx)
	if errors.Is(err, errNoPeer) {
		r.notes = append(r.notes, err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	defer stop()
	if _, err := wrk(ctx, 1); err != nil {
		return err
	}
	with := func() (rate float64, err error) {
		rec, err := receive(ctx, tcpProbe)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, rec.close()) }()
		return wrk(ctx, seconds)
	}
	without := func() (float64, error) { return wrk(ctx, seconds) }
	var ours, theirs, ratios []float64
	for i := range rounds {
		first, second := with, without
		if i%2 == 1 {
			first, second = without, with
		}
		a, err := first()
		if err != nil {
			return err
		}
		b, err := second()
		if err != nil {
			return err
		}
		if i%2 == 1 {
			a, b = b, a
		}
		ours, theirs, ratios = append(ours, 1e6/a), append(theirs, 1e6/b), append(ratios, b/a)
	}
	r.add(figure{
		area: "tcp", what: "nginx and wrk, one connection per request", ours: median(ours), unit: "us/request",
		beside: "without the probe", theirs: median(theirs), ratio: median(ratios), bar: 1.03,
	})

	on, err := statistics()
	if err != nil {
		return err
	}
	defer on.Close()
	cost, rate, err := r.programCosts(ctx, func() (float64, error) { return wrk(ctx, seconds) })
	if err != nil {
		return err
	}
	perRequest := 0.0
	for _, name := range []string{"set_state", "destroy", "reset_received", "drop_receiver"} {
		if c := cost[name]; c.runs > 0 {
			r.add(figure{area: "tcp", what: "a run of " + name, ours: c.perRun(), unit: "ns"})
			perRequest += float64(c.time.Nanoseconds()) / (rate * float64(seconds))
		}
	}
	r.add(figure{area: "tcp", what: "all programs, for a request's two ends, with statistics", ours: perRequest, unit: "ns"})
	return nil
}

// programCosts are those of a receiver's programs during a load.
func (r *run) programCosts(ctx context.Context, load func() (float64, error)) (c costs, result float64, err error) {
	rec, err := receive(ctx, tcpProbe)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, rec.close()) }()
	programs, err := programsOf(os.Getpid())
	if err != nil {
		return nil, 0, err
	}
	defer closePrograms(programs)
	before, err := costsOf(programs)
	if err != nil {
		return nil, 0, err
	}
	if result, err = load(); err != nil {
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
	const ticks = 8
	c, _, err := r.programCosts(ctx, func() (float64, error) {
		pause(ctx, ticks*time.Second)
		return 0, nil
	})
	if err != nil {
		return err
	}
	for _, name := range []string{"collect", "meet"} {
		if v := c[name]; v.runs > 0 {
			r.add(figure{area: "tcp", what: "iterator " + name + ", for 10,000 idle sockets", ours: v.perRun() * 2 * n / 1e6, unit: "ms"})
		}
	}
	return nil
}
