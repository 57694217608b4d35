// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// The values of [Options.Namespaces].
const (
	HostNamespace = "host"
	AllNamespaces = "all"
)

// Options are what to follow.
type Options struct {
	// Include are patterns of names, as [path.Match] has them. When there are none, the package's rule selects.
	Include []string
	// Exclude are patterns of names that are not attached, whatever selected them.
	Exclude []string
	// Namespaces is [HostNamespace], which is the default, or [AllNamespaces].
	Namespaces string
	// Addresses asks for the namespaces' addresses and processes too, also where only the host's interfaces are attached.
	Addresses bool
	// Root is where the host's file system is; empty for "/".
	Root string
	// Interval is how often to look for new namespaces; 0 for a second. On hosts with very many processes it is less often, so that
	// it takes a twentieth of a CPU at most.
	Interval time.Duration
	// Logger may be nil.
	Logger *zap.Logger
	// Attach gives the program for an interface. It is called from one goroutine, before the interface is attached, and again
	// when its Counting changed: the new program takes the old one's place between two packets. Programs stay the caller's.
	Attach func(Interface) (*ebpf.Program, error)
	// Detach, if any, is called from the same goroutine when the interface's socket is closed.
	Detach func(Interface)
}

// Validate checks what can be checked without a kernel.
func (o Options) Validate() error {
	var errs []error
	errs = append(errs, checkGlobs("include", o.Include), checkGlobs("exclude", o.Exclude))
	switch o.Namespaces {
	case "", HostNamespace, AllNamespaces:
	default:
		errs = append(errs, fmt.Errorf("namespaces: %q is neither %q nor %q", o.Namespaces, HostNamespace, AllNamespaces))
	}
	return errors.Join(errs...)
}

// Attachment is an interface that is selected, and what became of it.
type Attachment struct {
	Interface
	// Err is why it could not be attached; it is tried again.
	Err error
	// Passed counts packets that the program let pass to the socket, and Dropped those of them that did not fit. A program that
	// only counts lets none pass: neither is ever above 0.
	Passed, Dropped uint64
}

// Follower keeps interfaces attached until it is closed. It is safe for concurrent use.
type Follower struct {
	opts Options
	rule rule
	log  *zap.Logger
	proc string

	epoll, event int // event is an eventfd
	stopped      func() bool
	done         chan struct{}

	mu       sync.Mutex
	closing  bool
	waiters  []chan struct{} // of Refresh
	attached map[Key]*attachment
	names    *memory[Key, string]
	owners   *owners
	limits   map[string]error
	released Attachment // of which Passed and Dropped sum up those that are gone
	followed int

	// Only run uses these.
	namespaces map[uint32]*namespace
	polled     map[int32]func()
	refused    map[uint32]time.Time
	buffer     []byte
	watchable  bool // processes can be waited for by their number
	next       time.Time
	looked     time.Time
	cost       time.Duration

	releases  sync.WaitGroup // sockets that are being closed
	releasing chan struct{}  // as many at a time as it has room for
}

// releasesMax bounds how many sockets are closed at a time: each takes a thread.
const releasesMax = 64

// attachment is a selected interface; fd is -1 when it is not attached.
type attachment struct {
	Attachment
	fd    int
	retry time.Time
	wait  time.Duration
}

