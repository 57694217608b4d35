// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"io/fs"
	"path"
)

// tracefsPaths are where tracefs is mounted, the newer place first.
var tracefsPaths = [...]string{"sys/kernel/tracing", "sys/kernel/debug/tracing"}

// tracefs is the path of tracefs in k.fs.
func (k *Kernel) tracefs() (string, error) {
	var refused error
	for _, dir := range tracefsPaths {
		_, err := fs.Stat(k.fs, path.Join(dir, "events"))
		if err == nil {
			return dir, nil
		}
		if errors.Is(err, fs.ErrPermission) {
			refused = err
		}
	}
	// There it is empty, for root too.
	if withheld := k.withheld("read /sys/kernel/tracing", "tracefs needs", refused); withheld != nil {
		return "", withheld
	}
	if refused != nil {
		return "", &PermissionError{
			Capability: CapDACReadSearch.String(),
			Doing:      "read /sys/kernel/tracing",
			Remedy:     grant(CapDACReadSearch) + ", or mount tracefs with a gid= and mode= that this process may read",
			Err:        refused,
		}
	}
	return "", &UnsupportedError{
		Feature: "tracefs that this process can see",
		Reason:  "classic tracepoints are looked up in it",
		Remedy:  "`mount -t tracefs nodev /sys/kernel/tracing`; in a container, mount the host's /sys/kernel/tracing",
	}
}

// Tracepoint tells whether the classic tracepoint group/name exists, as tracefs lists it.
func (k *Kernel) Tracepoint(group, name string) error {
	return k.answer("tracepoint/"+group+"/"+name, func() error {
		dir, err := k.tracefs()
		if err != nil {
			return err
		}
		_, err = fs.Stat(k.fs, path.Join(dir, "events", group, name, "id"))
		if errors.Is(err, fs.ErrNotExist) {
			return &UnsupportedError{Feature: "tracepoint " + group + "/" + name, Err: err}
		}
		return err
	})
}
