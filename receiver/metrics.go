// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"context"
	"errors"
	"os"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/zap"

	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/emit"
	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/metadata"
)

// collector takes a snapshot of all probes at each tick.
type collector struct {
	*ebpfReceiver
	sources  []*runningProbe // that have metrics, or records that an iterator makes
	refusals refusals
	// failing are the probes whose last snapshot failed: each failure is reported when it begins, not at every tick.
	failing map[*runningProbe]bool
}

func newCollector(r *ebpfReceiver) *collector {
	c := &collector{
		ebpfReceiver: r,
		refusals:     refusals{logger: r.logger.With(zap.String("signal", "metrics"))},
		failing:      make(map[*runningProbe]bool),
	}
	for _, p := range r.probes {
		if len(p.tables) > 0 || p.Iterates() {
			c.sources = append(c.sources, p)
		}
	}
	return c
}

// newBuilder makes what brings the tables of all probes into one payload. It remembers a resource as long as any series of it may be
// remembered.
func (r *ebpfReceiver) newBuilder(probes []resolvedProbe) *emit.Metrics {
	ttl := r.cfg.CollectionInterval
	for _, p := range probes {
		ttl = max(ttl, p.SeriesTTL)
	}
	return emit.NewMetrics(emit.Options{
		Identity:  r.host,
		Names:     r.host,
		Delta:     r.cfg.Temporality == Delta,
		TTL:       ttl,
		ScopeName: metadata.ScopeName,
		Version:   r.settings.BuildInfo.Version,
	}, time.Now())
}

func (c *collector) run(ctx context.Context) {
	defer close(c.collected)
	ticker := time.NewTicker(c.cfg.CollectionInterval)
	defer ticker.Stop()
	for {
		select {
		case <-c.stop:
			c.tick(ctx) // what was counted since the last one
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.tick(ctx)
		}
	}
}

// tick collects and delivers once.
func (c *collector) tick(ctx context.Context) {
	c.host.names.learn()
	c.builder.Begin(time.Now())
	for _, p := range c.sources {
		c.snapshot(ctx, p)
	}
	if md := c.builder.End(); md.DataPointCount() > 0 {
		c.deliver(ctx, md)
	}
}

// snapshot reads one probe's maps.
func (c *collector) snapshot(ctx context.Context, p *runningProbe) {
	start := time.Now()
	errs := []error{p.Collect(ctx)}
	for i, t := range p.tables {
		rows, err := t.Read(ctx)
		errs = append(errs, err)
		c.telemetry.ReceiverEbpfSnapshotRows.Add(ctx, int64(rows), p.with(attribute.String("map", p.Tables[i].Map)))
		if t.Overflowed() {
			p.overflows[i].Add(1)
		}
	}
	c.telemetry.ReceiverEbpfSnapshotDuration.Record(ctx, time.Since(start).Seconds(), p.with())
	err := errors.Join(errs...)
	switch failed := err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, os.ErrClosed); {
	case failed && !c.failing[p]:
		c.logger.Error("snapshot failed; what was not read stays for the next one", zap.String("probe", p.resolved.Name), zap.Error(err))
		c.failing[p] = true
	case !failed && c.failing[p]:
		c.logger.Info("snapshots succeed again", zap.String("probe", p.resolved.Name))
		delete(c.failing, p)
	}
}

// deliver hands a payload to the next consumer. A cumulative one that is refused is given up: the next tick has the better version
// of it. Growths can not be read again: they are offered until they are taken or refused for good, and the kernel
// goes on counting meanwhile.
func (c *collector) deliver(ctx context.Context, md pmetric.Metrics) {
	points := md.DataPointCount()
	ctx = c.obsreport.StartMetricsOp(ctx)
	for {
		err := deliver(ctx, min(c.cfg.CollectionInterval/2, maxPatience), func(ctx context.Context) error {
			attempt := md
			if c.metrics.Capabilities().MutatesData {
				// Whoever changes the data and then refuses it must not leave us with what it changed.
				attempt = pmetric.NewMetrics()
				md.CopyTo(attempt)
			}
			return c.metrics.ConsumeMetrics(ctx, attempt)
		})
		if err != nil && c.cfg.Temporality == Delta && !consumererror.IsPermanent(err) && ctx.Err() == nil {
			c.refusals.note(0, err)
			continue
		}
		c.refusals.note(points, err)
		c.obsreport.EndMetricsOp(ctx, format, points, err)
		return
	}
}
