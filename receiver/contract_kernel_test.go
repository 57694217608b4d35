// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pipeline"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	ebpfreceiver "github.com/ebpfreceiver/ebpfreceiver/receiver"
	"github.com/ebpfreceiver/ebpfreceiver/receiver/internal/metadata"
	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// The contract's checker knows data by an attribute that only generated data has. What the kernel tells gets it on its way to the
// checker's consumer: the receiver under test is the real one, and the generator makes real events.

// identified is a factory whose receivers' data gets ids. Data that has none is not the test's.
func identified(logs func(plog.LogRecord) string, point func(pcommon.Map) string) receiver.Factory {
	inner := ebpfreceiver.NewFactory()
	return receiver.NewFactory(inner.Type(), inner.CreateDefaultConfig,
		receiver.WithLogs(func(ctx context.Context, set receiver.Settings, cfg component.Config, next consumer.Logs) (receiver.Logs, error) {
			set.ID = component.NewID(metadata.Type)
			c, err := consumer.NewLogs(func(ctx context.Context, ld plog.Logs) error {
				for _, record := range records(ld) {
					record.Attributes().PutStr(receivertest.UniqueIDAttrName, logs(record))
				}
				return next.ConsumeLogs(ctx, ld)
			}, consumer.WithCapabilities(consumer.Capabilities{MutatesData: true}))
			if err != nil {
				return nil, err
			}
			return inner.CreateLogs(ctx, set, cfg, c)
		}, metadata.LogsStability),
		receiver.WithMetrics(func(ctx context.Context, set receiver.Settings, cfg component.Config, next consumer.Metrics) (receiver.Metrics, error) {
			set.ID = component.NewID(metadata.Type)
			c, err := consumer.NewMetrics(func(ctx context.Context, md pmetric.Metrics) error {
				for _, rm := range md.ResourceMetrics().All() {
					for _, sm := range rm.ScopeMetrics().All() {
						for _, m := range sm.Metrics().All() {
							m.Sum().DataPoints().RemoveIf(func(p pmetric.NumberDataPoint) bool {
								id := point(p.Attributes())
								p.Attributes().PutStr(receivertest.UniqueIDAttrName, id)
								return id == ""
							})
						}
					}
				}
				if md.DataPointCount() == 0 {
					return nil
				}
				return next.ConsumeMetrics(ctx, md)
			}, consumer.WithCapabilities(consumer.Capabilities{MutatesData: true}))
			if err != nil {
				return nil, err
			}
			return inner.CreateMetrics(ctx, set, cfg, c)
		}, metadata.MetricsStability),
	)
}

// generator makes one event of the kernel's at a time, which it names.
type generator struct {
	next atomic.Int64
	make func(n int64) string
}

func (*generator) Start() {}

func (*generator) Stop() {}

func (g *generator) Generate() []receivertest.UniqueIDAttrVal {
	return []receivertest.UniqueIDAttrVal{receivertest.UniqueIDAttrVal(g.make(g.next.Add(1)))}
}

func TestKernelConsumeContractLogs(t *testing.T) {
	kernel.NeedRoot(t)
	c := kernel.NewCgroup(t)
	r := newRig(t, watched(c))
	receivertest.CheckConsumeContract(receivertest.CheckConsumeContractParams{
		T: t,
		Factory: identified(func(record plog.LogRecord) string {
			args, _ := record.Attributes().Get("process.command_args")
			return args.Slice().At(1).Str()
		}, nil),
		Signal: pipeline.SignalLogs,
		Config: r.cfg,
		Generator: &generator{make: func(n int64) string {
			id := fmt.Sprintf("event-%d", n)
			require.NoError(t, c.Command("true", id).Run())
			return id
		}},
		GenerateCount: kernel.Load(200, 20),
	})
}

// Each cgroup has one process, so that its growth is in one payload only.
func TestKernelConsumeContractMetrics(t *testing.T) {
	kernel.NeedRoot(t)
	r := newRig(t, fmt.Sprintf(created, "delta"))
	groups := make([]*kernel.Cgroup, 4*40)
	ours := make(map[string]bool)
	for i := range groups {
		groups[i] = kernel.NewCgroup(t)
		ours[groups[i].Path] = true
	}
	receivertest.CheckConsumeContract(receivertest.CheckConsumeContractParams{
		T: t,
		Factory: identified(nil, func(attributes pcommon.Map) string {
			if group, _ := attributes.Get("process.linux.cgroup"); ours[group.Str()] {
				return group.Str()
			}
			return ""
		}),
		Signal: pipeline.SignalMetrics,
		Config: r.cfg,
		Generator: &generator{make: func(n int64) string {
			c := groups[n-1]
			require.NoError(t, c.Command("true").Run())
			return c.Path
		}},
		GenerateCount: kernel.Load(40, 10),
	})
}
