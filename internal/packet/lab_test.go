// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	handles "github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/internal/netns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// space is a network namespace of a test's own.
type space struct {
	t     testing.TB
	fd    int
	inode uint32
	*netlink.Handle
}

// spaceOf takes a descriptor of a namespace.
func spaceOf(t testing.TB, fd int) *space {
	t.Helper()
	var stat unix.Stat_t
	require.NoError(t, unix.Fstat(fd, &stat))
	h, err := netlink.NewHandleAt(handles.NsHandle(fd), unix.NETLINK_ROUTE)
	require.NoError(t, err)
	s := &space{t: t, fd: fd, inode: uint32(stat.Ino), Handle: h}
	t.Cleanup(s.release)
	s.set("lo", unix.IFF_UP)
	return s
}

// release lets go of the namespace.
func (s *space) release() {
	if s.fd >= 0 {
		s.Close()
		_ = unix.Close(s.fd)
		s.fd = -1
	}
}

// container is a namespace with a process in it.
type container struct {
	*space
	process *exec.Cmd
	stdin   io.Closer
}

func newContainer(t testing.TB) *container {
	t.Helper()
	c := exec.Command("/proc/self/exe", "-test.run=^TestNothing$")
	c.Env = append(os.Environ(), "PACKET_TEST_SLEEP=1")
	c.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	in, err := c.StdinPipe()
	require.NoError(t, err)
	err = c.Start()
	require.NoError(t, err)
	fd, _, err := netns.Open(filepath.Join("/proc", strconv.Itoa(c.Process.Pid), "ns", "net"))
	require.NoError(t, err)
	k := &container{space: spaceOf(t, fd), process: c, stdin: in}
	t.Cleanup(k.kill)
	return k
}

// kill ends the process and the namespace, unless somebody else keeps it.
func (c *container) kill() {
	if c.process.ProcessState == nil {
		_ = c.stdin.Close()
		_ = c.process.Process.Kill()
		_ = c.process.Wait()
	}
	c.release()
}

// TestNothing is what the processes in containers run.
func TestNothing(*testing.T) {
	if os.Getenv("PACKET_TEST_SLEEP") != "" {
		var b [1]byte
		_, _ = os.Stdin.Read(b[:]) // until it is closed
	}
}

// in runs fn on a thread in the namespace.
func (s *space) in(fn func()) {
	s.t.Helper()
	ended := errors.New("the test failed")
	require.NoError(s.t, netns.Within(s.fd, s.inode, func() error { fn(); ended = nil; return nil }))
	require.NoError(s.t, ended)
}

func (s *space) link(name string) netlink.Link {
	s.t.Helper()
	l, err := s.LinkByName(name)
	require.NoError(s.t, err, name)
	return l
}

func (s *space) index(name string) int { s.t.Helper(); return s.link(name).Attrs().Index }

// add makes an interface, or skips the test where the kernel has none of its kind.
func (s *space) add(l netlink.Link) {
	s.t.Helper()
	err := s.LinkAdd(l)
	if errors.Is(err, unix.EOPNOTSUPP) {
		s.t.Skipf("this kernel has no %s", l.Type())
	}
	require.NoError(s.t, err, "add %s", l.Attrs().Name)
}

// veth makes a pair with the other end in another namespace.
func (s *space) veth(name string, other *space, peer string) {
	s.t.Helper()
	l := netlink.NewVeth(netlink.LinkAttrs{Name: name})
	l.PeerName = peer
	l.PeerNamespace = netlink.NsFd(other.fd)
	s.add(l)
}

func (s *space) set(name string, flag int) {
	s.t.Helper()
	l := s.link(name)
	if flag == unix.IFF_UP {
		require.NoError(s.t, s.LinkSetUp(l))
	} else {
		require.NoError(s.t, s.LinkSetDown(l))
	}
}

// up gives an interface addresses that can be used at once, and takes it up.
func (s *space) up(name string, addresses ...string) {
	s.t.Helper()
	l := s.link(name)
	for _, text := range addresses {
		a, err := netlink.ParseAddr(text)
		require.NoError(s.t, err)
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD
		}
		require.NoError(s.t, s.AddrAdd(l, a))
	}
	require.NoError(s.t, s.LinkSetUp(l))
}

// running waits until the kernel's own worker has seen that an interface is up and its cable, too: before, what is sent is thrown away before anybody sees
// it (net/core/link_watch.c).
func (s *space) running(name string) {
	s.t.Helper()
	eventually(s.t, func() bool { return s.link(name).Attrs().OperState == netlink.OperUp }, "%s does not come up", name)
}

// quiet keeps IPv6 from sending what nobody asked for.
func (s *space) quiet() {
	s.in(func() {
		for _, name := range []string{"all", "default"} {
			for file, value := range map[string]string{"router_solicitations": "0", "accept_dad": "0", "addr_gen_mode": "1"} {
				_ = os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", name, file), []byte(value), 0)
			}
		}
	})
}

// ethtool sets one of the features that have a command of their own.
func (s *space) ethtool(name string, command uint32, on bool) {
	s.t.Helper()
	value := ethtoolValue{cmd: command}
	if on {
		value.data = 1
	}
	s.in(func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(s.t, err)
		defer unix.Close(fd)
		request := ifreqData{data: unsafe.Pointer(&value)}
		copy(request.name[:], name)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
		require.Zero(s.t, errno, "ethtool %#x on %s: %v", command, name, errno)
	})
}

// The commands of include/uapi/linux/ethtool.h.
const (
	setTSO = 0x1f
	setGSO = 0x24
	setGRO = 0x2c
)

// counters are an interface's own. What was dropped on sending passed the socket and is not in the counters (drivers/net/veth.c, where the other
// side's queue is full); what was dropped on receiving may have been counted before (net/core/gro_cells.c).
type counters struct {
	receivedBytes, receivedPackets, sentBytes, sentPackets uint64
	receivedDropped, sentDropped                           uint64
}

func (s *space) counters(index int) counters {
	s.t.Helper()
	l, err := s.LinkByIndex(index)
	require.NoError(s.t, err)
	st := l.Attrs().Statistics
	return counters{st.RxBytes, st.RxPackets, st.TxBytes, st.TxPackets, st.RxDropped, st.TxDropped}
}

// since is what they grew by.
func (c counters) since(before counters) counters {
	return counters{
		c.receivedBytes - before.receivedBytes, c.receivedPackets - before.receivedPackets,
		c.sentBytes - before.sentBytes, c.sentPackets - before.sentPackets,
		c.receivedDropped - before.receivedDropped, c.sentDropped - before.sentDropped,
	}
}

// agree tells whether sockets counted what an interface did, packet by packet and byte by byte, but for the packets that it says it dropped.
func (c counters) agree(counted counters) bool {
	return onlyDropped(c.receivedPackets-counted.receivedPackets, c.receivedBytes-counted.receivedBytes, c.receivedDropped) &&
		onlyDropped(counted.sentPackets-c.sentPackets, counted.sentBytes-c.sentBytes, c.sentDropped)
}

// largestPacket is more than any has, with its headers (IPv4's length is of 16 bits, and nobody here asks for BIG TCP).
const largestPacket = 1<<16 + 256

func onlyDropped(packets, bytes, dropped uint64) bool {
	if packets == 0 {
		return bytes == 0
	}
	return packets <= dropped && bytes >= packets && bytes <= packets*largestPacket
}
