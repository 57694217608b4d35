// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
)

// strictHost tells when the receiver reports that something is missing, which fails the test.
type strictHost struct {
	component.Host

	tell func(problem string)
}

// Report implements [componentstatus.Reporter].
func (h *strictHost) Report(e *componentstatus.Event) {
	if err := e.Err(); err != nil {
		h.tell(fmt.Sprintf("receiver reports %v: %v", e.Status(), err))
	}
}
