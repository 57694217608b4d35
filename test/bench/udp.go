// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

const udpProbe = `{ probes: { udp: } }`

// datagrams holds sends and receives of the least that can be sent, on loopback, against the same without the probe.
func datagrams(ctx context.Context, r *run) error {
	return onOwnLoopback(func() error { return r.echoes(ctx) })
}

func (r *run) echoes(ctx context.Context) error {
	rounds, n := 60, 100_000
	if r.quick {
		rounds = 5
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// To itself: what is sent is there when the call returns.
	self := &unix.SockaddrInet4{Port: 8080, Addr: [4]byte{127, 0, 0, 1}}
	if err := unix.Bind(fd, self); err != nil {
		return err
	}
	if err := unix.Connect(fd, self); err != nil {
		return err
	}
	load := func() (float64, error) {
		payload := make([]byte, 1)
		start := time.Now()
		for range n {
			if _, err := unix.Write(fd, payload); err != nil {
				return 0, err
			}
			if _, err := unix.Read(fd, payload); err != nil {
				return 0, err
			}
		}
		return float64(time.Since(start).Nanoseconds()) / float64(n), ctx.Err()
	}
	took, ratios, err := inTurns(rounds, load, receiverOf(ctx, udpProbe))
	if err != nil {
		return err
	}
	r.add(figure{
		area: "udp", what: "a datagram of 1 byte, sent and received", ours: took[1], unit: "ns",
		beside: "without the probe", theirs: took[0], ratio: ratios[1],
	})
	on, err := statistics()
	if err != nil {
		return err
	}
	defer on.Close()
	cost, _, err := programCosts(ctx, udpProbe, func(*receiving) (float64, error) { return load() })
	if err != nil {
		return err
	}
	for _, name := range []string{"sent", "received"} {
		if c := cost[name]; c.runs > 0 {
			r.add(figure{area: "udp", what: "a run of " + name, ours: c.perRun(), unit: "ns"})
		}
	}
	return nil
}
