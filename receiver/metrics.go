// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/emit"
	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/metadata"
)

// collector takes a snapshot of all probes at each tick.
type collector struct {
	*ebpfReceiver
	builder *emit.Metrics
	tables  map[*runningProbe][]*emit.Table
	// pending was refused for now. In delta temporality it can not be made again: it has to go out before the
	// maps are read the next time. Until then the kernel goes on counting.
	pending *pmetric.Metrics
	// failing are the probes whose last snapshot failed: each failure is reported when it begins, not at every tick.
	failing map[string]bool
}

func (r *ebpfReceiver) startMetrics(ctx context.Context) error {
	if r.metrics == nil || len(r.probes) == 0 {
		return nil
	}
	c := &collector{ebpfReceiver: r, tables: make(map[*runningProbe][]*emit.Table), failing: make(map[string]bool)}
	c.builder = emit.NewMetrics(emit.Options{
		Identity:  r.host,
		Names:     r.host,
		Delta:     r.cfg.Temporality == Delta,
		TTL:       r.resourceTTL(),
		ScopeName: metadata.ScopeName,
		Version:   r.settings.BuildInfo.Version,
	}, time.Now())
	for _, p := range r.probes {
		for _, t := range p.Tables {
			table, err := emit.NewTable(c.builder, t, p.Probe, p.resolved.SeriesTTL)
			if err != nil {
				return fmt.Errorf("probe %s: %w", p.resolved.Name, err)
			}
			c.tables[p] = append(c.tables[p], table)
		}
	}
	r.running.Go(func() { c.run(ctx) })
	return nil
}

// resourceTTL is how long a resource is remembered: as long as any series of it may be.
func (r *ebpfReceiver) resourceTTL() time.Duration {
	ttl := r.cfg.CollectionInterval
	for _, p := range r.probes {
		ttl = max(ttl, p.resolved.SeriesTTL)
	}
	return ttl
}

func (c *collector) run(ctx context.Context) {
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
	if c.pending != nil && !c.deliver(ctx, *c.pending) {
		return
	}
	if step, err := c.host.clock.Remeasure(); err != nil {
		c.logger.Error("the clock can not be read", zap.Error(err))
	} else if step != 0 {
		c.logger.Debug("the wall clock was set", zap.Duration("step", step))
	}
	c.host.names.learn()
	c.builder.Begin(time.Now())
	for _, p := range c.probes {
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
	for i, t := range c.tables[p] {
		rows, err := t.Read(ctx)
		errs = append(errs, err)
		c.telemetry.ReceiverEbpfSnapshotRows.Add(ctx, int64(rows), metric.WithAttributeSet(attribute.NewSet(
			attribute.String("probe", p.resolved.Name), attribute.String("map", p.Tables[i].Map))))
	}
	c.telemetry.ReceiverEbpfSnapshotDuration.Record(ctx, time.Since(start).Seconds(), metric.WithAttributeSet(attribute.NewSet(
		attribute.String("probe", p.resolved.Name))))
	err := errors.Join(errs...)
	switch failed := err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, os.ErrClosed); {
	case failed && !c.failing[p.resolved.Name]:
		c.logger.Error("snapshot failed; what was not read stays for the next one", zap.String("probe", p.resolved.Name), zap.Error(err))
		c.failing[p.resolved.Name] = true
	case !failed && c.failing[p.resolved.Name]:
		c.logger.Info("snapshots succeed again", zap.String("probe", p.resolved.Name))
		delete(c.failing, p.resolved.Name)
	}
}

// deliver hands a payload to the next consumer, and tells whether it is done with: taken, refused for good, or of a kind
// that the next tick has the better version of.
func (c *collector) deliver(ctx context.Context, md pmetric.Metrics) bool {
	points := md.DataPointCount()
	again := md
	keep := c.cfg.Temporality == Delta
	err := deliver(ctx, c.cfg.CollectionInterval/2, func(ctx context.Context) error {
		if keep && c.metrics.Capabilities().MutatesData {
			// Whoever changes the data and then refuses it must not leave us with what it changed.
			again = pmetric.NewMetrics()
			md.CopyTo(again)
		}
		ctx = c.obsreport.StartMetricsOp(ctx)
		err := c.metrics.ConsumeMetrics(ctx, again)
		c.obsreport.EndMetricsOp(ctx, format, points, err)
		return err
	})
	if err != nil && keep && !consumererror.IsPermanent(err) {
		c.pending = &md
		return false
	}
	if err != nil {
		c.logger.Warn("metrics were refused", zap.Int("data_points", points), zap.Error(err))
	}
	c.pending = nil
	return true
}
