// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bufio"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ebpfreceiver/ebpfreceiver/test/needs"
)

// Tracefs lists the tracepoints that there are; each of the scheduler's has a typed twin.
func TestKernelTracepoints(t *testing.T) {
	needs.Root(t)
	k := New(Options{})
	dirs, err := filepath.Glob("/sys/kernel/tracing/events/sched/*/id")
	require.NoError(t, err)
	require.NotEmpty(t, dirs, "mount tracefs at /sys/kernel/tracing")
	for _, dir := range dirs {
		name := filepath.Base(filepath.Dir(dir))
		assert.NoError(t, k.TypedTracepoint(name), name)
		assert.NoError(t, k.Tracepoint("sched", name), name)
	}
	assert.ErrorIs(t, k.TypedTracepoint("sched_no_such"), ErrNotSupported)
	assert.ErrorIs(t, k.Tracepoint("sched", "sched_no_such"), ErrNotSupported)
}

// The kernel's symbols, as it lists them itself, decide whether a function requirement is right.
func TestKernelFunctions(t *testing.T) {
	needs.Root(t)
	symbols := make(map[string]bool)
	f, err := os.Open("/proc/kallsyms")
	require.NoError(t, err)
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 {
			symbols[fields[2]] = true
		}
	}
	k := New(Options{})
	for _, name := range []string{"bpf_mem_alloc_init", "bpf_map_charge_init", "vfs_read", "tcp_sendmsg", "no_such_function"} {
		err := k.Require("func/" + name)
		if symbols[name] {
			assert.NoError(t, err, name)
		} else {
			assert.ErrorIs(t, err, ErrNotSupported, name)
		}
	}
	assert.Equal(t, symbols["bpf_mem_alloc_init"], k.AllocatesInPrograms())
	assert.Equal(t, symbols["bpf_map_charge_init"], k.chargesMemlock())
}

func TestKernelConfig(t *testing.T) {
	needs.Root(t)
	f, err := os.Open("/proc/config.gz")
	if err != nil {
		t.Skip("this kernel has no /proc/config.gz")
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	require.NoError(t, err)
	k, compared := New(Options{}), 0
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), "=y"); ok && value == "" {
			require.NoError(t, k.Require("config/"+name))
			compared++
		}
	}
	assert.Positive(t, compared)
}

// What capsh would say of this process is in the same file; root on this host may load programs.
func TestKernelMissing(t *testing.T) {
	needs.Root(t)
	require.NoError(t, New(Options{}).Missing())
}

func TestKernelMaps(t *testing.T) {
	needs.Root(t)
	k := New(Options{})
	for _, name := range []string{"hash", "percpu_hash", "array_of_maps", "ringbuf"} {
		require.NoError(t, k.Require("map/"+name))
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.BloomFilter, ValueSize: 4, MaxEntries: 1})
	if err == nil {
		m.Close()
		assert.NoError(t, k.Require("map/bloom_filter"))
	}
}

// Types come back after they were dropped.
func TestKernelRelease(t *testing.T) {
	needs.Root(t)
	k := New(Options{})
	require.NoError(t, k.Require("field/task_struct.pid"))
	k.Release()
	require.NoError(t, k.Require("field/task_struct.tgid"))
	require.ErrorIs(t, k.Require("field/task_struct.no_such"), ErrNotSupported)
}

// bpftool reads the same BTF with code of its own.
func TestKernelAnyEnumerator(t *testing.T) {
	needs.Root(t)
	bpftool, err := exec.LookPath("bpftool")
	if err != nil {
		t.Skip("needs bpftool as the source of truth")
	}
	out, err := exec.Command(bpftool, "btf", "dump", "file", "/sys/kernel/btf/vmlinux").Output()
	require.NoError(t, err)
	const name = "LINUX_MIB_LISTENDROPS"
	_, rest, ok := strings.Cut(string(out), "'"+name+"' val=")
	require.True(t, ok)
	want, _, _ := strings.Cut(rest, "\n")
	n, err := New(Options{}).AnyEnumerator(name)
	require.NoError(t, err)
	assert.Equal(t, want, strconv.FormatInt(n, 10))
}

// bpftool reads the same BTF with code of its own.
func TestKernelArgs(t *testing.T) {
	needs.Root(t)
	bpftool, err := exec.LookPath("bpftool")
	if err != nil {
		t.Skip("needs bpftool as the source of truth")
	}
	out, err := exec.Command(bpftool, "btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "c").Output()
	require.NoError(t, err)
	k := New(Options{})
	for _, name := range []string{"sched_process_exit", "kfree_skb", "mark_victim", "block_rq_issue"} {
		_, rest, ok := strings.Cut(string(out), "(*btf_trace_"+name+")(")
		require.True(t, ok, name)
		params, _, _ := strings.Cut(rest, ")")
		n := strings.Count(params, ",") // void *, and as many more
		for i := range 8 {
			err := k.Require("args/" + name + ":" + string(rune('0'+i)))
			if i == n {
				assert.NoError(t, err, "%s has %d", name, n)
			} else {
				assert.ErrorIs(t, err, ErrNotSupported, "%s has %d", name, n)
			}
		}
	}
	require.NoError(t, k.Require("args/sched_process_exit:0=task_struct"))
	require.ErrorIs(t, k.Require("args/sched_process_exit:0=sk_buff"), ErrNotSupported)
}
