// SPDX-License-Identifier: Apache-2.0

package cpu_test

import (
	"os/exec"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/kernel"
)

// Tasks for which there is no room are counted: what ebpf.cpu.uncounted_tasks tells.
func TestKernelUncountedTasks(t *testing.T) {
	kernel.NeedRoot(t)
	spec, err := ebpf.LoadCollectionSpec("cpu.bpf.o")
	require.NoError(t, err)
	spec.Maps["seen_hash"].MaxEntries = 1
	var objects struct {
		Born      *ebpf.Program `ebpf:"new_task_hash"`
		Uncounted *ebpf.Map     `ebpf:"uncounted"`
	}
	var l link.Link
	kernel.Unprivileged(t, func() {
		require.NoError(t, spec.LoadAndAssign(&objects, nil))
		l, err = link.AttachTracing(link.TracingOptions{Program: objects.Born})
		require.NoError(t, err)
	})
	defer objects.Born.Close()
	defer objects.Uncounted.Close()
	const n = 10
	// All live at the same time: the kernel would give one's task_struct to the next, and with it its place.
	for range n {
		cmd := exec.Command("cat")
		input, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		defer func() {
			input.Close()
			_ = cmd.Wait()
		}()
	}
	require.NoError(t, l.Close())
	var cells []uint64
	require.NoError(t, objects.Uncounted.Lookup(uint32(0), &cells))
	var sum uint64
	for _, c := range cells {
		sum += c
	}
	// The first finds room. Others may have been born on the host meanwhile.
	require.GreaterOrEqual(t, sum, uint64(n-1))
}
