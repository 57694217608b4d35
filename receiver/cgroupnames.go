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
		if id, path, ok := n.read(record); ok {
			n.cgroups.Learn(id, path)
		}
		return true
	})
}

// read takes a record apart; ok tells whether it has a whole path. One that fills the field was cut: better none than a wrong one.
func (n *cgroupNames) read(record []byte) (id uint64, path string, ok bool) {
	if len(record) < max(n.id.Offset+n.id.Size, n.path.Offset+n.path.Size) {
		return 0, "", false
	}
	text, _, _ := bytes.Cut(record[n.path.Offset:n.path.Offset+n.path.Size], []byte{0})
	return binary.NativeEndian.Uint64(record[n.id.Offset:]), string(text), len(text) > 0 && len(text) < n.path.Size-1
}

func (n *cgroupNames) close() error {
	if n == nil {
		return nil
	}
	return n.probe.Close()
}
