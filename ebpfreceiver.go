// SPDX-License-Identifier: Apache-2.0

// Package ebpfreceiver is an OpenTelemetry Collector receiver, type ebpf. It attaches eBPF programs
// to a Linux host and turns what they count into metrics, and what they see into logs.
//
// It stands at the module's root because the Collector Builder imports a module by its path: one
// line in a manifest is enough, without import or path.
//
//	receivers:
//	  - gomod: github.com/ebpfreceiver/ebpfreceiver v0.1.0
package ebpfreceiver

import (
	"go.opentelemetry.io/collector/receiver"

	impl "github.com/ebpfreceiver/ebpfreceiver/receiver"
)

// NewFactory returns the factory of the ebpf receiver. It neither opens nor looks at anything on
// the host; that is done by a receiver's Start.
func NewFactory() receiver.Factory {
	return impl.NewFactory()
}
