// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTracepoint(t *testing.T) {
	id := &fstest.MapFile{Data: []byte("1\n")}
	events := &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	tests := []struct {
		name string
		fsys fstest.MapFS
		want string
	}{
		{"tracefs", fstest.MapFS{"sys/kernel/tracing/events/sched/sched_switch/id": id}, ""},
		{"debugfs", fstest.MapFS{"sys/kernel/debug/tracing/events/sched/sched_switch/id": id}, ""},
		{"absent", fstest.MapFS{"sys/kernel/tracing/events": events}, "this kernel has no tracepoint sched/sched_switch"},
		{"not mounted", fstest.MapFS{"sys/kernel/tracing": events}, "mount -t tracefs nodev /sys/kernel/tracing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := New(Options{FS: tt.fsys}).Tracepoint("sched", "sched_switch")
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
			require.ErrorIs(t, err, ErrNotSupported)
		})
	}
}

// denied is a file system in which tracefs may not be looked into.
type denied struct{ fs.FS }

func (denied) Stat(name string) (fs.FileInfo, error) {
	return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrPermission}
}

func TestTracepointDenied(t *testing.T) {
	err := New(Options{FS: denied{fstest.MapFS{}}}).Tracepoint("sched", "sched_switch")
	var permission *PermissionError
	require.ErrorAs(t, err, &permission)
	assert.Equal(t, "CAP_DAC_READ_SEARCH", permission.Capability)
}

// Where lockdown keeps tracefs empty, to mount it does not help.
func TestTracepointLockdown(t *testing.T) {
	dir := &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	for mode, want := range map[string]string{"none integrity [confidentiality]\n": "lockdown=integrity", "none [integrity] confidentiality\n": "mount -t tracefs"} {
		fsys := fstest.MapFS{"sys/kernel/tracing": dir, "sys/kernel/security/lockdown": {Data: []byte(mode)}}
		require.ErrorContains(t, New(Options{FS: fsys}).Tracepoint("sched", "sched_switch"), want)
	}
}

func TestCheckProgramHooks(t *testing.T) {
	function := func(name string) btf.Type {
		return &btf.Func{Name: name, Type: &btf.FuncProto{Return: &btf.Void{}}, Linkage: btf.StaticFunc}
	}
	types := specOf(t,
		&btf.Typedef{Name: "btf_trace_here", Type: &btf.Pointer{Target: &btf.FuncProto{
			Return: &btf.Void{}, Params: []btf.FuncParam{{Type: &btf.Pointer{Target: &btf.Void{}}}},
		}}},
		function("bpf_iter_task"), function("bpf_lsm_file_open"), function("vfs_read"),
	)
	lsm := fstest.MapFS{"sys/kernel/security/lsm": {Data: []byte("capability,bpf\n")}}
	noLSM := fstest.MapFS{"sys/kernel/security/lsm": {Data: []byte("capability,bpfilter\n")}}
	tests := []struct {
		name string
		spec ebpf.ProgramSpec
		fsys fstest.MapFS
		want string
	}{
		{"tp_btf", ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "here"}, nil, ""},
		{"tp_btf absent", ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "gone"}, nil, "tracepoint gone"},
		{"raw_tp absent", ebpf.ProgramSpec{Type: ebpf.RawTracepoint, AttachTo: "gone"}, nil, "tracepoint gone"},
		{"iter", ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: "task"}, nil, ""},
		{"iter absent", ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: "moon"}, nil, "this kernel has no iterator moon"},
		{"fentry", ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFEntry, AttachTo: "vfs_read"}, nil, ""},
		{"fexit absent", ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFExit, AttachTo: "vfs_peek"}, nil, "this kernel has no function vfs_peek"},
		{"LSM", ebpf.ProgramSpec{Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "file_open"}, lsm, ""},
		{"LSM not listed", ebpf.ProgramSpec{Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "file_open"}, noLSM, "does not list bpf"},
		{"LSM hook absent", ebpf.ProgramSpec{Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "file_close"}, lsm, "this kernel has no LSM hook file_close"},
		{"no kprobes", ebpf.ProgramSpec{Type: ebpf.Kprobe, AttachTo: "vfs_read"}, nil, "CONFIG_KPROBE_EVENTS"},
		{"no tracefs", ebpf.ProgramSpec{Type: ebpf.TracePoint, AttachTo: "a/b"}, nil, "tracefs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.fsys == nil {
				tt.fsys = fstest.MapFS{}
			}
			k := New(Options{FS: tt.fsys})
			k.types = types
			err := k.CheckProgram(&tt.spec)
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
			require.ErrorIs(t, err, ErrNotSupported)
		})
	}
}

func TestMissingHelper(t *testing.T) {
	enum := &btf.Enum{Name: "bpf_func_id", Size: 4, Values: []btf.EnumValue{
		{Name: "BPF_FUNC_map_lookup_elem", Value: uint64(asm.FnMapLookupElem)}, {Name: "__BPF_FUNC_MAX_ID", Value: 2},
	}}
	k := New(Options{FS: fstest.MapFS{}})
	k.types = specOf(t, enum)
	calls := func(helper asm.BuiltinFunc) *ebpf.ProgramSpec {
		return &ebpf.ProgramSpec{Instructions: asm.Instructions{helper.Call(), asm.Return()}}
	}
	assert.Nil(t, k.missingHelper(calls(asm.FnMapLookupElem)))
	lacks := k.missingHelper(calls(asm.FnTaskStorageGet))
	require.NotNil(t, lacks)
	assert.Contains(t, lacks.Error(), "TaskStorageGet")

	k = New(Options{FS: fstest.MapFS{}})
	k.types = specOf(t, &btf.Int{Name: "int", Size: 4})
	assert.Nil(t, k.missingHelper(calls(asm.FnTaskStorageGet)), "a kernel that does not list its helpers is not judged")
}
