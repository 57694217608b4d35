// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/ebpfreceiver/ebpfreceiver/test/capability"
)

// processVariable, in the environment, makes a test binary a process that only runs a receiver.
const processVariable = "EBPFRECEIVER_TEST_PROCESS"

// lockedMemory is the limit that a process has by default before Linux 5.16, in bytes.
const lockedMemory = 64 << 10

// startTimeout is what the receiver's process may take to start, on an emulated processor.
const startTimeout = time.Minute

// order is what the receiver's process is told.
type order struct {
	// Config is the receiver's, in YAML.
	Config       []byte
	Capabilities []uintptr
}

// message is what it says: one of these.
type message struct {
	// Started says that it runs now, Stopped that all was delivered.
	Started, Stopped bool
	// Metrics and Logs that it delivered, in OTLP.
	Metrics, Logs []byte
	// Problem that it reported of itself.
	Problem string
	// Err is why it could not start or stop.
	Err string
}

// A receiver in a process of its own is the test binary again, which has to become it before it runs any test.
func init() {
	if os.Getenv(processVariable) == "" {
		return
	}
	os.Unsetenv(processVariable)
	if err := beReceiver(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// outbox sends messages.
type outbox struct {
	mu      sync.Mutex
	encoder *gob.Encoder
}

func (o *outbox) send(m message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.encoder.Encode(m)
}

// sendTo is a consumer whose data are sent.
func sendTo[T any](o *outbox, marshal func(T) ([]byte, error), as func([]byte) message) func(context.Context, T) error {
	return func(_ context.Context, data T) error {
		b, err := marshal(data)
		if err != nil {
			return err
		}
		return o.send(as(b))
	}
}

// beReceiver runs a receiver, as the process that [startProcess] has started, until its input ends.
func beReceiver() error {
	out := &outbox{encoder: gob.NewEncoder(os.NewFile(3, "messages"))}
	stop, err := startOrdered(out)
	if err != nil {
		return errors.Join(out.send(message{Err: err.Error()}), err)
	}
	if err := out.send(message{Started: true}); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	m := message{Stopped: true}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, s := range stop {
		if err := s(ctx); err != nil {
			m.Err += err.Error()
		}
	}
	return out.send(m)
}

func startOrdered(out *outbox) (stop []func(context.Context) error, err error) {
	var o order
	if err := gob.NewDecoder(os.Stdin).Decode(&o); err != nil {
		return nil, fmt.Errorf("read the order: %w", err)
	}
	if err := requireNobody(o.Capabilities); err != nil {
		return nil, err
	}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: lockedMemory, Max: lockedMemory}); err != nil {
		return nil, fmt.Errorf("limit the locked memory: %w", err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(o.Config, &values); err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	metrics, err := consumer.NewMetrics(sendTo(out, new(pmetric.ProtoMarshaler).MarshalMetrics, func(b []byte) message { return message{Metrics: b} }))
	if err != nil {
		return nil, err
	}
	logs, err := consumer.NewLogs(sendTo(out, new(plog.ProtoMarshaler).MarshalLogs, func(b []byte) message { return message{Logs: b} }))
	if err != nil {
		return nil, err
	}
	host := &strictHost{Host: componenttest.NewNopHost(), tell: func(problem string) { _ = out.send(message{Problem: problem}) }}
	return startReceiver(context.Background(), values, host, metrics, logs)
}

// process is one of an unprivileged user's that runs a receiver: all of its threads, from the first moment on, have these capabilities and no way to
// others.
type process struct {
	cmd       *exec.Cmd
	input     io.Closer
	complaint *bytes.Buffer
	started   chan error
	ended     chan struct{}
	err       error // after ended
}

// startProcess starts one in the calling thread's network namespace, and passes on what it delivers.
func startProcess(r *Run, values map[string]any, capabilities []uintptr) (*process, error) {
	config, err := yaml.Marshal(values)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	p := &process{cmd: cmd, complaint: new(bytes.Buffer), started: make(chan error, 1), ended: make(chan struct{})}
	cmd.Env = append(os.Environ(), processVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: capability.Nobody, Gid: capability.Nobody}, AmbientCaps: capabilities,
	}
	cmd.Stdout, cmd.Stderr = p.complaint, p.complaint
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.input = input
	messages, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = []*os.File{theirs}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		messages.Close()
		return nil, fmt.Errorf("start the receiver's process: %w", err)
	}
	go p.receive(r, messages)
	err = errors.Join(renumber(values, cmd.Process.Pid), gob.NewEncoder(input).Encode(order{Config: config, Capabilities: capabilities}))
	if err == nil {
		select {
		case err = <-p.started:
		case <-time.After(startTimeout):
			err = errors.New("it does not start")
		}
	}
	if err != nil {
		_ = cmd.Process.Kill()
		<-p.ended
		return nil, fmt.Errorf("the receiver's process: %w\n%s", err, p.complaint)
	}
	return p, nil
}

// receive takes what the process says until it ends.
func (p *process) receive(r *Run, messages io.ReadCloser) {
	defer close(p.ended)
	defer messages.Close()
	stopped := false
	fail := func(err error) {
		p.err = errors.Join(p.err, err)
		select {
		case p.started <- err:
		default:
		}
	}
	for decoder := gob.NewDecoder(messages); ; {
		var m message
		if err := decoder.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			fail(fmt.Errorf("read from the receiver's process: %w", err))
			break
		}
		if m.Started {
			p.started <- nil
		}
		stopped = stopped || m.Stopped
		if m.Err != "" {
			fail(errors.New(m.Err))
		}
		if m.Problem != "" {
			r.t.Error(m.Problem)
		}
		if err := m.deliver(r); err != nil {
			fail(err)
		}
	}
	if err := p.cmd.Wait(); err != nil || !stopped {
		fail(fmt.Errorf("the receiver's process ended early: %w\n%s", errors.Join(err, io.ErrUnexpectedEOF), p.complaint))
	}
}

func (m message) deliver(r *Run) error {
	ctx := context.Background()
	if m.Metrics != nil {
		md, err := new(pmetric.ProtoUnmarshaler).UnmarshalMetrics(m.Metrics)
		if err != nil {
			return err
		}
		return r.Metrics.ConsumeMetrics(ctx, md)
	}
	if m.Logs != nil {
		ld, err := new(plog.ProtoUnmarshaler).UnmarshalLogs(m.Logs)
		if err != nil {
			return err
		}
		return r.Logs.ConsumeLogs(ctx, ld)
	}
	return nil
}

// stop ends the receiver.
func (p *process) stop(ctx context.Context) error {
	_ = p.input.Close()
	select {
	case <-p.ended:
	case <-ctx.Done():
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // which tells what it was doing
		<-p.ended
		return fmt.Errorf("stop the receiver's process: %w\n%s", ctx.Err(), p.complaint)
	}
	return p.err
}

// renumber makes the process the one that is itself in a root file system of [Root].
func renumber(values map[string]any, pid int) error {
	root, ok := values["root_path"].(string)
	if !ok {
		return nil
	}
	self := filepath.Join(root, "proc", "self")
	if to, err := os.Readlink(self); err != nil || to != strconv.Itoa(os.Getpid()) {
		return err
	}
	if err := os.Remove(self); err != nil {
		return err
	}
	return os.Symlink(strconv.Itoa(pid), self)
}
