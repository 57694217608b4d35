// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// statistics are the numbers that `ss -ti` shows of a connection, by their names; the second of two has a slash behind it. What is 0, it does not show.
func statistics(text string) map[string]float64 {
	m := map[string]float64{}
	for _, f := range regexp.MustCompile(`\b([a-z_]+):([\d.]+)(?:/([\d.]+))?`).FindAllStringSubmatch(text, -1) {
		m[f[1]], _ = strconv.ParseFloat(f[2], 64)
		m[f[1]+"/"], _ = strconv.ParseFloat(f[3], 64)
	}
	return m
}

// What `ss -ti` says of a connection is what was sampled of it.
func TestKernelTCPEqualsSocketStatistics(t *testing.T) {
	if _, err := exec.LookPath("ss"); err != nil {
		t.Skip("ss is not installed")
	}
	here, there := pair(t)
	// Just one collection: at the end.
	run := here.Start(strings.Replace(byNamespace, "200ms", "1h", 1))
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	c := dial(t, here, "tcp4", "10.1.0.2:8080")
	for range 20 {
		exchange(t, c, 3000)
	}
	// The last acknowledgement may be delayed.
	var text string
	require.Eventually(t, func() bool {
		text = here.Run("ss", "-Htni", "dport", "=", "8080")
		return strings.Contains(text, "bytes_acked:60001")
	}, wait, tick)
	run.Stop()
	require.NoError(t, c.Close())
	s.end()

	said := statistics(text)
	sampled := func(metric string) float64 {
		points := kernel.Of(run.Last(metric), here)
		require.Len(t, points, 1, metric)
		require.Equal(t, uint64(1), points[0].Count, metric)
		return points[0].Sum
	}
	assert.InDelta(t, said["rtt"]/1e3, sampled("ebpf.tcp.rtt"), 1.1e-6)
	assert.InDelta(t, said["minrtt"]/1e3, sampled("ebpf.tcp.rtt.min"), 1.1e-6)
	assert.InDelta(t, said["cwnd"], sampled("ebpf.tcp.congestion_window"), 0)
	assert.InDelta(t, said["rtt/"]/1e3, sampled("ebpf.tcp.rtt.variance"), 1.1e-6)
	bytes := kernel.With(kernel.Of(run.Last("ebpf.tcp.io"), here), "ebpf.tcp.role", "connect")
	assert.Equal(t, map[string]int{"transmit": int(said["bytes_acked"]) - 1, "receive": int(said["bytes_received"])}, kernel.Values(bytes, "network.io.direction"))
}

// What `ss -ti` says of a connection just before its end is what its record has, at both of its ends, whether something was lost or not.
func TestKernelTCPRecordsEqualSocketStatistics(t *testing.T) {
	if _, err := exec.LookPath("ss"); err != nil {
		t.Skip("ss is not installed")
	}
	t.Run("lossless", func(t *testing.T) { recordsEqualStatistics(t, false) })
	t.Run("lossy", func(t *testing.T) { recordsEqualStatistics(t, true) })
}

