// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

// headerSize is that of struct event_header in bpf/include/event.h: the time in ns of CLOCK_BOOTTIME, the event's id and
// the record's size.
const headerSize = 16

// Errors of a record that can not be decoded.
var (
	errShort   = errors.New("record is too short")
	errUnknown = errors.New("record is of no known event")
)

// event is one enabled event: how its records become log records.
type event struct {
	name      string
	size      int // of the fixed part
	severity  plog.SeverityNumber
	text      string
	columns   []layout.Column
	container *layout.Column
	body      []part
	room      int // the most attributes that a record has had
}

// part of a body: literal text, or an attribute's value.
type part struct {
	text      string
	attribute bool
}

// LogsOptions are what all events of a receiver share.
type LogsOptions struct {
	Identity           Identity
	Names              layout.Names
	Redact             []*regexp.Regexp
	ScopeName, Version string
}

// Logs turns the records of one probe's ring buffer into log records.
type Logs struct {
	options LogsOptions
	events  map[uint32]*event
	sink    attributes
	body    []byte // room for putting one together

	logs     plog.Logs
	scopes   map[Resource]plog.LogRecordSlice
	last     Resource
	lastLogs plog.LogRecordSlice
	n        int
	observed pcommon.Timestamp
	byEvent  map[string]int
}

// NewLogs prepares the probe's enabled events. The error tells which attribute does not fit the record's BTF.
func NewLogs(o LogsOptions, p *probe.Probe) (*Logs, error) {
	l := &Logs{options: o, events: make(map[uint32]*event)}
	for name := range p.Settings.Events {
		t, ok := p.EventTypes[name]
		if !ok {
			continue // not to be had on this kernel
		}
		e, err := newEvent(name, p.Spec.Events[name], t, o)
		if err != nil {
			return nil, err
		}
		l.events[p.EventIDs[name]] = e
	}
	l.reset()
	return l, nil
}

func newEvent(name string, spec probe.Event, t layout.Type, o LogsOptions) (*event, error) {
	whole, err := layout.FieldOf(t, ".")
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", name, err)
	}
	e := &event{name: name, size: whole.Size, body: parseBody(spec.Body)}
	e.severity, e.text = severity(spec.Severity)
	if e.size < headerSize {
		return nil, fmt.Errorf("event %s: struct %s has no room for an event_header", name, t.TypeName())
	}
	for _, label := range sortedKeys(spec.Attributes) {
		a := spec.Attributes[label]
		f, err := layout.FieldOf(t, a.Field)
		if err != nil {
			return nil, fmt.Errorf("event %s: attribute %s: %w", name, label, err)
		}
		options := layout.Options{As: a.As, Values: a.Values, OmitZero: a.OmitZero, Scale: a.Scale, Names: o.Names}
		if a.Redact {
			options.Redact = o.Redact
		}
		c, err := layout.NewColumn(label, f, options)
		if err != nil {
			return nil, fmt.Errorf("event %s: attribute %w", name, err)
		}
		if c.Entity == layout.Container {
			e.container = &c
			continue
		}
		e.columns = append(e.columns, c)
	}
	return e, nil
}

func severity(name string) (plog.SeverityNumber, string) {
	switch strings.ToLower(name) {
	case "trace":
		return plog.SeverityNumberTrace, "TRACE"
	case "debug":
		return plog.SeverityNumberDebug, "DEBUG"
	case "warn":
		return plog.SeverityNumberWarn, "WARN"
	case "error":
		return plog.SeverityNumberError, "ERROR"
	case "fatal":
		return plog.SeverityNumberFatal, "FATAL"
	}
	return plog.SeverityNumberInfo, "INFO"
}

// parseBody cuts "exec {process.executable.path}" into its parts.
func parseBody(s string) []part {
	var parts []part
	for s != "" {
		open := strings.IndexByte(s, '{')
		end := strings.IndexByte(s, '}')
		if open < 0 || end < open {
			return append(parts, part{text: s})
		}
		if open > 0 {
			parts = append(parts, part{text: s[:open]})
		}
		parts = append(parts, part{text: s[open+1 : end], attribute: true})
		s = s[end+1:]
	}
	return parts
}

// Add decodes one record. An error means that it could not be, and that nothing was added.
func (l *Logs) Add(raw []byte) error {
	if len(raw) < headerSize {
		return errShort
	}
	e, ok := l.events[binary.NativeEndian.Uint32(raw[8:])]
	if !ok {
		return errUnknown
	}
	if len(raw) < e.size {
		return errShort
	}
	if l.n == 0 {
		// One clock reading for all records of a wake-up.
		l.observed = pcommon.NewTimestampFromTime(time.Now())
	}
	r := l.records(e, raw).AppendEmpty()
	r.SetEventName(e.name)
	r.SetTimestamp(pcommon.NewTimestampFromTime(l.options.Names.Wall(binary.NativeEndian.Uint64(raw))))
	r.SetObservedTimestamp(l.observed)
	r.SetSeverityNumber(e.severity)
	r.SetSeverityText(e.text)
	attrs := r.Attributes()
	attrs.EnsureCapacity(e.room)
	l.sink.m = attrs
	for i := range e.columns {
		// A column ends within the fixed part, which is there.
		_ = e.columns[i].Append(&l.sink, raw)
	}
	e.room = max(e.room, attrs.Len())
	if len(e.body) > 0 {
		r.Body().SetStr(l.bodyOf(e.body, attrs))
	}
	l.n++
	l.byEvent[e.name]++
	return nil
}

func (l *Logs) bodyOf(parts []part, attrs pcommon.Map) string {
	if len(parts) == 1 && !parts[0].attribute {
		return parts[0].text
	}
	s := l.body[:0]
	for _, p := range parts {
		if !p.attribute {
			s = append(s, p.text...)
			continue
		}
		v, ok := attrs.Get(p.text)
		switch {
		case !ok:
		case v.Type() == pcommon.ValueTypeInt: // without an allocation
			s = strconv.AppendInt(s, v.Int(), 10)
		default:
			s = append(s, v.AsString()...)
		}
	}
	l.body = s
	return string(s)
}

// records is where the log records of a record's resource go.
func (l *Logs) records(e *event, raw []byte) plog.LogRecordSlice {
	var r Resource
	if e.container != nil {
		r = l.options.Identity.Resource(e.container.Uint(raw))
	}
	if l.n > 0 && r == l.last {
		return l.lastLogs
	}
	records, ok := l.scopes[r]
	if !ok {
		rl := l.logs.ResourceLogs().AppendEmpty()
		l.options.Identity.Describe(r, rl.Resource())
		sl := rl.ScopeLogs().AppendEmpty()
		sl.Scope().SetName(l.options.ScopeName)
		sl.Scope().SetVersion(l.options.Version)
		records = sl.LogRecords()
		l.scopes[r] = records
	}
	l.last, l.lastLogs = r, records
	return records
}

// Len is the number of log records that wait in the payload.
func (l *Logs) Len() int { return l.n }

// Take returns the payload, which is the caller's, with the number of its records by event name, which is the
// caller's until the next Take.
func (l *Logs) Take() (plog.Logs, map[string]int) {
	logs, counts := l.logs, l.byEvent
	l.reset()
	return logs, counts
}

func (l *Logs) reset() {
	l.logs = plog.NewLogs()
	l.scopes = make(map[Resource]plog.LogRecordSlice)
	l.byEvent = make(map[string]int, len(l.events))
	l.n = 0
}

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
