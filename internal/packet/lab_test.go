// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: run `make test` with sudo")
	}
}

// space is a network namespace of a test's own.
type space struct {
	t     testing.TB
	fd    int
	inode uint32
	*netlink.Handle
}

// newSpace makes one that no process is in.
func newSpace(t testing.TB) *space {
	t.Helper()
	fds := make(chan int, 1)
	result := make(chan error, 1)
	go func() { // locked for good: its thread ends with it
		lockThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- err
			return
		}
		fd, _, err := openNamespace(threadNamespace)
		fds <- fd
		result <- err
	}()
	require.NoError(t, <-result)
	return spaceOf(t, <-fds)
}

func spaceOf(t testing.TB, fd int) *space {
	t.Helper()
	var stat unix.Stat_t
	require.NoError(t, unix.Fstat(fd, &stat))
	h, err := netlink.NewHandleAt(netns.NsHandle(fd))
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
}

func newContainer(t testing.TB) *container {
	t.Helper()
	c := exec.Command("/proc/self/exe", "-test.run=^TestNothing$")
	c.Env = append(os.Environ(), "PACKET_TEST_SLEEP=1")
	c.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	in, err := c.StdinPipe()
	require.NoError(t, err)
	lockThread() // Pdeathsig is of the thread
	err = c.Start()
	unlockThread()
	require.NoError(t, err)
	fd, _, err := openNamespace(filepath.Join("/proc", strconv.Itoa(c.Process.Pid), "ns", "net"))
	require.NoError(t, err)
	k := &container{space: spaceOf(t, fd), process: c}
	t.Cleanup(func() { _ = in.Close(); k.kill() })
	return k
}

// kill ends the process and the namespace, unless somebody else keeps it.
func (c *container) kill() {
	if c.process.ProcessState == nil {
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
	require.NoError(s.t, within(s.fd, s.inode, func() error { fn(); return nil }))
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

// counters are an interface's own.
type counters struct{ receivedBytes, receivedPackets, sentBytes, sentPackets uint64 }

func (s *space) counters(index int) (c counters, dropped uint64) {
	s.t.Helper()
	l, err := s.LinkByIndex(index)
	require.NoError(s.t, err)
	st := l.Attrs().Statistics
	return counters{st.RxBytes, st.RxPackets, st.TxBytes, st.TxPackets}, st.TxDropped + st.RxDropped
}

//go:embed testdata/count/count.bpf.o
var countObject []byte

// sums is struct sums of testdata/count.
type sums struct{ Packets, Bytes, Segments, Wire, Tagged uint64 }

// counter is a program and its map, for one interface.
type counter struct {
	program *ebpf.Program
	sums    *ebpf.Map
}

func newCounter(t testing.TB, i Interface, verdict uint32) *counter {
	t.Helper()
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(countObject))
	require.NoError(t, err)
	if i.Counting.Ethernet {
		require.NoError(t, spec.Variables["link_header"].Set(uint32(header)))
	}
	require.NoError(t, spec.Variables["verdict"].Set(verdict))
	c, err := ebpf.NewCollection(spec)
	require.NoError(t, err)
	counter := &counter{program: c.DetachProgram("count"), sums: c.DetachMap("sums")}
	c.Close()
	return counter
}

func (c *counter) close() {
	_ = c.program.Close()
	_ = c.sums.Close()
}

func (c *counter) read(t testing.TB) (received, sent sums) {
	t.Helper()
	require.NoError(t, c.sums.Lookup(uint32(0), &received))
	require.NoError(t, c.sums.Lookup(uint32(1), &sent))
	return received, sent
}

// as is what an interface's counters should have grown by.
func (c *counter) as(t testing.TB, how Counting) counters {
	t.Helper()
	received, sent := c.read(t)
	one := func(s sums, adjust int8, wire, vlan bool) (total, packets uint64) {
		total, packets = s.Bytes, s.Packets
		each := packets
		if wire {
			total, packets, each = s.Wire, s.Segments, s.Segments
		}
		total += uint64(int64(adjust) * int64(each))
		if vlan {
			total += 4 * s.Tagged
		}
		return total, packets
	}
	var k counters
	k.receivedBytes, k.receivedPackets = one(received, how.Receive, how.WireReceive, how.VLANReceive)
	if how.Loopback {
		k.sentBytes, k.sentPackets = k.receivedBytes, k.receivedPackets
		return k
	}
	k.sentBytes, k.sentPackets = one(sent, how.Transmit, how.WireTransmit, how.VLANTransmit)
	return k
}

// run is a follower whose programs count.
type run struct {
	*Follower
	t testing.TB

	mu       sync.Mutex
	counters map[Key]*counter
	attached int // how often
	detached int
}

// follow follows with the space as the host.
func (s *space) follow(opts Options) *run {
	s.t.Helper()
	r := &run{t: s.t, counters: make(map[Key]*counter)}
	if opts.Logger == nil {
		opts.Logger = zaptest.NewLogger(s.t, zaptest.Level(zap.WarnLevel))
	}
	if opts.Attach == nil {
		opts.Attach = r.attach
	}
	opts.Detach = func(Interface) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.detached++
	}
	var err error
	s.in(func() { r.Follower, err = Follow(s.t.Context(), opts) })
	require.NoError(s.t, err)
	s.t.Cleanup(r.close)
	return r
}

