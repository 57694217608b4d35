// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// troubles measures a run of the programs that a server with short and undisturbed connections does not need: those at connections that are refused, at what
// is sent again, and at the calls that accept.
func (r *run) troubles(ctx context.Context) error {
	refused, unanswered, accepted := 20000, 2000, 10000
	if r.quick {
		refused, unanswered, accepted = 200, 20, 200
	}
	on, err := statistics()
	if err != nil {
		return err
	}
	defer on.Close()
	const config = `{ probes: { tcp: { metrics: { ebpf.tcp.accept_queue.wait: { enabled: true } } } } }`
	cost, _, err := programCosts(ctx, config, func(*receiving) (float64, error) {
		return 0, errors.Join(refuse(ctx, refused), accept(ctx, accepted), waitInVain(ctx, unanswered))
	})
	if err != nil {
		return err
	}
	for _, name := range []string{
		"reset_sent_reason", "reset_sent_plain", "reset_received", "accept4_exit", "retransmit", "retransmit_synack", "drop_receiver",
	} {
		if c := cost[name]; c.runs > 0 {
			r.add(figure{area: "tcp", what: "a run of " + name + ", where it counts", ours: c.perRun(), unit: "ns"})
		}
	}
	return nil
}

// refuse asks for a server that is not there: each time a reset is sent and received.
func refuse(ctx context.Context, n int) error {
	for range n {
		fd, err := tcpSocket(0)
		if err != nil {
			return err
		}
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: loopback, Port: 1})
		_ = unix.Close(fd)
		if !errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("connect to nobody: %w", errors.Join(err, ctx.Err()))
		}
	}
	return ctx.Err()
}

// accept makes connections, and accepts them one by one.
func accept(ctx context.Context, n int) error {
	l, server, err := listen(0)
	if err != nil {
		return err
	}
	defer unix.Close(l)
	for range n {
		fd, err := tcpSocket(0)
		if err != nil {
			return err
		}
		if err := unix.Connect(fd, server); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		child, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		_ = unix.Close(fd)
		_ = unix.Close(child)
	}
	return ctx.Err()
}

// waitInVain asks for a host that does not answer, and a server that wants to hear more than a handshake, until the kernel has asked again, and answered again.
func waitInVain(ctx context.Context, n int) error {
	silent, err := silentHost()
	if err != nil {
		return err
	}
	l, server, err := listen(n)
	if err != nil {
		return err
	}
	defer unix.Close(l)
	if err := unix.SetsockoptInt(l, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 1); err != nil {
		return fmt.Errorf("wait for data: %w", err)
	}
	for range n {
		for _, to := range []*unix.SockaddrInet4{silent, server} {
			fd, err := tcpSocket(unix.SOCK_NONBLOCK)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.Connect(fd, to); !errors.Is(err, unix.EINPROGRESS) {
				return fmt.Errorf("begin to connect: %w", err)
			}
		}
	}
	pause(ctx, 3500*time.Millisecond) // the first times are after one second and two to three
	return ctx.Err()
}

var loopback = [4]byte{127, 0, 0, 1}

func tcpSocket(flags int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		return -1, fmt.Errorf("make a socket: %w", err)
	}
	return fd, nil
}

func listen(backlog int) (fd int, at *unix.SockaddrInet4, err error) {
	if fd, err = tcpSocket(0); err != nil {
		return -1, nil, err
	}
	err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback}), unix.Listen(fd, max(backlog, 1)))
	if err == nil {
		var name unix.Sockaddr
		if name, err = unix.Getsockname(fd); err == nil {
			return fd, name.(*unix.SockaddrInet4), nil
		}
	}
	_ = unix.Close(fd)
	return -1, nil, fmt.Errorf("listen: %w", err)
}

// silentHost is at the end of a cable where there is nobody, in the calling thread's network namespace.
func silentHost() (*unix.SockaddrInet4, error) {
	host := net.IPv4(10, 9, 0, 2)
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "silent"}, PeerName: "end"}
	if err := netlink.LinkAdd(cable); err != nil {
		return nil, fmt.Errorf("lay a cable: %w", err)
	}
	end, err := netlink.LinkByName(cable.PeerName)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		netlink.AddrAdd(cable, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 9, 0, 1), Mask: net.CIDRMask(24, 32)}}),
		netlink.LinkSetUp(cable), netlink.LinkSetUp(end),
		// What is for another's address, no interface takes.
		netlink.NeighSet(&netlink.Neigh{
			LinkIndex: cable.Attrs().Index, State: netlink.NUD_PERMANENT, IP: host, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 9, 2},
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("set up a cable: %w", err)
	}
	return &unix.SockaddrInet4{Addr: [4]byte(host.To4()), Port: 9}, nil
}
