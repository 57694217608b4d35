// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"time"

	"go.opentelemetry.io/collector/component/componentstatus"
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
)

// recorder reads the ring of one probe.
type recorder struct {
	*ebpfReceiver
	probe    *runningProbe
	logger   *zap.Logger
	refusals refusals
	// reported is the account up to which losses were told of.
	reported   map[string]probe.EventStats
	reportedAt time.Time
}

func newRecorder(r *ebpfReceiver, p *runningProbe) *recorder {
	logger := r.logger.With(zap.String("probe", p.resolved.Name))
	return &recorder{
		ebpfReceiver: r, probe: p, logger: logger,
		refusals:   refusals{logger: logger.With(zap.String("signal", "logs"))},
		reportedAt: time.Now(),
	}
}

// logsOptions are what makes log records of a probe's events.
func (r *ebpfReceiver) logsOptions(p resolvedProbe) emit.LogsOptions {
	return emit.LogsOptions{
		Identity: r.host, Names: r.host, Redact: p.Redact,
		ScopeName: metadata.ScopeName, Version: r.settings.BuildInfo.Version,
	}
}

func (r *recorder) run(ctx context.Context) {
	for ended := false; !ended; {
		var n int
		var err error
		select {
		case <-r.collected: // nothing more comes
			n, err = r.drain(ctx)
			ended = n == 0
		default:
			if err = r.probe.Ring.Wait(pollInterval); err == nil {
				_, err = r.drain(ctx)
			}
		}
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil {
			// The reader does not know where the next record begins. Programs go on and count what the ring can not take.
			r.logger.Error("events can not be read; no more will come", zap.Error(err))
			r.report(componentstatus.NewPermanentErrorEvent(err))
			return
		}
		if ended || time.Since(r.reportedAt) >= r.cfg.CollectionInterval {
			r.reportLosses(ctx)
		}
	}
}

// drain delivers the records that are in the ring, or as many as a payload may have, and returns how many it read. Once ctx has ended, it only
// counts them as refused.
func (r *recorder) drain(ctx context.Context) (int, error) {
	r.host.names.learn()
	n, err := r.probe.Ring.Drain(func(record []byte) bool {
		if err := r.probe.records.Add(record); err != nil {
			r.undecodable(record, err)
		}
		return r.probe.records.Len() < maxRecords
	})
	if r.probe.records.Len() > 0 {
		logs, counts := r.probe.records.Take()
		records := logs.LogRecordCount()
		err := r.deliver(ctx, logs)
		r.refusals.note(records, err)
		r.account(counts, err)
	}
	return n, err
}

func (r *recorder) undecodable(record []byte, err error) {
	if r.probe.outcomes.undecodable.Add(1) == 1 {
		r.logger.Error("a record can not be decoded; more of them are only counted", zap.Int("bytes", len(record)), zap.Error(err))
	}
}

func (r *recorder) account(counts map[string]int, err error) {
	outcome := r.probe.outcomes.delivered
	if err != nil {
		outcome = r.probe.outcomes.refused
	}
	for name, n := range counts {
		outcome[name].Add(uint64(n))
	}
}

// deliver hands a payload to the next consumer.
func (r *recorder) deliver(ctx context.Context, logs plog.Logs) error {
	n := logs.LogRecordCount()
	ctx = r.obsreport.StartLogsOp(ctx)
	err := deliver(ctx, maxPatience, func(ctx context.Context) error {
		attempt := logs
		if r.logs.Capabilities().MutatesData {
			// Whoever changes the data and then refuses it must not leave us with what it changed.
			attempt = plog.NewLogs()
			logs.CopyTo(attempt)
		}
		return r.logs.ConsumeLogs(ctx, attempt)
	})
	r.obsreport.EndLogsOp(ctx, format, n, err)
	return err
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
	for _, name := range slices.Sorted(maps.Keys(stats)) {
		s, before := stats[name], r.reported[name]
		l := emit.Lost{Probe: r.probe.resolved.Name, Event: name, Dropped: s.Dropped - before.Dropped, Limited: s.Limited - before.Limited}
		if l.Dropped+l.Limited > 0 {
			lost = append(lost, l)
		}
	}
	if len(lost) == 0 {
		return
	}
	err = r.deliver(ctx, emit.NewLost(r.logsOptions(r.probe.resolved), now, lost))
	r.refusals.note(0, err) // the next report has it, too
	if err == nil {
		r.reported = stats
	}
}
