// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/ebpfreceiver/ebpfreceiver/internal/packet"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

// outcomes count what became of a probe's records on this side of the ring.
type outcomes struct {
	delivered, refused map[string]*atomic.Uint64 // by event
	undecodable        *atomic.Uint64
}

func newOutcomes(p *probe.Probe) outcomes {
	o := outcomes{delivered: make(map[string]*atomic.Uint64), refused: make(map[string]*atomic.Uint64), undecodable: new(atomic.Uint64)}
	for name := range p.EventIDs {
		o.delivered[name], o.refused[name] = new(atomic.Uint64), new(atomic.Uint64)
	}
	return o
}

// observe registers what the Collector's own telemetry asks for when it is read: only of our own programs and maps.
func (r *ebpfReceiver) observe() error {
	t := r.telemetry
	err := errors.Join(
		t.RegisterReceiverEbpfEventsCallback(r.observeEvents),
		t.RegisterReceiverEbpfInterfaceAttachedCallback(r.observeInterfaces),
		t.RegisterReceiverEbpfInterfaceDroppedCallback(r.observeDropped),
		t.RegisterReceiverEbpfMapCapacityCallback(r.observeMaps(func(s probe.MapStats) int64 { return int64(s.Capacity) })),
		t.RegisterReceiverEbpfMapEntriesCallback(r.observeMaps(func(s probe.MapStats) int64 { return int64(s.Entries) })),
		t.RegisterReceiverEbpfMapOverflowsCallback(r.observeOverflows),
		t.RegisterReceiverEbpfProbeStatusCallback(r.observeStates),
		t.RegisterReceiverEbpfProgramRecursionMissesCallback(r.observePrograms(func(s probe.ProgramStats) int64 { return int64(s.RecursionMisses) })),
		t.RegisterReceiverEbpfProgramRunsCallback(r.observePrograms(func(s probe.ProgramStats) int64 { return int64(s.Runs) })),
		t.RegisterReceiverEbpfProgramRunTimeCallback(r.observeRunTime),
		t.RegisterReceiverEbpfRingSizeCallback(r.observeRings(func(p *runningProbe) int { return p.Ring.Size() })),
		t.RegisterReceiverEbpfRingUnreadCallback(r.observeRings(func(p *runningProbe) int { return p.Ring.Unread() })),
	)
	if err != nil {
		return fmt.Errorf("registering the receiver's telemetry: %w", err)
	}
	return nil
}

// with are the attributes of an observation: the probe's name and one more.
func (p *runningProbe) with(kv ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(append(kv, attribute.String("probe", p.resolved.Name))...))
}

func (r *ebpfReceiver) observeEvents(_ context.Context, o metric.Int64Observer) error {
	for _, p := range r.probes {
		stats, err := p.EventStats()
		if err != nil {
			return err
		}
		for name, s := range stats {
			for outcome, n := range map[string]uint64{
				"produced": s.Produced, "submitted": s.Submitted, "dropped": s.Dropped, "filtered": s.Filtered, "limited": s.Limited,
				"delivered": p.outcomes.delivered[name].Load(), "refused": p.outcomes.refused[name].Load(),
			} {
				o.Observe(int64(n), p.with(attribute.String("event", name), attribute.String("outcome", outcome)))
			}
		}
		// Of what can not be decoded, nobody knows the event.
		if p.Ring != nil {
			o.Observe(int64(p.outcomes.undecodable.Load()), p.with(attribute.String("outcome", "undecodable")))
		}
	}
	return nil
}

func (r *ebpfReceiver) observeInterfaces(_ context.Context, o metric.Int64Observer) error {
	return r.eachFollower(func(p *runningProbe, f *packet.Follower) {
		for _, a := range f.Attachments() {
			attached := int64(1)
			if a.Err != nil {
				attached = 0
			}
			o.Observe(attached, p.with(attribute.String("interface", a.Name), attribute.Int64("network_namespace", int64(a.Namespace))))
		}
	})
}

func (r *ebpfReceiver) observeDropped(_ context.Context, o metric.Int64Observer) error {
	return r.eachFollower(func(p *runningProbe, f *packet.Follower) { o.Observe(int64(f.Dropped()), p.with()) })
}

func (r *ebpfReceiver) eachFollower(fn func(*runningProbe, *packet.Follower)) error {
	for _, p := range r.probes {
		if f := p.Interfaces(); f != nil {
			fn(p, f)
		}
	}
	return nil
}

func (r *ebpfReceiver) observeMaps(value func(probe.MapStats) int64) metric.Int64Callback {
	return func(_ context.Context, o metric.Int64Observer) error {
		for _, p := range r.probes {
			for _, s := range p.MapStats() {
				o.Observe(value(s), p.with(attribute.String("map", s.Map)))
			}
		}
		return nil
	}
}

func (r *ebpfReceiver) observeOverflows(_ context.Context, o metric.Int64Observer) error {
	for _, p := range r.probes {
		for i, t := range p.Tables {
			o.Observe(p.overflows[i].Load(), p.with(attribute.String("map", t.Map)))
		}
	}
	return nil
}

func (r *ebpfReceiver) observeStates(_ context.Context, o metric.Int64Observer) error {
	for name, current := range r.states {
		for _, s := range []probeState{stateAttached, stateDegraded, stateFailed} {
			var v int64
			if s == current {
				v = 1
			}
			o.Observe(v, metric.WithAttributes(attribute.String("probe", name), attribute.String("state", string(s))))
		}
	}
	return nil
}

func (r *ebpfReceiver) observePrograms(value func(probe.ProgramStats) int64) metric.Int64Callback {
	return func(_ context.Context, o metric.Int64Observer) error {
		return r.eachProgram(func(p *runningProbe, s probe.ProgramStats) {
			o.Observe(value(s), p.with(attribute.String("program", s.Name)))
		})
	}
}

func (r *ebpfReceiver) observeRunTime(_ context.Context, o metric.Float64Observer) error {
	return r.eachProgram(func(p *runningProbe, s probe.ProgramStats) {
		o.Observe(s.Time.Seconds(), p.with(attribute.String("program", s.Name)))
	})
}

func (r *ebpfReceiver) eachProgram(fn func(*runningProbe, probe.ProgramStats)) error {
	for _, p := range r.probes {
		stats, err := p.ProgramStats()
		if err != nil {
			return err
		}
		for _, s := range stats {
			fn(p, s)
		}
	}
	return nil
}

func (r *ebpfReceiver) observeRings(value func(*runningProbe) int) metric.Int64Callback {
	return func(_ context.Context, o metric.Int64Observer) error {
		for _, p := range r.probes {
			if p.Ring != nil {
				o.Observe(int64(value(p)), p.with(attribute.String("ring", "events")))
			}
		}
		return nil
	}
}
