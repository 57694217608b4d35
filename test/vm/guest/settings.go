// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// setting is how an environment is made.
type setting struct {
	// mounts after those of all environments.
	mounts []mount
	// files of the kernel's that are written.
	files map[string]string
	// process is how the tests are started; nil as the guest itself is.
	process *syscall.SysProcAttr
	// container is an own root for the tests, with what the host has at hostRoot; see enterContainer.
	container bool
	// variables of the tests' environment, as os.Environ has them.
	variables []string
	// cgroup that the tests are started in; empty is the guest's own.
	cgroup string
}

var (
	tracefs  = mount{"tracefs", "/sys/kernel/tracing", "tracefs", "", 0, false}
	cgroupV2 = mount{"cgroup2", "/sys/fs/cgroup", "cgroup2", "", 0, false}
)

// cgroupV1 are hierarchies as distributions mounted them, as far as the kernel has them.
func cgroupV1() []mount {
	mounts := []mount{
		{"tmpfs", "/sys/fs/cgroup", "tmpfs", "mode=755", 0, false},
		{"cgroup", "/sys/fs/cgroup/systemd", "cgroup", "none,name=systemd", 0, false},
	}
	for _, controllers := range []string{"cpu,cpuacct", "cpuset", "memory", "pids", "freezer"} {
		mounts = append(mounts, mount{"cgroup", "/sys/fs/cgroup/" + controllers, "cgroup", controllers, 0, true})
	}
	return mounts
}

// unprivileged is the user nobody with some capabilities.
func unprivileged(capabilities ...uintptr) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: capabilities}
}

const (
	nobody   = 65534
	paranoid = "/proc/sys/kernel/perf_event_paranoid"
)

// settingOf is an environment's; "" is the one that lacks nothing.
func settingOf(environment string) (setting, error) {
	whole := []mount{tracefs, cgroupV2}
	switch environment {
	case "privileges":
		// The level that the kernel itself has by default. Debian's is 3, which the environment of that name is about.
		return setting{mounts: whole, files: map[string]string{paranoid: "2"}}, nil
	case "", "lockdown-integrity", "lockdown-confidentiality", "suspend": // the kernel's parameters or the tests make these
		return setting{mounts: whole}, nil
	case "no-btf":
		return setting{mounts: append(whole, mount{"tmpfs", "/sys/kernel/btf", "tmpfs", "", 0, false})}, nil
	case "no-tracefs":
		return setting{mounts: []mount{cgroupV2}}, nil
	case "cgroup-v1":
		return setting{mounts: append(cgroupV1(), tracefs)}, nil
	case "cgroup-hybrid":
		return setting{mounts: append(cgroupV1(), tracefs, mount{"cgroup2", "/sys/fs/cgroup/unified", "cgroup2", "", 0, false})}, nil
	case "perf-event-paranoid":
		return setting{
			mounts:  whole,
			files:   map[string]string{paranoid: "3"},
			process: unprivileged(unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_DAC_READ_SEARCH, unix.CAP_SYS_RESOURCE, unix.CAP_NET_RAW),
		}, nil
	case "user-namespace":
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: nobody, Size: 1}}
		return setting{mounts: whole, process: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID, UidMappings: ids, GidMappings: ids,
			Credential: &syscall.Credential{NoSetGroups: true}, // root, of the namespace
		}, container: true}, nil
	case "pid-namespace":
		return setting{mounts: whole, process: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		}, container: true, cgroup: "/sys/fs/cgroup/collector"}, nil
	}
	return setting{}, fmt.Errorf("unknown environment %q", environment)
}