func recordsEqualStatistics(t *testing.T, lossy bool) {
	here, there := pair(t)
	if lossy {
		require.NoError(t, here.Netlink.LinkSetGSOMaxSegs(here.Link("cable"), 1))
		loss(t, there, "cable", 20)
	}
	run := here.Start(withRecords)
	s := serve(t, there, "tcp4", "10.1.0.2:8080")
	before := time.Now()
	c := dial(t, here, "tcp4", "10.1.0.2:8080")
	exchange(t, c, 1)
	after := time.Now()
	const size = 200_000
	exchange(t, c, size-1)
	// Until the last acknowledgement is there, and nothing is under way any more.
	var said map[string]map[string]float64
	look := func() map[string]map[string]float64 {
		m := map[string]map[string]float64{
			"connect": statistics(here.Run("ss", "-Htni", "dport", "=", "8080")), "accept": statistics(there.Run("ss", "-Htni", "sport", "=", "8080")),
		}
		for _, numbers := range m {
			for _, age := range []string{"lastsnd", "lastrcv", "lastack"} {
				delete(numbers, age)
			}
		}
		return m
	}
	require.Eventually(t, func() bool {
		last := said
		said = look()
		return said["connect"]["bytes_acked"] == size+1 && said["accept"]["bytes_acked"] == size && assert.ObjectsAreEqual(last, said)
	}, wait, 5*tick)
	// With a reset, nothing changes before the record is written here, and the reset alone comes there.
	said["accept"]["segs_in"]++
	said["connect"]["bytes_acked"]-- // the SYN
	require.NoError(t, c.SetLinger(0))
	require.NoError(t, c.Close())
	s.end()
	closed(t, here, there)
	run.Stop()

	told := 0
	for _, logs := range run.Logs.AllLogs() {
		each(logs, func(r plog.LogRecord) {
			a := r.Attributes().AsRaw()
			if a["ebpf.network.namespace"] != here.Inode() && a["ebpf.network.namespace"] != there.Inode() {
				return
			}
			told++
			role := a["ebpf.tcp.role"].(string)
			for attribute, name := range map[string]string{
				"ebpf.tcp.transmitted.segments": "segs_out", "ebpf.tcp.received.segments": "segs_in",
				"ebpf.tcp.transmitted.bytes": "bytes_acked", "ebpf.tcp.received.bytes": "bytes_received",
				"ebpf.tcp.retransmits": "retrans/", "ebpf.tcp.out_of_order": "rcv_ooopack",
			} {
				assert.Equal(t, int64(said[role][name]), a[attribute], "%s: %s", role, attribute)
			}
			for attribute, name := range map[string]string{"ebpf.tcp.rtt": "rtt", "ebpf.tcp.rtt.min": "minrtt", "ebpf.tcp.rtt.variance": "rtt/"} {
				assert.InDelta(t, said[role][name]/1e3, a[attribute], 1.1e-6, "%s: %s", role, attribute)
			}
			start, err := time.Parse(time.RFC3339Nano, a["ebpf.tcp.connection.start"].(string))
			require.NoError(t, err)
			// The clocks are measured against each other to some microseconds.
			assert.WithinRange(t, start, before.Add(-time.Millisecond), after.Add(time.Millisecond), role)
		})
	}
	assert.Equal(t, 2, told)
	if lossy {
		assert.Positive(t, said["connect"]["retrans/"])
		assert.Positive(t, said["accept"]["rcv_ooopack"])
	}
}

// Peers' and this end's addresses, as they are or by the name of their range, and the family that is spoken.
func TestKernelTCPAddresses(t *testing.T) {
	here, there := pair(t)
	run := here.Start(`
probes:
  tcp:
    cidrs: [10.1.0.0/24: office]
    metrics:
      ebpf.tcp.io: { attributes: [ebpf.network.namespace, network.peer.address, network.local.address, network.type, server.port, process] }
`)
	s := serveApart(t, there, kernel.NewCgroup(t), ":8080") // IPv4 comes to an IPv6 socket
	exchangeAll := func(address string) {
		c := dial(t, here, "tcp", address)
		exchange(t, c, 10)
		require.NoError(t, c.Close())
	}
	exchangeAll("10.1.0.2:8080")
	exchangeAll("[fd00::2]:8080")
	s.end()
	closed(t, here, there)
	run.Stop()
	for _, p := range kernel.Of(run.Last("ebpf.tcp.io"), here) {
		assert.Equal(t, fmt.Sprint(os.Getpid(), " tcp.test"), p.Series("process.pid", "process.executable.name"))
	}
	for _, p := range kernel.Of(run.Last("ebpf.tcp.io"), there) {
		assert.Equal(t, fmt.Sprint(s.pid, " ", s.name), p.Series("process.pid", "process.executable.name"))
	}
	names := []string{"network.peer.address", "network.local.address", "network.type", "network.io.direction"}
	assert.Equal(t, map[string]int{
		"office office ipv4 transmit": 10, "office office ipv4 receive": 10, "fd00::2 fd00::1 ipv6 transmit": 10, "fd00::2 fd00::1 ipv6 receive": 10,
	}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), here), names...))
	assert.Equal(t, map[string]int{
		"office office ipv4 transmit": 10, "office office ipv4 receive": 10, "fd00::1 fd00::2 ipv6 transmit": 10, "fd00::1 fd00::2 ipv6 receive": 10,
	}, kernel.Values(kernel.Of(run.Last("ebpf.tcp.io"), there), names...))
}
