// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/component"

	"github.com/ebpfreceiver/ebpfreceiver"
)

func TestFactory(t *testing.T) {
	assert.Equal(t, component.MustNewType("ebpf"), ebpfreceiver.NewFactory().Type())
}
