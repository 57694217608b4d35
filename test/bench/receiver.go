// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.yaml.in/yaml/v3"

	ebpfreceiver "github.com/ebpfreceiver/ebpfreceiver/receiver"
	"github.com/ebpfreceiver/ebpfreceiver/test/bench/storm"
)

// receiving is a receiver that runs in this process.
type receiving struct {
	logs        *counter
	collections atomic.Int64 // that were delivered: a payload each, if it is a small one
	stop        []func(context.Context) error
}

// receive runs a receiver with a configuration as it would stand below "ebpf:".
func receive(ctx context.Context, config string) (*receiving, error) {
	var values map[string]any
	if err := yaml.Unmarshal([]byte(config), &values); err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	factory := ebpfreceiver.NewFactory()
	cfg := factory.CreateDefaultConfig()
	if err := confmap.NewFromStringMap(values).Unmarshal(cfg); err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if v, ok := cfg.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
	}
	r := &receiving{logs: new(counter)}
	set := receivertest.NewNopSettings(factory.Type())
	count, err := consumer.NewMetrics(func(context.Context, pmetric.Metrics) error {
		r.collections.Add(1)
		return nil
	})
	if err != nil {
		return nil, err
	}
	metrics, err := factory.CreateMetrics(ctx, set, cfg, count)
	if err != nil {
		return nil, fmt.Errorf("create the receiver: %w", err)
	}
	logs, err := factory.CreateLogs(ctx, set, cfg, r.logs)
	if err != nil {
		return nil, fmt.Errorf("create the receiver: %w", err)
	}
	for _, c := range []component.Component{metrics, logs} {
		r.stop = append(r.stop, c.Shutdown)
		if err := c.Start(ctx, componenttest.NewNopHost()); err != nil {
			return nil, errors.Join(fmt.Errorf("start the receiver: %w", err), r.close())
		}
	}
	return r, nil
}

func (r *receiving) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	for _, stop := range r.stop {
		errs = append(errs, stop(ctx))
	}
	return errors.Join(errs...)
}

// counter is a consumer that counts. It holds the first record of each payload to its number, so that nothing can be lost
// and something else doubled.
type counter struct {
	records, payloads, wrong, other atomic.Int64
}

var _ consumer.Logs = (*counter)(nil)

func (*counter) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (c *counter) ConsumeLogs(_ context.Context, ld plog.Logs) error {
	c.payloads.Add(1)
	for _, rl := range ld.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			first := sl.LogRecords().At(0)
			if first.EventName() != storm.Event {
				c.other.Add(int64(sl.LogRecords().Len()))
				continue
			}
			if v, ok := first.Attributes().Get(storm.Sequence); !ok || v.Int() != c.records.Load() {
				c.wrong.Add(1)
			}
			c.records.Add(int64(sl.LogRecords().Len()))
		}
	}
	return nil
}