func (r *run) attach(i Interface) (*ebpf.Program, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attached++
	c := r.counters[i.Key()]
	if c == nil {
		c = newCounter(r.t, i, 0)
		r.counters[i.Key()] = c
	}
	return c.program, nil
}

func (r *run) close() {
	require.NoError(r.t, r.Follower.Close())
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.counters {
		c.close()
	}
	r.counters = nil
}

func (r *run) counter(key Key) *counter {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counters[key]
}

// find is an attachment by name.
func (r *run) find(s *space, name string) *Attachment {
	for _, a := range r.Attachments() {
		if a.Namespace == s.inode && a.Name == name {
			return &a
		}
	}
	return nil
}

// names are what is attached in a namespace, without errors.
func (r *run) attachedIn(s *space) []string {
	list := []string{}
	for _, a := range r.Attachments() {
		if a.Namespace == s.inode && a.Err == nil {
			list = append(list, a.Name)
		}
	}
	return list
}

// eventually waits for a condition that an event brings about.
func eventually(t testing.TB, condition func() bool, what string, args ...any) {
	t.Helper()
	require.Eventually(t, condition, 20*time.Second, 2*time.Millisecond, append([]any{what}, args...)...)
}

// descriptors counts this process's.
func descriptors(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(list)
}

// ledger compares interfaces' counters with what programs counted since.
type ledger struct {
	*run
	spaces []*space
	before map[Key]counters
}

// open follows all interfaces of the first space and of the others, beginning at a moment when nothing moves.
func open(spaces ...*space) *ledger {
	t := spaces[0].t
	t.Helper()
	l := &ledger{spaces: spaces}
	for range 50 {
		before := l.counters()
		opts := Options{Include: []string{"*"}}
		if len(spaces) > 1 {
			opts.Namespaces = AllNamespaces
		}
		r := spaces[0].follow(opts)
		for _, s := range spaces {
			links, err := s.LinkList()
			require.NoError(t, err)
			require.Len(t, r.attachedIn(s), len(links))
		}
		if after := l.counters(); assert.ObjectsAreEqual(before, after) {
			l.run, l.before = r, after
			return l
		}
		r.close()
		time.Sleep(50 * time.Millisecond)
	}
	require.FailNow(t, "the namespaces never are quiet")
	return nil
}

func (l *ledger) counters() map[Key]counters {
	all := make(map[Key]counters)
	for _, s := range l.spaces {
		links, err := s.LinkList()
		require.NoError(s.t, err)
		for _, link := range links {
			all[Key{s.inode, link.Attrs().Index}], _ = s.counters(link.Attrs().Index)
		}
	}
	return all
}

