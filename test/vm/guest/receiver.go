// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	ebpfreceiver "github.com/ebpfreceiver/ebpfreceiver/receiver"
)

// observation is what a receiver gave that ran for a moment.
type observation struct {
	// Complaints are the sentences by which it told what is missing.
	Complaints []string
	// Warnings are what its log warns of besides.
	Warnings []string
	// Data are the names of metrics with data points, and of events with records.
	Data []string
}

// configuration reads one, and fails when it is not valid.
func configuration(values map[string]any) (component.Config, error) {
	cfg := ebpfreceiver.NewFactory().CreateDefaultConfig()
	if err := confmap.NewFromStringMap(values).Unmarshal(cfg); err != nil {
		return nil, err
	}
	return cfg, cfg.(interface{ Validate() error }).Validate()
}

// observe runs a receiver with a configuration, as it would stand below "ebpf:", while the host does a little of everything.
func observe(config map[string]any) (o observation, err error) {
	ctx := context.Background()
	factory := ebpfreceiver.NewFactory()
	cfg, err := configuration(config)
	if err != nil {
		return o, err
	}
	host := &complaintHost{Host: componenttest.NewNopHost()}
	metricsSink, logsSink := new(consumertest.MetricsSink), new(consumertest.LogsSink)
	set := receivertest.NewNopSettings(factory.Type())
	core, logged := observer.New(zap.WarnLevel)
	set.Logger = zap.New(core)
	metrics, err := factory.CreateMetrics(ctx, set, cfg, metricsSink)
	if err != nil {
		return o, err
	}
	logs, err := factory.CreateLogs(ctx, set, cfg, logsSink)
	if err != nil {
		return o, err
	}
	components := []component.Component{metrics, logs}
	for _, c := range components {
		if err := c.Start(ctx, host); err != nil {
			return o, err
		}
	}
	err = doSomething()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, c := range components {
		err = errors.Join(err, c.Shutdown(ctx))
	}
	data := make(map[string]bool)
	for _, md := range metricsSink.AllMetrics() {
		for _, rm := range md.ResourceMetrics().All() {
			for _, sm := range rm.ScopeMetrics().All() {
				for _, m := range sm.Metrics().All() {
					data[m.Name()] = true
				}
			}
		}
	}
	for _, ld := range logsSink.AllLogs() {
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, record := range sl.LogRecords().All() {
					data[record.EventName()] = true
				}
			}
		}
	}
	o.Complaints, o.Data = host.complaints(), slices.Sorted(maps.Keys(data))
	o.Warnings = warnings(logged.All(), host.reported)
	return o, err
}

// warnings are the messages that are not of what the component reported, each once.
func warnings(logged []observer.LoggedEntry, reported []string) (list []string) {
	for _, entry := range logged {
		known := slices.ContainsFunc(entry.Context, func(f zap.Field) bool {
			err, ok := f.Interface.(error)
			return ok && slices.Contains(reported, err.Error())
		})
		if !known && !slices.Contains(list, entry.Message) {
			list = append(list, entry.Message)
		}
	}
	slices.Sort(list)
	return list
}

// complaintHost keeps what the component says is missing. Each pipeline is told the same.
type complaintHost struct {
	component.Host

	mu       sync.Mutex
	reported []string // as a whole
	lines    []string
}

// Report implements [componentstatus.Reporter].
func (h *complaintHost) Report(e *componentstatus.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.Err() == nil {
		return
	}
	h.reported = append(h.reported, e.Err().Error())
	for _, line := range strings.Split(e.Err().Error(), "\n") {
		if !slices.Contains(h.lines, line) {
			h.lines = append(h.lines, line)
		}
	}
}

func (h *complaintHost) complaints() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lines
}
