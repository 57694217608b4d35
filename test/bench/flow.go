// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/bench/floor"
)

// near and far are the ends of the cable that the benchmark's packets go through.
const (
	near = "near"
	far  = "far"
)

// flows holds our socket filter against the least that counting by flow can cost, both attached to one interface at the same time. They
// see the same packets, each as soon as the other one is done with it.
func flows(ctx context.Context, r *run) error {
	on, err := statistics()
	if err != nil {
		return err
	}
	defer on.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread is in a network namespace of its own, and ends with the goroutine
		done <- func() error {
			if err := cable(); err != nil {
				return err
			}
			for _, c := range []struct {
				what, config string
				packets      packets
				bar          float64
			}{
				{"64-byte UDP, one flow, defaults", `probes: { flow: { interfaces: [near] } }`, packets{1, 4}, 1.3},
				{"64-byte UDP, 1,000 flows, defaults", `probes: { flow: { interfaces: [near] } }`, packets{1000, 4}, 1.3},
				{
					"64-byte UDP, 1,000 flows, all addresses and ports",
					`probes: { flow: { interfaces: [near], ports: all, attributes: [source.address, destination.address, source.port, destination.port, network.transport] } }`,
					packets{1000, 4},
					1.3,
				},
				{"UDP over IPv6, 1,000 flows, defaults", `probes: { flow: { interfaces: [near] } }`, packets{1000, 6}, 0},
				{
					"64-byte UDP, 1,000 flows, defaults, with the filter udp and not port 22",
					`probes: { flow: { interfaces: [near], filter: "udp and not port 22" } }`,
					packets{1000, 4},
					0,
				},
			} {
				if err := r.besideFloor(ctx, c.what, c.config, c.packets, c.bar); err != nil {
					return err
				}
			}
			return r.throughput(ctx)
		}()
	}()
	return <-done
}

// cable puts the calling thread into a network namespace with a pair of interfaces.
func cable() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	for _, name := range []string{"all", "default"} {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0) // the thread's own namespace
	}
	pair := netlink.NewVeth(netlink.LinkAttrs{Name: near})
	pair.PeerName = far
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("make a pair of interfaces: %w", err)
	}
	for _, name := range []string{near, far} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) besideFloor(ctx context.Context, what, config string, load packets, bar float64) error {
	rounds := 8
	if r.quick {
		rounds = 2
	}
	besides := []struct {
		name   string
		bar    float64
		theirs []float64
		ratios []float64
	}{{name: "one load, one lookup of such a key, two adds", bar: bar}, {name: "the same with a key of IPv4's size"}, {name: "return 0"}}
	var ours []float64
	for i := range rounds {
		got, err := r.packetRound(ctx, config, load, i%2 == 0)
		if err != nil {
			return err
		}
		ours = append(ours, got[0])
		for j := range besides {
			besides[j].theirs = append(besides[j].theirs, got[1+j])
			besides[j].ratios = append(besides[j].ratios, got[0]/got[1+j])
		}
	}
	for _, b := range besides {
		r.add(figure{
			area: "flow", what: what, ours: median(ours), unit: "ns/packet", beside: b.name, theirs: median(b.theirs), ratio: median(b.ratios), bar: b.bar,
		})
	}
	return nil
}

// throughput is how many small packets a second one sender gets through the cable: with the probe, with a socket filter that does nothing,
// and with neither. The difference of the last two is what the kernel does for any packet socket.
func (r *run) throughput(ctx context.Context) error {
	rounds := 8
	if r.quick {
		rounds = 2
	}
	rate := func() (float64, error) {
		child, err := r.startChild(ctx, "packets", "1000", "4")
		if err != nil {
			return 0, err
		}
		pause(ctx, 1500*time.Millisecond)
		text, err := child.end()
		if err != nil {
			return 0, err
		}
		return strconv.ParseFloat(text, 64)
	}
	with := func(what func() (func() error, error)) (v float64, err error) {
		stop, err := what()
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, stop()) }()
		return rate()
	}
	var ours, bare, none, besideBare, besideNone []float64
	for range rounds {
		a, err := with(func() (func() error, error) {
			rec, err := receive(ctx, `probes: { flow: { interfaces: [near] } }`)
			if err != nil {
				return nil, err
			}
			return rec.close, nil
		})
		if err != nil {
			return err
		}
		b, err := with(func() (func() error, error) {
			l, err := netlink.LinkByName(near)
			if err != nil {
				return nil, err
			}
			nothing, err := floor.AttachNothing(l.Attrs().Index)
			if err != nil {
				return nil, err
			}
			return nothing.Close, nil
		})
		if err != nil {
			return err
		}
		c, err := rate()
		if err != nil {
			return err
		}
		ours, bare, none = append(ours, a), append(bare, b), append(none, c)
		besideBare, besideNone = append(besideBare, a/b), append(besideNone, a/c)
	}
	r.add(figure{
		area: "flow", what: "64-byte packets a second through a veth pair, one sender", ours: median(ours) / 1000, unit: "k/s",
		beside: "with an empty socket filter", theirs: median(bare) / 1000, ratio: median(besideBare),
	})
	r.add(figure{
		area: "flow", what: "64-byte packets a second through a veth pair, one sender", ours: median(ours) / 1000, unit: "k/s",
		beside: "with none", theirs: median(none) / 1000, ratio: median(besideNone),
	})
	return nil
}

