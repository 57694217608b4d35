// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"

	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/metadata"
)

// NewFactory returns the factory of the ebpf receiver. Receivers for metrics and for logs that it
// creates from one configuration share one set of probes.
func NewFactory() receiver.Factory {
	return newFactory(newInstance)
}

func newFactory(create func(receiver.Settings, *Config) (instance, error)) receiver.Factory {
	f := &factory{shared: newSharedSet(create)}
	return receiver.NewFactory(
		metadata.Type,
		createDefaultConfig,
		receiver.WithMetrics(f.createMetrics, metadata.MetricsStability),
		receiver.WithLogs(f.createLogs, metadata.LogsStability),
	)
}

type factory struct {
	shared *sharedSet
}

func (f *factory) createMetrics(
	_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Metrics,
) (receiver.Metrics, error) {
	s, err := f.shared.get(set, cfg.(*Config))
	if err != nil {
		return nil, err
	}
	s.setMetrics(next)
	return s, nil
}

func (f *factory) createLogs(
	_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Logs,
) (receiver.Logs, error) {
	s, err := f.shared.get(set, cfg.(*Config))
	if err != nil {
		return nil, err
	}
	s.setLogs(next)
	return s, nil
}
