// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseCapabilities(t *testing.T) {
	tests := []struct {
		name, status string
		want         Capabilities
		fails        string
	}{
		{name: "root", status: "Name:\totelcol\nCapInh:\t0000000000000000\nCapEff:\t000001ffffffffff\n", want: 0x1ffffffffff},
		{name: "none", status: "CapEff:\t0000000000000000\n"},
		{name: "bpf and perfmon", status: "CapPrm:\t0\nCapEff:\t000000c000000000\nCapBnd:\tff\n", want: 1<<38 | 1<<39},
		{name: "no line", status: "Name:\tx\n", fails: "no CapEff line"},
		{name: "empty", fails: "no CapEff line"},
		{name: "not a number", status: "CapEff:\tzz\n", fails: "parse CapEff"},
		{name: "too long", status: "CapEff:\t00000000000000000ffff\n", want: 0xffff},
		{name: "too large", status: "CapEff:\tffffffffffffffffff\n", fails: "parse CapEff"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set, err := parseCapabilities(strings.NewReader(tt.status))
			if tt.fails != "" {
				require.ErrorContains(t, err, tt.fails)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, set)
		})
	}
}

func TestMissing(t *testing.T) {
	const btf = "sys/kernel/btf/vmlinux"
	tests := []struct {
		name  string
		caps  string
		last  string // cap_last_cap
		noBTF bool
		uids  string   // the user namespace's; empty: the first one
		want  []string // in the one sentence; none: nothing is missing
	}{
		{name: "root", caps: "1ffffffffff", last: "40"},
		{name: "only sys_admin", caps: "200000", last: "40"},
		{name: "bpf and perfmon", caps: "c000000000", last: "40"},
		{name: "sys_admin before 5.8", caps: "200000", last: "37"},
		{
			name: "nothing", caps: "0", last: "40",
			want: []string{"CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN)", "AmbientCapabilities=CAP_BPF CAP_PERFMON", "cap_bpf,cap_perfmon+ep", "[BPF, PERFMON]"},
		},
		{name: "only bpf", caps: "8000000000", last: "40", want: []string{"without CAP_PERFMON (or", "AmbientCapabilities=CAP_PERFMON,"}},
		{name: "nothing before 5.8", caps: "0", last: "37", want: []string{"without CAP_SYS_ADMIN;", "[SYS_ADMIN]"}},
		{name: "no BTF", caps: "1ffffffffff", last: "40", noBTF: true, want: []string{"BTF type information", "CONFIG_DEBUG_INFO_BTF=y"}},
		{name: "root of a user namespace", caps: "1ffffffffff", last: "40", uids: "0 65534 1\n", want: []string{"capabilities in the host's user namespace", "hostUsers"}},
		{name: "user of a user namespace", caps: "0", last: "40", uids: "1000 1000 1\n", want: []string{"capabilities in the host's user namespace", "hostUsers"}},
		{name: "neither", caps: "0", last: "40", noBTF: true, want: []string{"CAP_BPF", "; this kernel has no BTF type information"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fsys := fstest.MapFS{
				"proc/self/status":             {Data: []byte("CapEff:\t" + tt.caps + "\n")},
				"proc/sys/kernel/cap_last_cap": {Data: []byte(tt.last + "\n")},
			}
			if !tt.noBTF {
				fsys[btf] = &fstest.MapFile{}
			}
			if tt.uids != "" {
				fsys["proc/self/uid_map"] = &fstest.MapFile{Data: []byte(tt.uids)}
			}
			err := New(Options{FS: fsys}).Missing()
			if len(tt.want) == 0 {
				require.NoError(t, err)
				return
			}
			for _, want := range tt.want {
				assert.ErrorContains(t, err, want)
			}
			assert.NotContains(t, err.Error(), "\n")
			var permission *PermissionError
			assert.Equal(t, !strings.Contains(tt.want[0], "BTF"), errors.As(err, &permission))
			assert.Equal(t, permission != nil, errors.Is(err, fs.ErrPermission))
			assert.Equal(t, tt.noBTF, errors.Is(err, ErrNotSupported))
		})
	}
}

// What is advised is enough: what Kubernetes adds is of no use to another user than root. Only what is missing is named.
func TestGrant(t *testing.T) {
	assert.Equal(t, "grant with systemd's AmbientCapabilities=CAP_BPF CAP_PERFMON, `setcap cap_bpf,cap_perfmon+ep` on the binary, "+
		"or Kubernetes' securityContext with runAsUser: 0 and capabilities.add: [BPF, PERFMON]", Grant("CAP_BPF", "CAP_PERFMON"))
	assert.Equal(t, Grant("CAP_SYS_ADMIN"), grant(CapSysAdmin))
	assert.Equal(t, 1, strings.Count(Grant("CAP_NET_RAW"), "CAP_"))
}

