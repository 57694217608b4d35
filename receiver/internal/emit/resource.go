// SPDX-License-Identifier: Apache-2.0

// Package emit builds pdata: rows of maps become metrics, ring-buffer records become logs.
package emit

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// Resource is whose the data is. The zero value is the host: all that runs outside of containers.
type Resource struct {
	ContainerID string
	Runtime     string
	PodUID      string
}

// Identity finds the resource of a cgroup, and writes a resource's attributes.
type Identity interface {
	Resource(cgroup uint64) Resource
	Describe(Resource, pcommon.Resource)
}

// resource is an interned [Resource], so that series hold a pointer and compare it.
type resource struct {
	Resource

	// id is a number that no other resource had or will have.
	id   uint64
	used time.Time
	// scope is where this tick's metrics of the resource go, once tick is the current one.
	scope pmetric.ScopeMetrics
	tick  uint64
}

// resources interns. Those that were not used for ttl are forgotten.
type resources struct {
	byValue map[Resource]*resource
	ttl     time.Duration
	last    uint64 // id
}

func newResources(ttl time.Duration) *resources {
	return &resources{byValue: make(map[Resource]*resource), ttl: ttl}
}

func (r *resources) get(v Resource, now time.Time) *resource {
	res, ok := r.byValue[v]
	if !ok {
		r.last++
		res = &resource{Resource: v, id: r.last}
		r.byValue[v] = res
	}
	res.used = now
	return res
}

func (r *resources) expire(now time.Time) {
	for v, res := range r.byValue {
		if now.Sub(res.used) > r.ttl {
			delete(r.byValue, v)
		}
	}
}

// attributes is the layout.Sink of a pcommon.Map. One is kept and pointed at map after map, so that decoding into
// it allocates nothing of its own.
type attributes struct {
	m pcommon.Map
}

func (a *attributes) PutStr(key, value string)            { a.m.PutStr(key, value) }
func (a *attributes) PutInt(key string, value int64)      { a.m.PutInt(key, value) }
func (a *attributes) PutDouble(key string, value float64) { a.m.PutDouble(key, value) }
func (a *attributes) PutBool(key string, value bool)      { a.m.PutBool(key, value) }

func (a *attributes) PutBytes(key string, value []byte) {
	a.m.PutEmptyBytes(key).FromRaw(value)
}

func (a *attributes) PutStrs(key string, values []string) {
	s := a.m.PutEmptySlice(key)
	s.EnsureCapacity(len(values))
	for _, v := range values {
		s.AppendEmpty().SetStr(v)
	}
}
