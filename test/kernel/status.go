// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"testing"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
)

// strictHost fails the test when the receiver reports that something is missing.
type strictHost struct {
	component.Host

	t testing.TB
}

// Report implements [componentstatus.Reporter].
func (h *strictHost) Report(e *componentstatus.Event) {
	if err := e.Err(); err != nil {
		h.t.Errorf("receiver reports %v: %v", e.Status(), err)
	}
}