// balance compares when nothing moves any more, and returns what moved by the interfaces' names. Some may count otherwise than
// is known from their own side. A packet may be on its way from a counter to the program, or back, so that both are
// read again while they differ.
func (l *ledger) balance(otherwise map[string]func(*Counting)) map[string]counters {
	t := l.spaces[0].t
	t.Helper()
	var differences []string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		before := l.counters()
		moved := make(map[string]counters)
		differences = nil
		for _, a := range l.Attachments() {
			how := a.Counting
			if fn := otherwise[a.Name]; fn != nil {
				fn(&how)
			}
			was, now := l.before[a.Key()], before[a.Key()]
			grown := counters{
				now.receivedBytes - was.receivedBytes, now.receivedPackets - was.receivedPackets,
				now.sentBytes - was.sentBytes, now.sentPackets - was.sentPackets,
			}
			c := l.counter(a.Key())
			if counted := c.as(t, how); counted != grown {
				received, sent := c.read(t)
				differences = append(differences, fmt.Sprintf("%s (%s) in %d, %+v:\ngrown    %+v\ncounted  %+v\nreceived %+v\nsent     %+v",
					a.Name, a.Kind, a.Namespace, how, grown, counted, received, sent))
			}
			moved[a.Name] = grown
		}
		if len(differences) == 0 && assert.ObjectsAreEqual(before, l.counters()) {
			return moved
		}
	}
	require.Empty(t, differences)
	require.FailNow(t, "the namespaces never are quiet")
	return nil
}

// talk sends and receives by TCP and UDP between two namespaces, so that large packets and small ones go both ways.
func talk(from, to *space, address string) {
	t := from.t
	t.Helper()
	const bulk = 3 << 20
	var listener net.Listener
	var datagrams net.PacketConn
	to.in(func() {
		var err error
		listener, err = net.Listen("tcp", net.JoinHostPort(address, "0"))
		require.NoError(t, err)
		datagrams, err = net.ListenPacket("udp", net.JoinHostPort(address, "0"))
		require.NoError(t, err)
	})
	defer listener.Close()
	defer datagrams.Close()
	served := make(chan error, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			served <- err
			return
		}
		defer c.Close()
		buffer := make([]byte, 1<<20)
		for left := bulk; left > 0; {
			n, err := c.Read(buffer)
			if err != nil {
				served <- err
				return
			}
			left -= n
		}
		_, err = c.Write(make([]byte, bulk/2))
		served <- err
	}()
	echoed := make(chan error, 1)
	go func() {
		buffer := make([]byte, 2048)
		for {
			n, peer, err := datagrams.ReadFrom(buffer)
			if err != nil {
				echoed <- nil
				return
			}
			if _, err := datagrams.WriteTo(buffer[:n/2], peer); err != nil {
				echoed <- err
				return
			}
		}
	}()
	from.in(func() {
		c, err := net.DialTimeout("tcp", listener.Addr().String(), 10*time.Second)
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		_, err = c.Write(make([]byte, bulk))
		require.NoError(t, err)
		buffer := make([]byte, 1<<20)
		for left := bulk / 2; left > 0; {
			n, err := c.Read(buffer)
			require.NoError(t, err)
			left -= n
		}
		u, err := net.Dial("udp", datagrams.LocalAddr().String())
		require.NoError(t, err)
		defer u.Close()
		for size := 1; size < 1300; size += 50 {
			require.NoError(t, u.SetDeadline(time.Now().Add(10*time.Second)))
			_, err := u.Write(buffer[:size])
			require.NoError(t, err)
			_, err = u.Read(buffer)
			require.NoError(t, err)
		}
	})
	require.NoError(t, <-served)
	require.NoError(t, datagrams.Close())
	require.NoError(t, <-echoed)
}
