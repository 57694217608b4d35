// SPDX-License-Identifier: Apache-2.0

//go:build linux

package reliability_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// backend takes OTLP when it is there, by any transport.
type backend struct {
	t    *testing.T
	by   transport
	port int
	*ledger

	mu     sync.Mutex
	keys   *sums
	server *http.Server
	ended  chan struct{}
	// turned is how many requests came in outages.
	turned atomic.Int64
}

// transport is how a backend is sent to: the name of the exporter.
type transport string

const (
	byHTTP transport = "otlp_http"
	byGRPC transport = "otlp_grpc"
)

// outage is what becomes of requests while a backend answers none as it should.
type outage string

const (
	refused     outage = "refused"     // nobody listens
	unavailable outage = "unavailable" // try again
	silent      outage = "silent"      // held open, without an answer
	unanswered  outage = "unanswered"  // the same, and taken
)

// backends are those of one Collector, which sends everything to each.
type backends []*backend

func newBackends(t *testing.T, by ...transport) (all backends) {
	t.Helper()
	for _, by := range by {
		b := &backend{t: t, by: by, port: kernel.FreePort(t), ledger: newLedger(), keys: &sums{metric: "ebpf.test.keys"}}
		t.Cleanup(func() {
			if b.server != nil {
				b.server.Close()
			}
		})
		all = append(all, b)
	}
	return all
}

func (all backends) up() {
	for _, b := range all {
		b.up()
	}
}

func (all backends) down(how outage) {
	for _, b := range all {
		b.down(how)
	}
}

// up takes what it is sent, from now on.
func (b *backend) up() {
	b.t.Helper()
	if b.server != nil { // it does not answer what is held open
		require.NoError(b.t, b.server.Close())
		<-b.ended
	}
	b.serve(func(w http.ResponseWriter, r *http.Request) {
		b.receive(r)
		b.answer(w, http.StatusOK, 0)
	})
}

func (b *backend) serve(handler http.HandlerFunc) {
	b.t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", b.port))
	require.NoError(b.t, err)
	server, ended := &http.Server{Handler: handler, Protocols: new(http.Protocols)}, make(chan struct{})
	server.Protocols.SetHTTP1(b.by == byHTTP)
	server.Protocols.SetUnencryptedHTTP2(b.by == byGRPC)
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
	if b.server != nil {
		require.NoError(b.t, b.server.Shutdown(context.Background()))
		<-b.ended
		b.server = nil
	}
	if how == refused {
		return
	}
	b.serve(func(w http.ResponseWriter, r *http.Request) {
		if how == unanswered {
			b.receive(r)
		} else {
			_, _ = io.Copy(io.Discard, r.Body)
		}
		b.turned.Add(1)
		if how == unavailable {
			b.answer(w, http.StatusServiceUnavailable, 14) // UNAVAILABLE
			return
		}
		<-r.Context().Done() // the client gives up, or the server ends
	})
}

// amount is how much came, with what came again.
type amount struct{ events, keys int64 }

func (b *backend) taken() amount {
	b.mu.Lock()
	defer b.mu.Unlock()
	return amount{b.total(), b.keys.total()}
}

func (all backends) taken() (list []amount) {
	for _, b := range all {
		list = append(list, b.taken())
	}
	return list
}

// receive takes a request, whose message is that of the file format, too: one field with the resources. Over gRPC, it follows five bytes: whether it
// is compressed, and its length.
func (b *backend) receive(r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	if b.by == byGRPC {
		if !assert.Equal(b.t, binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body)-5)), body[:5], "one message, not compressed") {
			return
		}
		body = body[5:]
	}
	switch r.URL.Path {
	case "/v1/logs", "/opentelemetry.proto.collector.logs.v1.LogsService/Export":
		ld, err := new(plog.ProtoUnmarshaler).UnmarshalLogs(body)
		if assert.NoError(b.t, err) {
			b.take(ld)
		}
	case "/v1/metrics", "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export":
		md, err := new(pmetric.ProtoUnmarshaler).UnmarshalMetrics(body)
		if assert.NoError(b.t, err) {
			b.mu.Lock()
			b.keys.take(b.t, md)
			b.mu.Unlock()
		}
	default:
		assert.Fail(b.t, "an unknown path", r.URL.Path)
	}
}

// answer sends an empty message, with one of HTTP's statuses or, in a trailer, of gRPC's.
func (b *backend) answer(w http.ResponseWriter, ofHTTP, ofGRPC int) {
	if b.by == byHTTP {
		w.Header().Set("Content-Type", "application/x-protobuf")
		w.WriteHeader(ofHTTP)
		return
	}
	w.Header().Set("Content-Type", "application/grpc")
	_, _ = w.Write(make([]byte, 5))
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", strconv.Itoa(ofGRPC))
}
