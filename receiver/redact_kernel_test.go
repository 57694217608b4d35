// SPDX-License-Identifier: Apache-2.0

package ebpfreceiver_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// A secret in a command line gets nowhere: in no attribute, no body, and no message of the receiver's own.
func TestKernelRedact(t *testing.T) {
	kernel.NeedRoot(t)
	c := kernel.NewCgroup(t)
	r := newRig(t, `
probes:
  process:
    redact: ["hunter[0-9]+", "(?i)bearer [^ ]+", "--token[= ](\\S+)"]
    events: { ebpf.process.exec: { filter: { cgroups: [`+c.Path+`] } }, ebpf.process.exit: { filter: { cgroups: [`+c.Path+`] } } }
`)
	sink := new(consumertest.LogsSink)
	r.logs = sink
	r.start()
	for _, args := range [][]string{
		{"--password=hunter2", "--user=me"},
		{"-H", "Authorization: Bearer c2VjcmV0", "hunter2hunter3"},
		{"--token", "c2VjcmV0", "--token=c2VjcmV0", "last"},
	} {
		require.NoError(t, c.Command("true", args...).Run())
	}
	r.stop()

	all := execs(records(sink.AllLogs()...))
	require.Len(t, all, 3)
	var args [][]any
	for _, record := range all {
		list, _ := record.Attributes().Get("process.command_args")
		args = append(args, list.Slice().AsRaw()[1:])
	}
	assert.Equal(t, [][]any{
		{"--password=[REDACTED]", "--user=me"},
		{"-H", "Authorization: [REDACTED]", "[REDACTED][REDACTED]"},
		{"--token", "[REDACTED]", "--token=[REDACTED]", "last"},
	}, args)
	for _, ld := range sink.AllLogs() {
		text, err := (&plog.JSONMarshaler{}).MarshalLogs(ld)
		require.NoError(t, err)
		assert.NotRegexp(t, "hunter[0-9]|c2VjcmV0", string(text))
	}
	for _, message := range r.messages.All() {
		assert.NotContains(t, message.Message, "hunter")
	}
}
