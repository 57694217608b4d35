// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"context"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"
)

// instance is what works for one configuration: the probes and what reads them. Its methods are
// called from one goroutine at a time.
type instance interface {
	// setMetrics and setLogs are called before Start, each only when a pipeline of that signal uses
	// the receiver. A signal without a consumer is not collected.
	setMetrics(consumer.Metrics)
	setLogs(consumer.Logs)
	// Start is called at most once. The host reports the component's status to every pipeline.
	Start(context.Context, component.Host) error
	// Shutdown is called once, whether or not Start was called or succeeded.
	Shutdown(context.Context) error
}

// sharedSet holds the instances that are in use, by their configuration: the Collector passes the
// same pointer for every signal of one component, and a new one after it reloaded.
type sharedSet struct {
	create func(receiver.Settings, *Config) (instance, error)

	mu       sync.Mutex
	byConfig map[*Config]*shared
}

func newSharedSet(create func(receiver.Settings, *Config) (instance, error)) *sharedSet {
	return &sharedSet{create: create, byConfig: make(map[*Config]*shared)}
}

// get returns the configuration's component and creates it for the first signal.
func (s *sharedSet) get(set receiver.Settings, cfg *Config) (*shared, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.byConfig[cfg]; ok {
		return c, nil
	}
	i, err := s.create(set, cfg)
	if err != nil {
		return nil, err
	}
	c := &shared{instance: i}
	c.remove = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		// A configuration that was used again after its shutdown has another component by now.
		if s.byConfig[cfg] == c {
			delete(s.byConfig, cfg)
		}
	}
	s.byConfig[cfg] = c
	return c, nil
}

// shared is the component that the Collector sees once per signal. The first Start starts the
// instance, the first Shutdown ends it: the Collector stops all receivers before any of their
// consumers, and after its Shutdown a receiver may not call a consumer any more.
type shared struct {
	remove func()

	mu       sync.Mutex
	instance instance
	host     *statusHost // set by the first Start
	err      error       // of the instance's Start
	stopped  bool
}

func (s *shared) setMetrics(next consumer.Metrics) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instance.setMetrics(next)
}

func (s *shared) setLogs(next consumer.Logs) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instance.setLogs(next)
}

// Start starts the instance for the first signal and returns the same result for the others. After
// a Shutdown it does nothing.
func (s *shared) Start(ctx context.Context, host component.Host) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	if s.host != nil {
		s.host.join(host)
		return s.err
	}
	s.host = &statusHost{Host: host}
	s.host.join(host)
	s.err = s.instance.Start(ctx, s.host)
	return s.err
}

// Shutdown ends the instance. It may be called without Start, and more than once.
func (s *shared) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.stopped = true
	s.remove()
	if s.host != nil {
		s.host.leave()
	}
	return s.instance.Shutdown(ctx)
}

// statusHost passes the status of one instance on to the pipelines of every signal that it serves:
// each has a reporter of its own.
type statusHost struct {
	component.Host

	mu        sync.Mutex
	reporters []componentstatus.Reporter
	last      *componentstatus.Event
}

// join adds a pipeline, which learns of the present status at once.
func (h *statusHost) join(host component.Host) {
	reporter, ok := host.(componentstatus.Reporter)
	if !ok {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reporters = append(h.reporters, reporter)
	if h.last != nil {
		reporter.Report(h.last)
	}
}

// leave ends all reporting: from here on the Collector itself reports that the component stops.
func (h *statusHost) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reporters = nil
}

// Report implements [componentstatus.Reporter].
func (h *statusHost) Report(event *componentstatus.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = event
	for _, reporter := range h.reporters {
		reporter.Report(event)
	}
}
