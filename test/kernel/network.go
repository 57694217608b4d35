// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Network is a network namespace of the test's own, with its loopback up. What nobody asked for, such as IPv6's search for routers,
// is switched off in it.
type Network struct {
	// Netlink configures it.
	Netlink *netlink.Handle

	t      testing.TB
	handle netns.NsHandle
}

// NewNetwork makes one. It ends with the test.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	NeedRoot(t)
	n := &Network{t: t}
	made := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good where it can not go back
		home, err := netns.Get()
		if err != nil {
			made <- err
			return
		}
		defer home.Close()
		if n.handle, err = netns.New(); err == nil {
			err = netns.Set(home)
		}
		if err == nil {
			runtime.UnlockOSThread()
		}
		made <- err
	}()
	require.NoError(t, <-made)
	t.Cleanup(func() { _ = n.handle.Close() })
	var err error
	n.Netlink, err = netlink.NewHandleAt(n.handle, unix.NETLINK_ROUTE)
	require.NoError(t, err)
	t.Cleanup(n.Netlink.Close)
	n.Do(func() {
		for _, of := range []string{"all", "default"} {
			for file, value := range map[string]string{
				"router_solicitations": "0", "accept_dad": "0", "addr_gen_mode": "1", "mldv2_unsolicited_report_interval": "1",
			} {
				_ = os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", of, file), []byte(value), 0) // none without IPv6
			}
		}
	})
	n.Up("lo")
	return n
}

// Do runs fn on a thread in the namespace. Sockets that it makes stay in it, and so do processes that it starts.
func (n *Network) Do(fn func()) {
	n.t.Helper()
	runtime.LockOSThread()
	own, err := netns.Get()
	require.NoError(n.t, err)
	defer own.Close()
	require.NoError(n.t, netns.Set(n.handle))
	defer func() {
		if err := netns.Set(own); err != nil {
			panic(err) // the thread can not be used any more
		}
		runtime.UnlockOSThread()
	}()
	fn()
}

// Start runs a receiver whose host's network this is. See [Start].
func (n *Network) Start(config string) (r *Run) {
	n.t.Helper()
	n.Do(func() { r = Start(n.t, config) })
	return r
}

// Run runs a command in it to its end, and returns what it said.
func (n *Network) Run(name string, args ...string) string {
	n.t.Helper()
	var out []byte
	var err error
	n.Do(func() { out, err = exec.Command(name, args...).CombinedOutput() })
	require.NoError(n.t, err, "%s %s: %s", name, strings.Join(args, " "), out)
	return string(out)
}

// Link is an interface of the namespace.
func (n *Network) Link(name string) netlink.Link {
	n.t.Helper()
	l, err := n.Netlink.LinkByName(name)
	require.NoError(n.t, err, name)
	return l
}

// Add makes an interface. Where the running kernel has none of its kind, the test is skipped: other kernels of the matrix have.
func (n *Network) Add(l netlink.Link) {
	n.t.Helper()
	err := n.Netlink.LinkAdd(l)
	if errors.Is(err, unix.EOPNOTSUPP) {
		n.t.Skipf("this kernel has no interfaces of the kind %s; run `make test-kernels` for those that have", l.Type())
	}
	require.NoError(n.t, err, "add %s", l.Attrs().Name)
}

// Connect makes a veth pair to another namespace, without addresses and down.
func (n *Network) Connect(name string, other *Network, peer string) {
	n.t.Helper()
	l := netlink.NewVeth(netlink.LinkAttrs{Name: name})
	l.PeerName, l.PeerNamespace = peer, netlink.NsFd(other.handle)
	n.Add(l)
}

// Up gives an interface addresses, such as "10.0.0.1/24", and takes it up.
func (n *Network) Up(name string, addresses ...string) {
	n.t.Helper()
	l := n.Link(name)
	for _, text := range addresses {
		a, err := netlink.ParseAddr(text)
		require.NoError(n.t, err)
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD
		}
		require.NoError(n.t, n.Netlink.AddrAdd(l, a))
	}
	require.NoError(n.t, n.Netlink.LinkSetUp(l))
}

