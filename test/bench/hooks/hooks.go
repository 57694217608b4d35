// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package hooks has programs that do nothing at the hooks which a TCP connection passes, for benchmarks.
package hooks

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

//go:embed hooks.bpf.o
var object []byte

// Attach attaches them until the result is called.
func Attach() (detach func() error, err error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, fmt.Errorf("read the hooks' object: %w", err)
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load what does nothing: %w", err)
	}
	var links []link.Link
	detach = func() error {
		var errs []error
		for _, l := range links {
			errs = append(errs, l.Close())
		}
		c.Close()
		return errors.Join(errs...)
	}
	for name, program := range c.Programs {
		l, err := link.AttachTracing(link.TracingOptions{Program: program})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach %s: %w", name, err), detach())
		}
		links = append(links, l)
	}
	return detach, nil
}
