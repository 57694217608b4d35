// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
	"go.uber.org/zap"

	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/metadata"
)

// format is what ObsReport calls the data's wire format.
const format = "ebpf"

const (
	// flushTimeout is how long Shutdown lets consumers take the last data when its own context has no deadline.
	flushTimeout = 5 * time.Second
	// abandonTimeout is how long it then waits for a consumer that does not heed its context.
	abandonTimeout = time.Second
)

// ebpfReceiver is the instance behind all signals of one configuration.
type ebpfReceiver struct {
	cfg       *Config
	settings  receiver.Settings
	logger    *zap.Logger
	obsreport *receiverhelper.ObsReport
	telemetry *metadata.TelemetryBuilder

	metrics consumer.Metrics
	logs    consumer.Logs

	host   *hostIdentity
	probes []*runningProbe
	states map[string]probeState // by probe; not changed after Start

	// stop asks the loops to deliver what is left and to end; cancel ends what they are doing at once.
	stop    chan struct{}
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func newInstance(set receiver.Settings, cfg *Config) (instance, error) {
	obsreport, err := receiverhelper.NewObsReport(receiverhelper.ObsReportSettings{ReceiverID: set.ID, ReceiverCreateSettings: set})
	if err != nil {
		return nil, fmt.Errorf("creating the receiver's telemetry: %w", err)
	}
	telemetry, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, fmt.Errorf("creating the receiver's telemetry: %w", err)
	}
	return &ebpfReceiver{
		cfg:       cfg,
		settings:  set,
		logger:    set.Logger,
		obsreport: obsreport,
		telemetry: telemetry,
		states:    make(map[string]probeState),
		stop:      make(chan struct{}),
		cancel:    func() {},
	}, nil
}

func (r *ebpfReceiver) setMetrics(next consumer.Metrics) { r.metrics = next }

func (r *ebpfReceiver) setLogs(next consumer.Logs) { r.logs = next }

// Start loads and attaches the probes. What can not be had is reported as the component's status and costs just
// what depends on it; it is an error only for a probe that the configuration requires, or for a configuration that is
// wrong.
func (r *ebpfReceiver) Start(_ context.Context, host component.Host) error {
	missing, err := r.load()
	if err != nil {
		r.closeProbes()
		return err
	}
	// The context of Start ends with it; the receiver goes on.
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	if err := r.observe(); err != nil {
		r.closeProbes()
		return err
	}
	if err := r.startMetrics(ctx); err != nil {
		r.closeProbes()
		return err
	}
	for _, p := range r.probes {
		if err := r.startLogs(ctx, p); err != nil {
			close(r.stop)
			cancel()
			r.running.Wait()
			r.stop = make(chan struct{})
			r.closeProbes()
			return err
		}
	}
	if missing != nil {
		r.logger.Warn("not everything that the configuration asks for can be had here", zap.Error(missing))
		componentstatus.ReportStatus(host, componentstatus.NewRecoverableErrorEvent(missing))
		return nil
	}
	componentstatus.ReportStatus(host, componentstatus.NewEvent(componentstatus.StatusOK))
	return nil
}

// Shutdown stops the programs first, then delivers what they counted and recorded until then. When consumers take
// longer than ctx, or [flushTimeout] where it has no deadline, the rest is given up and counted as refused. Nothing stays
// in the kernel in any case.
func (r *ebpfReceiver) Shutdown(ctx context.Context) error {
	var errs []error
	for _, p := range r.probes {
		errs = append(errs, p.Detach())
	}
	close(r.stop)
	errs = append(errs, r.wait(ctx))
	r.telemetry.Shutdown()
	errs = append(errs, r.closeProbes())
	return errors.Join(errs...)
}

// wait for the loops, as long as Shutdown may.
func (r *ebpfReceiver) wait(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, flushTimeout)
		defer cancel()
	}
	done := make(chan struct{})
	go func() {
		r.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		r.cancel()
		return nil
	case <-ctx.Done():
	}
	r.cancel()
	select {
	case <-done:
		return fmt.Errorf("the next consumer did not take the last data in time: %w", ctx.Err())
	case <-time.After(abandonTimeout):
		return fmt.Errorf("the next consumer does not return: %w", ctx.Err())
	}
}

func (r *ebpfReceiver) closeProbes() error {
	var errs []error
	for _, p := range r.probes {
		errs = append(errs, p.Close())
	}
	if r.host != nil {
		errs = append(errs, r.host.close())
	}
	return errors.Join(errs...)
}