// WithoutIPv6 keeps the namespace's own IPv6 from saying anything on interfaces that are taken up from now on.
func (n *Network) WithoutIPv6() {
	n.t.Helper()
	n.Do(func() {
		for _, of := range []string{"all", "default"} {
			_ = os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", of, "disable_ipv6"), []byte("1"), 0) // none without IPv6
		}
	})
}

// Settle waits until an interface has nothing more to say of its own, such as who listens to which multicast group.
func (n *Network) Settle(name string) {
	n.t.Helper()
	last, since := uint64(0), time.Now()
	require.Eventually(n.t, func() bool {
		if now := n.Counter(name, "rx_packets") + n.Counter(name, "tx_packets"); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 300*time.Millisecond
	}, 30*time.Second, 10*time.Millisecond)
}

// Watched waits until a packet socket receives what passes the interface, as the kernel's list of them has it.
func (n *Network) Watched(name string) {
	n.t.Helper()
	index := strconv.Itoa(n.Link(name).Attrs().Index)
	require.Eventually(n.t, func() (found bool) {
		n.Do(func() {
			list, err := os.ReadFile("/proc/thread-self/net/packet")
			require.NoError(n.t, err)
			for line := range strings.Lines(string(list)) {
				f := strings.Fields(line) // sk, references, type, protocol, interface, running, ...
				found = found || len(f) > 5 && f[4] == index && f[5] == "1"
			}
		})
		return found
	}, 30*time.Second, 10*time.Millisecond)
}

// Counter is one of the interface's own, of those in /sys/class/net/NAME/statistics: "rx_bytes".
func (n *Network) Counter(name, counter string) uint64 {
	n.t.Helper()
	s := n.Link(name).Attrs().Statistics
	require.NotNil(n.t, s)
	switch counter {
	case "rx_bytes":
		return s.RxBytes
	case "tx_bytes":
		return s.TxBytes
	case "rx_packets":
		return s.RxPackets
	case "tx_packets":
		return s.TxPackets
	}
	require.FailNow(n.t, "no such counter", counter)
	return 0
}

// Inode is the namespace's number, as in the link /proc/PID/ns/net.
func (n *Network) Inode() int64 {
	var s unix.Stat_t
	require.NoError(n.t, unix.Fstat(int(n.handle), &s))
	return int64(s.Ino)
}

// Process starts a process in the namespace and the cgroup that does nothing until the test ends, and returns its pid.
func (n *Network) Process(c *Cgroup) int {
	n.t.Helper()
	cmd := c.Command("sleep", "3600")
	n.Do(func() { require.NoError(n.t, cmd.Start()) })
	n.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// Root is a root file system for root_path whose /proc has only these processes, so that a receiver looks at nobody else's namespaces. The
// first is number 1 there.
func Root(t testing.TB, pids ...int) string {
	t.Helper()
	root := TempDir(t)
	require.NoError(t, os.Mkdir(filepath.Join(root, "proc"), 0o755))
	require.NoError(t, os.Symlink("/sys", filepath.Join(root, "sys")))
	require.NoError(t, os.Symlink(strconv.Itoa(os.Getpid()), filepath.Join(root, "proc", "self")))
	for i, pid := range pids {
		own := filepath.Join("/proc", strconv.Itoa(pid))
		if i == 0 {
			require.NoError(t, os.Symlink(own, filepath.Join(root, "proc", "1")))
		}
		require.NoError(t, os.Symlink(own, filepath.Join(root, "proc", strconv.Itoa(pid))))
	}
	return root
}

// Default makes a router the way to everywhere else.
func (n *Network) Default(router string) {
	n.t.Helper()
	require.NoError(n.t, n.Netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(router)}))
}
