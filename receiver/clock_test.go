// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/ebpfreceiver/ebpfreceiver/internal/host"
)

// wallClock is set by its offset to a boot clock that stands still.
type wallClock struct{ offset atomic.Int64 }

func (*wallClock) Boot() (int64, error)   { return 0, nil }
func (c *wallClock) Real() (int64, error) { return c.offset.Load(), nil }

// A wall clock that was set is followed after ten seconds at the latest, which docs/reliability.md promises.
func TestKeepTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := new(wallClock)
		clock, err := host.NewClock(source)
		require.NoError(t, err)
		r := &ebpfReceiver{logger: zap.NewNop(), host: &hostIdentity{clock: clock}, stop: make(chan struct{})}
		go r.keepTime(t.Context())
		for range 3 {
			offset := source.offset.Add(int64(time.Hour))
			time.Sleep(10 * time.Second)
			synctest.Wait()
			assert.Equal(t, time.Unix(0, offset), clock.Wall(0))
		}
		close(r.stop)
	})
}
