// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/emit"
	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/metadata"
)

const (
	// pollInterval bounds how long a record waits when too few came to wake the reader.
	pollInterval = 100 * time.Millisecond
	// maxRecords bounds one payload.
	maxRecords = 8192
	// logsPatience is how long a payload is offered to a consumer that refuses it for now. Meanwhile the kernel's ring fills,
	// and what it has no room for is counted there.
	logsPatience = 30 * time.Second
)

// recorder reads the ring of one probe.
type recorder struct {
	*ebpfReceiver
	probe   *runningProbe
	options emit.LogsOptions
	builder *emit.Logs
	// reported is the account up to which losses were told of.
	reported   map[string]probe.EventStats
	reportedAt time.Time
}

func (r *ebpfReceiver) startLogs(ctx context.Context, p *runningProbe) error {
	if p.Ring == nil {
		return nil
	}
	rec := &recorder{ebpfReceiver: r, probe: p, reported: make(map[string]probe.EventStats), reportedAt: time.Now()}
	rec.options = emit.LogsOptions{
		Identity: r.host, Names: r.host, Redact: p.resolved.Redact,
		ScopeName: metadata.ScopeName, Version: r.settings.BuildInfo.Version,
	}
	var err error
	if rec.builder, err = emit.NewLogs(rec.options, p.Probe); err != nil {
		return fmt.Errorf("probe %s: %w", p.resolved.Name, err)
	}
	r.running.Go(func() { rec.run(ctx) })
	return nil
}

func (r *recorder) run(ctx context.Context) {
	for ctx.Err() == nil {
		stopping := false
		select {
		case <-r.stop:
			stopping = true
		default:
			if err := r.probe.Ring.Wait(pollInterval); errors.Is(err, os.ErrClosed) {
				return
			} else if err != nil {
				r.logger.Error("waiting for events failed; no more will come", zap.String("probe", r.probe.resolved.Name), zap.Error(err))
				return
			}
		}
		if err := r.drain(ctx); err != nil {
			if !errors.Is(err, os.ErrClosed) {
				r.logger.Error("reading events failed; no more will come", zap.String("probe", r.probe.resolved.Name), zap.Error(err))
			}
			return
		}
		if stopping || time.Since(r.reportedAt) >= r.cfg.CollectionInterval {
			r.reportLosses(ctx)
		}
		if stopping {
			return
		}
	}
}

// drain delivers all records that are in the ring.
func (r *recorder) drain(ctx context.Context) error {
	for ctx.Err() == nil {
		r.host.names.learn()
		n, err := r.probe.Ring.Drain(func(record []byte) bool {
			if err := r.builder.Add(record); err != nil {
				r.undecodable(record, err)
			}
			return r.builder.Len() < maxRecords
		})
		if r.builder.Len() > 0 {
			logs, counts := r.builder.Take()
			r.account(counts, r.consume(ctx, logs))
		}
		if n == 0 || err != nil {
			return err
		}
	}
	return nil
}

func (r *recorder) undecodable(record []byte, err error) {
	if r.probe.outcomes.undecodable.Add(1) == 1 {
		r.logger.Error("a record can not be decoded; more of them are only counted",
			zap.String("probe", r.probe.resolved.Name), zap.Int("bytes", len(record)), zap.Error(err))
	}
}

func (r *recorder) account(counts map[string]int, err error) {
	for name, n := range counts {
		if err != nil {
			r.probe.outcomes.refused[name].Add(uint64(n))
		} else {
			r.probe.outcomes.delivered[name].Add(uint64(n))
		}
	}
	if err != nil {
		r.logger.Warn("events were refused", zap.String("probe", r.probe.resolved.Name), zap.Any("events", counts), zap.Error(err))
	}
}

func (r *recorder) consume(ctx context.Context, logs plog.Logs) error {
	n := logs.LogRecordCount()
	return deliver(ctx, logsPatience, func(ctx context.Context) error {
		attempt := logs
		if r.logs.Capabilities().MutatesData {
			attempt = plog.NewLogs()
			logs.CopyTo(attempt)
		}
		ctx = r.obsreport.StartLogsOp(ctx)
		err := r.logs.ConsumeLogs(ctx, attempt)
		r.obsreport.EndLogsOp(ctx, format, n, err)
		return err
	})
}

// reportLosses tells, in the logs themselves, of the occurrences that did not become log records since the last report.
func (r *recorder) reportLosses(ctx context.Context) {
	now := time.Now()
	r.reportedAt = now
	stats, err := r.probe.EventStats()
	if err != nil {
		return // closed: there is nobody left to tell
	}
	var lost []emit.Lost
	for name, s := range stats {
		before := r.reported[name]
		l := emit.Lost{Probe: r.probe.resolved.Name, Event: name, Dropped: s.Dropped - before.Dropped, Limited: s.Limited - before.Limited}
		if l.Dropped+l.Limited > 0 {
			lost = append(lost, l)
		}
	}
	if len(lost) == 0 {
		return
	}
	if err := r.consume(ctx, emit.NewLost(r.options, now, lost)); err == nil {
		r.reported = stats
	}
}
