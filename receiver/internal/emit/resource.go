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
	// ContainerName is of those that have no id.
	ContainerName string
	Runtime       string
	PodUID        string
}

// Identity finds the resource of a cgroup, and writes a resource's attributes.
type Identity interface {
	Resource(cgroup uint64) Resource
	Describe(Resource, pcommon.Resource)
}

// resource is an interned [Resource], so that series hold a pointer.
type resource struct {
	Resource
	// number tells resources apart in the identities of series.
	number uint64
	// used is the age of the last payload that had something of it.
	used time.Duration
	// scope is where this tick's metrics of the resource go, once tick is the current one.
	scope pmetric.ScopeMetrics
	tick  uint64
}

// resources interns. Those that were in no payload for ttl are forgotten; the host stays.
type resources struct {
	identity Identity
	ttl      time.Duration
	host     *resource
	known    map[Resource]*resource
	made     uint64
	// byCgroup is asked for each row. It holds for one tick: a cgroup may become a container's.
	byCgroup map[uint64]*resource
}

func newResources(identity Identity, ttl time.Duration) *resources {
	r := &resources{identity: identity, ttl: ttl, known: make(map[Resource]*resource), byCgroup: make(map[uint64]*resource)}
	r.host = r.intern(Resource{})
	return r
}

func (r *resources) intern(v Resource) *resource {
	res, ok := r.known[v]
	if !ok {
		r.made++
		res = &resource{Resource: v, number: r.made}
		r.known[v] = res
	}
	return res
}

// of is the resource of a cgroup, used now.
func (r *resources) of(cgroup uint64, now time.Duration) *resource {
	res, ok := r.byCgroup[cgroup]
	if !ok {
		res = r.intern(r.identity.Resource(cgroup))
		res.used = now
		r.byCgroup[cgroup] = res
	}
	return res
}

// next ends a tick.
func (r *resources) next(now time.Duration) {
	clear(r.byCgroup)
	for v, res := range r.known {
		res.scope = pmetric.ScopeMetrics{} // which holds all of the payload
		if res != r.host && now-res.used > r.ttl {
			delete(r.known, v)
		}
	}
}
