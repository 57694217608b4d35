// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"

	"github.com/ebpfreceiver/ebpfreceiver/bpf"
	"github.com/ebpfreceiver/ebpfreceiver/internal/host"
	"github.com/ebpfreceiver/ebpfreceiver/internal/layout"
	"github.com/ebpfreceiver/ebpfreceiver/internal/probe"
)

// cgroupNames learns the path of every cgroup when it is made, so that a container that came and went between two
// collections has a name all the same.
type cgroupNames struct {
	probe    *probe.Probe
	id, path layout.Field
	cgroups  *host.Cgroups
}

const (
	cgroupEvent = "ebpf.identity.cgroup"
	// cgroupRing holds some 600 cgroups until the next look.
	cgroupRing = 256 << 10
)

// watchCgroups attaches the program. What it can not do costs only the names of containers that are gone.
func watchCgroups(cgroups *host.Cgroups, env probe.Environment) (*cgroupNames, error) {
	folder, err := fs.Sub(bpf.Identity, "identity/cgroups")
	if err != nil {
		return nil, fmt.Errorf("opening the embedded folder: %w", err)
	}
	spec, err := probe.Parse(folder, "bpf/identity/cgroups/"+probe.SpecFile)
	if err != nil {
		return nil, err
	}
	settings, err := spec.Resolve(probe.Config{RingSize: cgroupRing})
	if err != nil {
		return nil, err
	}
	p, err := probe.Load(spec, settings, env)
	if err != nil {
		return nil, err
	}
	n := &cgroupNames{probe: p, cgroups: cgroups}
	if n.id, err = layout.FieldOf(p.EventTypes[cgroupEvent], "id"); err == nil {
		n.path, err = layout.FieldOf(p.EventTypes[cgroupEvent], "path")
	}
	if err == nil {
		err = p.Attach()
	}
	if err != nil {
		_ = p.Close()
		return nil, err
	}
	return n, nil
}

// learn takes what was made since the last time. It is to be called before ids are resolved. Safe for concurrent use.
func (n *cgroupNames) learn() {
	if n == nil {
		return
	}
	// An error means closed, or a ring that can not be read: cgroups that still exist are resolved without it.
	_, _ = n.probe.Ring.Drain(func(record []byte) bool {
		if n.path.Offset+n.path.Size > len(record) {
			return true
		}
		path, _, _ := bytes.Cut(record[n.path.Offset:n.path.Offset+n.path.Size], []byte{0})
		// A path that fills the field was cut: better none than a wrong one.
		if len(path) > 0 && len(path) < n.path.Size-1 {
			n.cgroups.Learn(binary.NativeEndian.Uint64(record[n.id.Offset:]), string(path))
		}
		return true
	})
}

func (n *cgroupNames) close() error {
	if n == nil {
		return nil
	}
	return n.probe.Close()
}
