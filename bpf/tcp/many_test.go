// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// Very many short connections: each of them counts once, at both ends, as do its bytes.
func TestKernelTCPManyShortConnections(t *testing.T) {
	here, there := pair(t)
	// Connections by a few ports would soon meet their own in TIME_WAIT.
	set(t, here, "ip_local_port_range", "1024 65535")
	set(t, here, "tcp_tw_reuse", "1")
	set(t, here, "tcp_timestamps", "1")
	run := here.Start(byNamespace)
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	const workers = 8
	each := kernel.Load(100_000, 4000) / workers
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			message, answer := make([]byte, 10), make([]byte, 10)
			here.Do(func() {
				for range each {
					fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
					if !assert.NoError(t, err) {
						return
					}
					err = unix.Connect(fd, &unix.SockaddrInet4{Port: 8080, Addr: [4]byte{10, 1, 0, 2}})
					if err == nil {
						_, err = unix.Write(fd, message)
					}
					for got := 0; got < len(answer) && err == nil; {
						var n int
						n, err = unix.Read(fd, answer[got:])
						got += n
					}
					_ = unix.Close(fd)
					if !assert.NoError(t, err) {
						return
					}
				}
			})
		})
	}
	all.Wait()
	s.end()
	closed(t, here, there)
	missed := run.Skipped()
	run.Stop()

	n := workers * each
	// The kernel says how many runs it skipped, and each connection has several.
	equal := func(want, have int, what string) {
		assert.LessOrEqual(t, have, want, what)
		assert.GreaterOrEqual(t, have, want-missed, what)
	}
	connections, bytes := run.Last("ebpf.tcp.connections"), run.Last("ebpf.tcp.io")
	assert.Equal(t, n, here.Counters()["TcpActiveOpens"])
	equal(n, kernel.Values(kernel.Of(connections, here), "ebpf.tcp.role", "error.type")["connect -"], "opened")
	equal(n, kernel.Values(kernel.Of(connections, there), "ebpf.tcp.role", "error.type")["accept -"], "accepted")
	equal(here.Counters()["TcpActiveOpens"], total(kernel.Of(connections, here)), "opened, with what failed")
	equal(there.Counters()["TcpPassiveOpens"], total(kernel.Of(connections, there)), "accepted, with what was none")
	for _, host := range []*kernel.Network{here, there} {
		for direction, have := range kernel.Values(kernel.Of(bytes, host), "network.io.direction") {
			assert.LessOrEqual(t, have, 10*n, direction)
			assert.GreaterOrEqual(t, have, 10*(n-missed), direction)
		}
		equal(n, total(kernel.Of(run.Last("ebpf.tcp.connection.duration"), host)), "durations")
	}
	equal(n, total(kernel.Of(run.Last("ebpf.tcp.connect.latency"), here)), "latencies")
	equal(here.Counters()["TcpRetransSegs"], total(kernel.Of(run.Last("ebpf.tcp.retransmits"), here)), "retransmits")
}
