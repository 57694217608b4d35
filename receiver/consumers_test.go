// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver_test

import (
	"context"
	"sync"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// blocked is a consumer that does not return before it is released, or its context ends if it heeds it.
type blocked struct {
	heeds            bool
	entered, release chan struct{}

	mu             sync.Mutex
	called, active int
}

func newBlocked(heeds bool) *blocked {
	return &blocked{heeds: heeds, entered: make(chan struct{}), release: make(chan struct{})}
}

func (b *blocked) consume(ctx context.Context) error {
	b.mu.Lock()
	b.called++
	b.active++
	if b.called == 1 {
		close(b.entered)
	}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.active--
		b.mu.Unlock()
	}()
	if !b.heeds {
		<-b.release
		return nil
	}
	select {
	case <-b.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *blocked) calls() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.called
}

func (b *blocked) inside() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.active
}

func (*blocked) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (b *blocked) ConsumeLogs(ctx context.Context, _ plog.Logs) error { return b.consume(ctx) }

func (b *blocked) ConsumeMetrics(ctx context.Context, _ pmetric.Metrics) error { return b.consume(ctx) }

// picky decides with a function what becomes of data, which it may change.
type picky struct {
	consumertest.LogsSink
	metrics consumertest.MetricsSink
	mutates bool
	decide  func(call int) error

	mu    sync.Mutex
	calls int
	// refusedPoints are those of metrics, as often as they were refused.
	refusedPoints int
}

func (p *picky) Capabilities() consumer.Capabilities {
	return consumer.Capabilities{MutatesData: p.mutates}
}

func (p *picky) next() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	return p.decide(p.calls)
}

func (p *picky) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

func (p *picky) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	if err := p.next(); err != nil {
		if p.mutates {
			logs.ResourceLogs().RemoveIf(func(plog.ResourceLogs) bool { return true })
		}
		return err
	}
	return p.LogsSink.ConsumeLogs(ctx, logs)
}

func (p *picky) ConsumeMetrics(ctx context.Context, md pmetric.Metrics) error {
	points, accepted := md.DataPointCount(), false
	defer func() { // panics are refusals, too
		if !accepted {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.refusedPoints += points
		}
	}()
	if err := p.next(); err != nil {
		if p.mutates {
			md.ResourceMetrics().RemoveIf(func(pmetric.ResourceMetrics) bool { return true })
		}
		return err
	}
	accepted = true
	return p.metrics.ConsumeMetrics(ctx, md)
}
