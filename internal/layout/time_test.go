// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestTimesAreFormattedAsTheStandardLibraryDoes(t *testing.T) {
	var f rfc3339
	second := time.Date(2026, 2, 28, 23, 59, 59, 0, time.UTC)
	for _, at := range []time.Time{
		second, second.Add(1), second.Add(999_999_999), second.Add(time.Second), second.Add(120 * time.Millisecond),
		second.Add(1200), second, second.Add(-24 * time.Hour), time.Unix(0, 0), time.Unix(-1, 5), time.Unix(1<<40, 10),
		second.Add(time.Microsecond).In(time.FixedZone("", 3600)),
	} {
		assert.Equal(t, at.UTC().Format(time.RFC3339Nano), f.format(at))
	}
}
