// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
)

// Lost is what was not recorded of one event since the last report.
type Lost struct {
	Probe, Event     string
	Dropped, Limited uint64
}

// LostEventName is the event that tells a reader of the logs of a gap in them.
const LostEventName = "ebpf.events.lost"

// NewLost makes the payload that reports losses, one record per event.
func NewLost(o LogsOptions, now time.Time, lost []Lost) plog.Logs {
	logs := plog.NewLogs()
	rl := logs.ResourceLogs().AppendEmpty()
	o.Identity.Describe(Resource{}, rl.Resource())
	sl := rl.ScopeLogs().AppendEmpty()
	sl.Scope().SetName(o.ScopeName)
	sl.Scope().SetVersion(o.Version)
	for _, v := range lost {
		r := sl.LogRecords().AppendEmpty()
		r.SetEventName(LostEventName)
		r.SetTimestamp(pcommon.NewTimestampFromTime(now))
		r.SetObservedTimestamp(pcommon.NewTimestampFromTime(now))
		r.SetSeverityNumber(plog.SeverityNumberWarn)
		r.SetSeverityText("WARN")
		r.Body().SetStr(fmt.Sprintf("%d %s events were lost", v.Dropped+v.Limited, v.Event))
		attrs := r.Attributes()
		attrs.PutStr("ebpf.probe.name", v.Probe)
		attrs.PutStr("ebpf.event.name", v.Event)
		attrs.PutInt("ebpf.events.dropped", int64(v.Dropped))
		attrs.PutInt("ebpf.events.limited", int64(v.Limited))
	}
	return logs
}