// A host on which nothing can be read is not accused of anything but of what is known to be missing.
func TestMissingUnreadable(t *testing.T) {
	err := New(Options{FS: fstest.MapFS{"sys/kernel/btf/vmlinux": {}}}).Missing()
	assert.NoError(t, err)
}

// A status as the kernel writes it has the set that it was written with, whatever the process is called; see proc_task_name and task_cap in
// fs/proc/array.c.
func FuzzParseCapabilities(f *testing.F) {
	f.Add("CapEff:\t1\n", "otelcol", uint64(0xc000000000), []byte{0, 0, 1})
	f.Add("CapEff:", "x\nCapEff:\t1", ^uint64(0), []byte{})
	f.Fuzz(func(t *testing.T, text, name string, set uint64, groups []byte) {
		if got, err := parseCapabilities(strings.NewReader(text)); err != nil {
			require.Zero(t, got)
		}
		var status strings.Builder
		fmt.Fprintf(&status, "Name:\t%s\nUmask:\t0022\nGroups:\t", strings.NewReplacer("\\", `\\`, "\n", `\n`).Replace(name[:min(len(name), 64)]))
		for _, group := range groups[:min(len(groups), 1000)] {
			fmt.Fprintf(&status, "%d ", group)
		}
		fmt.Fprintf(&status, "\nCapInh:\t%016x\nCapPrm:\t%016x\nCapEff:\t%016x\nCapBnd:\t%016x\n", ^set, ^set, set, ^set)
		got, err := parseCapabilities(strings.NewReader(status.String()))
		require.NoError(t, err)
		require.Equal(t, Capabilities(set), got)
	})
}

// The kernel's small files mean what the kernel wrote them for, and anything else in them is no reason to stop.
func FuzzHostFiles(f *testing.F) {
	files := []string{
		"proc/self/uid_map", "proc/sys/kernel/cap_last_cap", "proc/sys/kernel/perf_event_paranoid", "sys/kernel/security/lockdown", "sys/kernel/security/lsm",
	}
	modes := []LockdownMode{LockdownNone, LockdownIntegrity, LockdownConfidentiality}
	f.Add("", uint32(0), uint32(0), ^uint32(0), uint8(0), uint8(40), int32(2), uint8(0), "lockdown,yama,bpf")
	f.Add("[", uint32(0), uint32(100000), uint32(65536), uint8(1), uint8(37), int32(-1), uint8(2), "bpfilter,")
	f.Fuzz(func(t *testing.T, text string, inside, outside, count uint32, more, last uint8, paranoid int32, mode uint8, modules string) {
		use := func(content ...string) (k *Kernel) {
			fsys := make(fstest.MapFS)
			for i, file := range files {
				fsys[file] = &fstest.MapFile{Data: []byte(content[i])}
			}
			return New(Options{FS: fsys})
		}
		k := use(text, text, text, text, text)
		k.inUserNamespace()
		k.knows(CapBPF)
		k.perfEventsAreRoots()
		_ = k.activeLSM()
		_, _ = k.Lockdown()

		marked := make([]string, len(modes))
		for i, m := range modes {
			marked[i] = string(m)
			if i == int(mode)%len(modes) {
				marked[i] = "[" + marked[i] + "]"
			}
		}
		extent := fmt.Sprintf("%10d %10d %10d\n", inside, outside, count)
		k = use(strings.Repeat(extent, 1+int(more)%5), fmt.Sprintln(last), fmt.Sprintln(paranoid), strings.Join(marked, " ")+"\n", strings.TrimSpace(modules))
		require.Equal(t, inside != 0 || outside != 0 || count != 1<<32-1 || more%5 != 0, k.inUserNamespace())
		for _, c := range []Capability{CapSysAdmin, CapPerfmon, CapBPF} {
			require.Equal(t, c <= Capability(last), k.knows(c))
		}
		require.Equal(t, paranoid > 2, k.perfEventsAreRoots())
		got, err := k.Lockdown()
		require.NoError(t, err)
		require.Equal(t, modes[int(mode)%len(modes)], got)
		require.Equal(t, slices.Contains(strings.Split(strings.TrimSpace(modules), ","), "bpf"), k.activeLSM() == nil)
	})
}