// packetRound attaches both, in the order that oursFirst says, and measures some seconds of packets: ns a packet of ours, and of the
// floor's three programs.
func (r *run) packetRound(ctx context.Context, config string, load packets, oursFirst bool) (ns [4]float64, err error) {
	l, err := netlink.LinkByName(near)
	if err != nil {
		return ns, err
	}
	var rec *receiving
	var programs *floor.Programs
	start := []func() error{
		func() (err error) { rec, err = receive(ctx, config); return err },
		func() (err error) { programs, err = floor.Attach(l.Attrs().Index); return err },
	}
	if !oursFirst {
		start[0], start[1] = start[1], start[0]
	}
	defer func() {
		if rec != nil {
			err = errors.Join(err, rec.close())
		}
		if programs != nil {
			err = errors.Join(err, programs.Close())
		}
	}()
	for _, s := range start {
		if err := s(); err != nil {
			return ns, err
		}
	}
	own, err := socketFilters(os.Getpid(), "count")
	if err != nil {
		return ns, err
	}
	defer closePrograms(slices.Values(own))
	child, err := r.startChild(ctx, "packets", strconv.Itoa(load.flows), strconv.Itoa(load.version))
	if err != nil {
		return ns, err
	}
	pause(ctx, 200*time.Millisecond)
	read := func() (all [4]cost, err error) {
		for i, list := range [][]*ebpf.Program{own, {programs.Wide}, {programs.Narrow}, {programs.Nothing}} {
			for _, p := range list {
				s, err := p.Stats()
				if err != nil {
					return all, err
				}
				all[i].runs += s.RunCount
				all[i].time += s.Runtime
			}
		}
		return all, nil
	}
	before, err := read()
	if err != nil {
		return ns, err
	}
	pause(ctx, 1500*time.Millisecond)
	after, err := read()
	if err != nil {
		return ns, err
	}
	if _, err := child.end(); err != nil {
		return ns, err
	}
	if after[0].runs-before[0].runs < 1000 {
		return ns, fmt.Errorf("only %d packets were counted", after[0].runs-before[0].runs)
	}
	for i := range ns {
		ns[i] = after[i].minus(before[i]).perRun()
	}
	return ns, ctx.Err()
}

// socketFilters are the programs of a name that a process holds: one for each kind of interface.
func socketFilters(pid int, name string) ([]*ebpf.Program, error) {
	var list []*ebpf.Program
	err := eachProgram(pid, func(p *ebpf.Program, info *ebpf.ProgramInfo, _ string) bool {
		if info.Type == ebpf.SocketFilter && info.Name == name {
			list = append(list, p)
			return true
		}
		return false
	})
	return list, err
}

// packets are what the workload of that name sends.
type packets struct {
	flows   int
	version int // of IP
}

// sendPackets sends 64-byte frames of UDP out of the far end until stdin ends, and writes how many a second.
func sendPackets(args []string) error {
	var load packets
	var err, err2 error
	load.flows, err = strconv.Atoi(args[0])
	load.version, err2 = strconv.Atoi(args[1])
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	l, err := netlink.LinkByName(far)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	frames := load.frames()
	protocol := binary.BigEndian.Uint16(frames[0][12:])
	to := &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8, Ifindex: l.Attrs().Index}
	stop, began := stopped(), time.Now()
	for i := 0; ; i++ {
		if err := unix.Sendto(fd, frames[i%len(frames)], 0, to); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		if i%64 > 0 {
			continue
		}
		select {
		case <-stop:
			fmt.Println(float64(i) / time.Since(began).Seconds())
			return nil
		default:
		}
	}
}

// frames are one of each flow, 64 bytes long, or what IPv6's header makes of them. Flows differ in the client's address and port.
func (p packets) frames() [][]byte {
	list := make([][]byte, p.flows)
	for i := range list {
		f := []byte{255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9, 8, 0}
		client, server := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), netip.MustParseAddr("198.51.100.1")
		if p.version == 6 {
			f[12], f[13] = 0x86, 0xdd
			client, server = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i)}), netip.MustParseAddr("2001:db8:1::1")
			f = append(f, 0x60, 0, 0, 0, 0, 30, 17, 64)
		} else {
			f = append(f, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0)
		}
		f = append(append(f, client.AsSlice()...), server.AsSlice()...)
		f = binary.BigEndian.AppendUint16(f, uint16(30000+i))
		f = append(f, 0, 53, 0, 30, 0, 0)
		list[i] = append(f, make([]byte, 22)...)
	}
	return list
}
