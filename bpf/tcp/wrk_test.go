// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// nginx is a web server of a host's, with its own account of what it did.
type nginx struct {
	dir     string
	queries int
}

func serveNginx(t *testing.T, n *kernel.Network, address string) *nginx {
	t.Helper()
	w := &nginx{dir: t.TempDir()}
	require.NoError(t, os.Chmod(w.dir, 0o755))
	config := fmt.Sprintf(`daemon off; worker_processes 2; pid %[1]s/pid; error_log %[1]s/errors;
events { worker_connections 4096; }
http {
	log_format bytes "$bytes_sent $request_length";
	access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
	server { listen %[2]s backlog=4096; access_log %[1]s/log bytes; location / { return 200 "hello"; } }
	server { listen unix:%[1]s/status; location / { stub_status; } }
}`, w.dir, address)
	require.NoError(t, os.WriteFile(w.dir+"/nginx.conf", []byte(config), 0o644))
	cmd := exec.Command("nginx", "-p", w.dir, "-e", w.dir+"/errors", "-c", w.dir+"/nginx.conf")
	n.Do(func() { require.NoError(t, cmd.Start()) })
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool { return states(n)["0A"] > 0 }, wait, tick)
	return w
}

// accepted is how many connections it has taken, without the queries themselves.
func (w *nginx) accepted(t *testing.T) int {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", w.dir+"/status") },
	}}
	r, err := client.Get("http://status/")
	require.NoError(t, err)
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	w.queries++
	m := regexp.MustCompile(`requests\n (\d+) `).FindSubmatch(text)
	require.Len(t, m, 2, "%s", text)
	n, err := strconv.Atoi(string(m[1]))
	require.NoError(t, err)
	return n - w.queries
}

// log is its requests, and their bytes and those of its answers.
func (w *nginx) log(t *testing.T) (requests, received, sent int) {
	t.Helper()
	text, err := os.ReadFile(w.dir + "/log")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		var out, in int
		_, err := fmt.Sscan(line, &out, &in)
		require.NoError(t, err)
		requests, received, sent = requests+1, received+in, sent+out
	}
	return requests, received, sent
}

// Each thread of wrk stops when it has had so many answers, so that none is cut off. It says what it read at the end.
const wrkScript = `
local left = %d
function response()
	left = left - 1
	if left == 0 then wrk.thread:stop() end
end
function done(s)
	local e = s.errors
	io.write(string.format("requests=%%d bytes=%%d errors=%%d\n", s.requests, s.bytes, e.connect + e.read + e.write + e.status + e.timeout))
end
`

// Web requests without keep-alive: each is a connection that both ends count, with its bytes, as do the kernel, wrk and nginx.
func TestKernelTCPEqualsWrkAndNginx(t *testing.T) {
	for _, name := range []string{"wrk", "nginx"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed (Debian: wrk, nginx-light)", name)
		}
	}
	here, there := pair(t)
	set(t, here, "ip_local_port_range", "1024 65535")
	set(t, here, "tcp_tw_reuse", "1")
	run := here.Start(byNamespace)
	w := serveNginx(t, there, "10.1.0.2:8080")
	const threads = 8
	requests := kernel.Load(100_000, 4000)
	script := filepath.Join(t.TempDir(), "wrk.lua")
	require.NoError(t, os.WriteFile(script, fmt.Appendf(nil, wrkScript, requests/threads), 0o644))
	cmd := exec.Command("wrk", "-t", strconv.Itoa(threads), "-c", strconv.Itoa(threads), "-d", "300", "--timeout", "60", "-s", script,
		"-H", "Connection: close", "http://10.1.0.2:8080/")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	here.Do(func() { require.NoError(t, cmd.Start()) })
	killed := false
	t.Cleanup(func() {
		if !killed {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	// After its last answer, each thread has one more connection that it does not use.
	require.Eventually(t, func() bool {
		have, _, _ := w.log(t)
		open := states(here)
		return have == requests && open["01"] == threads && open["08"] == 0
	}, 5*time.Minute, 5*tick)
	require.NoError(t, cmd.Process.Signal(os.Interrupt)) // it would sleep to the end of its time
	require.NoError(t, cmd.Wait(), &said)
	killed = true
	closed(t, here, there)
	accepted := w.accepted(t)
	run.Stop()

	var wrkRequests, wrkBytes, wrkErrors int
	m := regexp.MustCompile(`requests=\d+ .*`).FindString(said.String())
	_, err := fmt.Sscanf(m, "requests=%d bytes=%d errors=%d", &wrkRequests, &wrkBytes, &wrkErrors)
	require.NoError(t, err, &said)
	require.Equal(t, requests, wrkRequests)
	require.Zero(t, wrkErrors)
	served, received, sent := w.log(t)
	require.Equal(t, requests, served)

	connections, moved, ends := run.Last("ebpf.tcp.connections"), run.Last("ebpf.tcp.io"), run.Last("ebpf.tcp.connection.duration")
	opened := kernel.Values(kernel.Of(connections, here), "ebpf.tcp.role", "error.type")
	taken := kernel.Values(kernel.Of(connections, there), "ebpf.tcp.role", "error.type")
	assert.Equal(t, map[string]int{"connect -": here.Counters()["TcpActiveOpens"]}, opened)
	assert.Equal(t, accepted, taken["accept -"])
	assert.Equal(t, accepted, opened["connect -"])
	assert.Equal(t, there.Counters()["TcpPassiveOpens"], total(kernel.Of(connections, there)))
	assert.Equal(t, accepted, total(kernel.Of(ends, here)))
	assert.Equal(t, accepted, total(kernel.Of(ends, there)))
	assert.Equal(t, accepted, total(kernel.Of(run.Last("ebpf.tcp.connect.latency"), here)))
	for _, host := range []*kernel.Network{here, there} {
		kernels := host.Counters()
		again, resets := kernel.Of(run.Last("ebpf.tcp.retransmits"), host), kernel.Of(run.Last("ebpf.tcp.resets"), host)
		last := kernel.Values(kernel.Of(ends, host), "network.connection.state")
		assert.Equal(t, kernels["TcpRetransSegs"], total(again), "%v", kernel.Values(again, "ebpf.tcp.retransmit.kind"))
		assert.Equal(t, kernels["TcpEstabResets"], last["established"]+last["close_wait"])
		if _, ok := tracepoint(t, "tcp_send_reset", 3); ok {
			assert.Equal(t, kernels["TcpOutRsts"], kernel.Values(resets, "network.io.direction")["transmit"])
		}
	}
	assert.Equal(t, wrkBytes, sent, "wrk has read what nginx has sent")
	assert.Equal(t, map[string]int{"connect transmit": received, "connect receive": wrkBytes}, kernel.Values(kernel.Of(moved, here), "ebpf.tcp.role", "network.io.direction"))
	assert.Equal(t, map[string]int{"accept transmit": sent, "accept receive": received}, kernel.Values(kernel.Of(moved, there), "ebpf.tcp.role", "network.io.direction"))
}