// Follow attaches to all selected interfaces that there are, and then keeps following until [Follower.Close], or until the
// context is done. Interfaces that could not be attached are in [Follower.Attachments], and no error.
//
// The error is a [*kernel.PermissionError] without CAP_NET_RAW, or when the host's namespace is another one and can not be entered. Other
// namespaces need CAP_SYS_ADMIN and CAP_SYS_PTRACE: without them, [Follower.Limits] says so.
//
// [*kernel.PermissionError]: https://pkg.go.dev/github.com/ebpfreceiver/ebpfreceiver/internal/kernel#PermissionError
func Follow(ctx context.Context, opts Options) (*Follower, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	if opts.Attach == nil {
		return nil, errors.New("no function gives the programs to attach")
	}
	if opts.Logger == nil {
		opts.Logger = zap.NewNop()
	}
	if opts.Interval <= 0 {
		opts.Interval = time.Second
	}
	if err := mayOpen(); err != nil {
		return nil, err
	}
	f := &Follower{
		opts:       opts,
		rule:       rule{opts.Include, opts.Exclude},
		log:        opts.Logger,
		proc:       procBelow(opts.Root),
		done:       make(chan struct{}),
		attached:   make(map[Key]*attachment),
		names:      newMemory[Key, string](goneMax),
		owners:     newOwners(),
		limits:     make(map[string]error),
		namespaces: make(map[uint32]*namespace),
		polled:     make(map[int32]func()),
		refused:    make(map[uint32]time.Time),
		buffer:     make([]byte, 64<<10),
		releasing:  make(chan struct{}, releasesMax),
	}
	// Before the goroutine starts: the namespace is that of the caller's thread.
	host, err := f.openHost()
	if err != nil {
		return nil, err
	}
	if err := f.openPoll(); err != nil {
		_ = unix.Close(host.fd)
		return nil, err
	}
	started := make(chan error)
	go f.run(host, started)
	if err := <-started; err != nil {
		<-f.done
		return nil, err
	}
	f.stopped = context.AfterFunc(ctx, f.stop)
	return f, nil
}

func (f *Follower) openPoll() (err error) {
	if f.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("create an epoll instance: %w", err)
	}
	if f.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		_ = unix.Close(f.epoll)
		return fmt.Errorf("create an eventfd: %w", err)
	}
	if err = f.poll(f.event, func() {
		var count [8]byte
		_, _ = unix.Read(f.event, count[:])
	}); err != nil {
		_ = unix.Close(f.epoll)
		_ = unix.Close(f.event)
	}
	return err
}

// poll calls fn whenever a descriptor can be read, until it is closed.
func (f *Follower) poll(fd int, fn func()) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(f.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("poll a descriptor: %w", err)
	}
	f.polled[int32(fd)] = fn
	return nil
}

// wake makes run look at what was asked. The caller holds mu, and run has not ended.
func (f *Follower) wake() {
	_, _ = unix.Write(f.event, binary.NativeEndian.AppendUint64(nil, 1))
}

func (f *Follower) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closing {
		f.closing = true
		f.wake()
	}
}

// Close detaches all interfaces. When it returns, no socket, namespace or goroutine is left. Names can still be asked for.
func (f *Follower) Close() error {
	f.stopped()
	f.stop()
	<-f.done
	return nil
}

// Refresh looks for new and gone namespaces, and tries again what could not be attached, now. It returns when that is done.
func (f *Follower) Refresh(ctx context.Context) error {
	seen := make(chan struct{})
	f.mu.Lock()
	if !f.closing {
		f.waiters = append(f.waiters, seen)
		f.wake()
	}
	f.mu.Unlock()
	select {
	case <-seen:
		return nil
	case <-f.done:
		return errors.New("no interfaces are followed any more")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Interface names an interface that is attached, or was. After it is gone, its name is remembered for some minutes, until the
// index is given to another one in the same namespace, or until there are too many. One that was renamed has its new name.
func (f *Follower) Interface(namespace uint32, index int) (name string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.names.get(Key{namespace, index})
}

// Attachments are the selected interfaces, in no order.
func (f *Follower) Attachments() []Attachment {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]Attachment, 0, len(f.attached))
	for _, a := range f.attached {
		a.count()
		list = append(list, a.Attachment)
	}
	return list
}

// Dropped sums up [Attachment.Dropped] of all interfaces that are or were attached.
func (f *Follower) Dropped() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	sum := f.released.Dropped
	for _, a := range f.attached {
		a.count()
		sum += a.Dropped
	}
	return sum
}

// Namespaces is how many are followed.
func (f *Follower) Namespaces() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.followed
}

// Limits are the reasons, at the moment, why less is followed than was asked for. Each is a sentence for the user.
func (f *Follower) Limits() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]error, 0, len(f.limits))
	for _, err := range f.limits {
		list = append(list, err)
	}
	return list
}

// count adds up what the kernel counted since the last time; reading sets it back.
func (a *attachment) count() {
	if a.fd < 0 {
		return
	}
	passed, dropped := statistics(a.fd)
	a.Passed += passed
	a.Dropped += dropped
}
