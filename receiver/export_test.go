// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"go.opentelemetry.io/collector/receiver"

	"github.com/ebpfreceiver/ebpfreceiver/internal/kernel"
)

// NewFactoryOn is [NewFactory] for receivers that see another kernel than the running one.
func NewFactoryOn(newKernel func() *kernel.Kernel) receiver.Factory {
	return newFactory(func(set receiver.Settings, cfg *Config) (instance, error) {
		r, err := newReceiver(set, cfg)
		if err != nil {
			return nil, err
		}
		r.newKernel = newKernel
		return r, nil
	})
}
