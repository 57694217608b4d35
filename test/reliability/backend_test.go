// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// backend takes OTLP over HTTP, when it is there.
type backend struct {
	t    *testing.T
	port int
	*ledger

	mu     sync.Mutex
	keys   *sums
	server *http.Server
	ended  chan struct{}
	// turned is how many requests came in outages.
	turned atomic.Int64
}

// outage is what becomes of requests while a backend takes none.
type outage string

const (
	refused     outage = "refused"     // nobody listens
	unavailable outage = "unavailable" // 503: try again
	silent      outage = "silent"      // held open, without an answer
)

func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{t: t, port: freePort(t), ledger: newLedger(), keys: &sums{metric: "ebpf.test.keys"}}
	t.Cleanup(func() {
		if b.server != nil {
			b.server.Close()
		}
	})
	return b
}

// up takes what it is sent, from now on.
func (b *backend) up() {
	b.t.Helper()
	if b.server != nil { // it does not answer what is held open
		require.NoError(b.t, b.server.Close())
		<-b.ended
	}
	b.serve(b)
}

func (b *backend) serve(handler http.Handler) {
	b.t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", b.port))
	require.NoError(b.t, err)
	server, ended := &http.Server{Handler: handler}, make(chan struct{})
	b.server, b.ended = server, ended
	go func() {
		defer close(ended)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			assert.NoError(b.t, err)
		}
	}()
}

// down finishes what it was sent, and then takes nothing any more.
func (b *backend) down(how outage) {
	b.t.Helper()
	require.NoError(b.t, b.server.Shutdown(context.Background()))
	<-b.ended
	b.server = nil
	if how == refused {
		return
	}
	b.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		b.turned.Add(1)
		if how == silent {
			<-r.Context().Done() // the client gives up, or the server ends
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
}

// counted is the sum of the keys so far.
func (b *backend) counted() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keys.total()
}

// ServeHTTP takes a request, whose body is that of the file format, too: one field with the resources.
func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch r.URL.Path {
	case "/v1/logs":
		ld, err := new(plog.ProtoUnmarshaler).UnmarshalLogs(body)
		if assert.NoError(b.t, err) {
			b.take(ld)
		}
	case "/v1/metrics":
		md, err := new(pmetric.ProtoUnmarshaler).UnmarshalMetrics(body)
		if assert.NoError(b.t, err) {
			b.mu.Lock()
			b.keys.take(b.t, md)
			b.mu.Unlock()
		}
	default:
		assert.Fail(b.t, "an unknown path", r.URL.Path)
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.WriteHeader(http.StatusOK)
}
