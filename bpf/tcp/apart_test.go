// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tcp_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// apartVariable, in the environment, makes the test binary a process that only serves at this address.
const apartVariable = "EBPFRECEIVER_TEST_TCP_SERVER"

func TestMain(m *testing.M) {
	if address := os.Getenv(apartVariable); address != "" {
		if err := beServer(address); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// inherited is the address of a server whose listener is its parent's.
const inherited = "inherited"

// beServer serves until its input ends.
func beServer(address string) error {
	listen := func() (net.Listener, error) { return net.Listen("tcp", address) }
	if address == inherited {
		listen = func() (net.Listener, error) { return net.FileListener(os.NewFile(3, address)) }
	}
	l, err := listen()
	if err != nil {
		return err
	}
	s := &server{Listener: l}
	s.run()
	fmt.Println("listening")
	_, err = io.Copy(io.Discard, os.Stdin)
	s.end()
	return err
}

// apart is a [server] in a process of its own, whose connections are not the test's on both sides.
type apart struct {
	pid  int64
	name string
	end  func() // waits until all connections are closed
}

func serveApart(t *testing.T, n *kernel.Network, cgroup *kernel.Cgroup, address string, files ...*os.File) apart {
	t.Helper()
	cmd := cgroup.Command("/proc/self/exe")
	cmd.Env, cmd.Stderr, cmd.ExtraFiles = append(os.Environ(), apartVariable+"="+address), os.Stderr, files
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	n.Do(func() { require.NoError(t, cmd.Start()) })
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
	require.NoError(t, err)
	return apart{int64(cmd.Process.Pid), string(name[:len(name)-1]), func() {
		require.NoError(t, in.Close())
		require.NoError(t, cmd.Wait())
	}}
}
