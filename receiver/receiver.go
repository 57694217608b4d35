// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"
	"go.uber.org/zap"

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
	"github.com/ebpfreceiver/ebpfreceiver/internal/packet"
	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/emit"
	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/metadata"
)

// format is what ObsReport calls the data's wire format.
const format = "ebpf"

// clockInterval is the time between two comparisons of the boot clock, which the kernel half reads, and the wall clock.
const clockInterval = 10 * time.Second

// ebpfReceiver is the instance behind all signals of one configuration.
type ebpfReceiver struct {
	cfg       *Config
	settings  receiver.Settings
	logger    *zap.Logger
	obsreport *receiverhelper.ObsReport
	telemetry *metadata.TelemetryBuilder
	// newKernel lets tests take things away from the kernel.
	newKernel func() *kernel.Kernel

	metrics consumer.Metrics
	logs    consumer.Logs

	// What follows is set by Start and not changed after it.
	host       *hostIdentity
	builder    *emit.Metrics
	probes     []*runningProbe
	states     map[string]probeState // by probe
	statistics io.Closer             // nil unless asked for
	report     func(*componentstatus.Event)

	// stop asks the loops to deliver what is left and to end; cancel ends what they are doing at once.
	stop   chan struct{}
	cancel context.CancelFunc
	// collected is closed after the last collection, which may have made records yet.
	collected chan struct{}
	loops     []func(context.Context)
	running   sync.WaitGroup

	released bool
}

func newInstance(set receiver.Settings, cfg *Config) (instance, error) {
	return newReceiver(set, cfg)
}

func newReceiver(set receiver.Settings, cfg *Config) (*ebpfReceiver, error) {
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
		newKernel: func() *kernel.Kernel { return kernel.New(kernel.Options{}) },
		states:    make(map[string]probeState),
		stop:      make(chan struct{}),
		cancel:    func() {},
	}, nil
}

func (r *ebpfReceiver) setMetrics(next consumer.Metrics) { r.metrics = next }

func (r *ebpfReceiver) setLogs(next consumer.Logs) { r.logs = next }

// Start loads and attaches the probes. What can not be had is reported as the component's status, which it stays until the
// receiver is started anew, and costs just what depends on it; it is an error only for a probe that the configuration
// requires, for a configuration that is wrong, and when ctx ends. After an error, nothing is left in the kernel.
func (r *ebpfReceiver) Start(ctx context.Context, host component.Host) error {
	missing, err := r.load(ctx)
	if err == nil {
		err = r.observe()
	}
	if err != nil {
		return errors.Join(err, r.release())
	}
	r.report = func(e *componentstatus.Event) { componentstatus.ReportStatus(host, e) }
	r.run()
	r.announce()
	if missing != nil {
		r.logger.Warn("not everything that the configuration asks for can be had here", zap.Error(missing))
		r.report(componentstatus.NewRecoverableErrorEvent(missing))
	}
	return nil
}

// run starts the loops. Nothing fails from here on.
func (r *ebpfReceiver) run() {
	r.collected = r.stop
	if c := newCollector(r); len(c.sources) > 0 {
		r.collected = make(chan struct{})
		r.loops = append(r.loops, c.run)
	}
	for _, p := range r.probes {
		if p.records != nil {
			r.loops = append(r.loops, newRecorder(r, p).run)
		}
	}
	if len(r.loops) > 0 {
		r.loops = append(r.loops, r.keepTime)
	}
	// The context of Start ends with it; the receiver goes on.
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	for _, loop := range r.loops {
		r.running.Go(func() { loop(ctx) })
	}
}

// keepTime follows the wall clock's being set or steered, so that the kernel's times become the right dates.
func (r *ebpfReceiver) keepTime(ctx context.Context) {
	ticker := time.NewTicker(clockInterval)
	defer ticker.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if step, err := r.host.clock.Remeasure(); err != nil {
			r.logger.Error("the clock can not be read", zap.Error(err))
		} else if step != 0 {
			r.logger.Info("the wall clock was set", zap.Duration("step", step))
		}
	}
}

// announce says once what is attached.
func (r *ebpfReceiver) announce() {
	if len(r.probes) == 0 {
		r.logger.Warn("nothing is attached: no probe that could be had has a metric or an event for the pipelines")
		return
	}
	var attached []string
	for _, p := range r.probes {
		text := fmt.Sprintf("%s (%d metrics, %d events", p.resolved.Name, len(p.Settings.Metrics), len(p.Settings.Events))
		if f := p.Interfaces(); f != nil {
			text += fmt.Sprintf(", %d interfaces%s", len(f.Attachments()), interfaceNames(f))
		}
		attached = append(attached, text+")")
	}
	r.logger.Info("attached", zap.Strings("probes", attached))
}

// maxNames bounds how many interfaces are named in a line of the log.
const maxNames = 8

func interfaceNames(f *packet.Follower) string {
	var names []string
	for _, a := range f.Attachments() {
		names = append(names, a.Name)
	}
	slices.Sort(names)
	switch {
	case len(names) == 0:
		return ""
	case len(names) > maxNames:
		return ": " + strings.Join(names[:maxNames], " ") + " ..."
	}
	return ": " + strings.Join(names, " ")
}
