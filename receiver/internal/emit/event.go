// SPDX-License-Identifier: Apache-2.0

package emit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
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
	blobs     []*layout.Column
	body      *body
	// room is how many attributes a record was seen to have.
	room int
	// n is the number of records in the payload.
	n int
}

// LogsOptions are what all events of a receiver share.
type LogsOptions struct {
	Identity           Identity
	Names              layout.Names
	Redact             []*regexp.Regexp
	ScopeName, Version string
}

// Logs turns the records of one probe's ring buffer into log records. It is for one goroutine.
type Logs struct {
	options LogsOptions
	events  map[uint32]*event
	sink    attributes

	logs     plog.Logs
	byValue  map[Resource]plog.LogRecordSlice
	byCgroup map[uint64]plog.LogRecordSlice
	n        int
	observed pcommon.Timestamp
}

// NewLogs prepares the probe's enabled events. The error tells which attribute does not fit the record's BTF.
func NewLogs(o LogsOptions, p *probe.Probe) (*Logs, error) {
	l := &Logs{
		options: o, events: make(map[uint32]*event),
		byValue: make(map[Resource]plog.LogRecordSlice), byCgroup: make(map[uint64]plog.LogRecordSlice),
	}
	for name := range p.Settings.Events {
		t, ok := p.EventTypes[name]
		if !ok {
			continue // not to be had on this kernel
		}
		e, err := newEvent(name, p.Spec.Events[name], t, o)
		if err != nil {
			return nil, fmt.Errorf("event %s: %w", name, err)
		}
		l.events[p.EventIDs[name]] = e
	}
	l.reset()
	return l, nil
}

func newEvent(name string, spec probe.Event, t layout.Type, o LogsOptions) (*event, error) {
	whole, err := layout.FieldOf(t, ".")
	if err != nil {
		return nil, err
	}
	e := &event{name: name, size: whole.Size, body: parseBody(spec.Body)}
	e.severity, e.text = severity(spec.Severity)
	if e.size < headerSize {
		return nil, fmt.Errorf("struct %s has no room for an event_header", t.TypeName())
	}
	for _, label := range sortedKeys(spec.Attributes) {
		a := spec.Attributes[label]
		f, err := layout.FieldOf(t, a.Field)
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", label, err)
		}
		options := layout.Options{As: a.As, Values: a.Values, OmitZero: a.OmitZero, Scale: a.Scale, Names: o.Names}
		if a.Redact {
			options.Redact = o.Redact
		}
		c, err := layout.NewColumn(label, f, options)
		if err != nil {
			return nil, fmt.Errorf("attribute %w", err)
		}
		if c.Entity == layout.Container {
			e.container = &c
			continue
		}
		e.columns = append(e.columns, c)
		if c.Blob() {
			e.blobs = append(e.blobs, &c)
		}
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
	for _, c := range e.blobs {
		if err := c.Check(raw); err != nil {
			return fmt.Errorf("event %s: %w", e.name, err)
		}
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
	l.sink.m = r.Attributes()
	l.sink.m.EnsureCapacity(e.room)
	for i := range e.columns {
		_ = e.columns[i].Append(&l.sink, raw) // was checked
	}
	e.room = max(e.room, l.sink.m.Len())
	if text := e.body.of(l.sink.m); text != "" {
		r.Body().SetStr(text)
	}
	l.n++
	e.n++
	return nil
}

// records is where the log records of a record's resource go.
func (l *Logs) records(e *event, raw []byte) plog.LogRecordSlice {
	if e.container == nil {
		return l.recordsOf(Resource{})
	}
	cgroup := e.container.Cgroup(raw)
	records, ok := l.byCgroup[cgroup]
	if !ok {
		records = l.recordsOf(l.options.Identity.Resource(cgroup))
		l.byCgroup[cgroup] = records
	}
	return records
}

func (l *Logs) recordsOf(r Resource) plog.LogRecordSlice {
	records, ok := l.byValue[r]
	if !ok {
		rl := l.logs.ResourceLogs().AppendEmpty()
		l.options.Identity.Describe(r, rl.Resource())
		sl := rl.ScopeLogs().AppendEmpty()
		sl.Scope().SetName(l.options.ScopeName)
		sl.Scope().SetVersion(l.options.Version)
		records = sl.LogRecords()
		l.byValue[r] = records
	}
	return records
}

// Len is the number of log records that wait in the payload.
func (l *Logs) Len() int { return l.n }

// Take returns the payload and the number of its records by event name. Both are the caller's.
func (l *Logs) Take() (plog.Logs, map[string]int) {
	logs := l.logs
	counts := make(map[string]int, len(l.events))
	for _, e := range l.events {
		if e.n > 0 {
			counts[e.name] = e.n
		}
	}
	l.reset()
	return logs, counts
}

func (l *Logs) reset() {
	l.logs = plog.NewLogs()
	clear(l.byValue)
	clear(l.byCgroup)
	l.n = 0
	for _, e := range l.events {
		e.n = 0
	}
}
