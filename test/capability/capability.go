// SPDX-License-Identifier: Apache-2.0

// Package capability has Linux's capabilities by name, and what is agreed between the kernel matrix, which runs tests with some of them, and the rig
// of those tests.
package capability

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Variable is the environment variable that makes what is tested run as an unprivileged user with these capabilities, separated by commas; with an
// empty value with none. Without the variable it runs as the tests do.
const Variable = "EBPFRECEIVER_TEST_CAPABILITIES"

// WithoutVariable names one that is not given to a test which says that it needs it on top.
const WithoutVariable = "EBPFRECEIVER_TEST_WITHOUT_CAPABILITY"

// Nobody is the unprivileged user and group.
const Nobody = 65534

// capability is one, with its number from include/uapi/linux/capability.h.
type capability struct {
	name   string
	number uintptr
}

// all that may matter to eBPF, from the one that gives most to the one that gives least.
var all = []capability{
	{"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN},
	{"CAP_SYS_RESOURCE", unix.CAP_SYS_RESOURCE},
	{"CAP_SYS_PTRACE", unix.CAP_SYS_PTRACE},
	{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN},
	{"CAP_DAC_READ_SEARCH", unix.CAP_DAC_READ_SEARCH},
	{"CAP_NET_RAW", unix.CAP_NET_RAW},
	{"CAP_SYSLOG", unix.CAP_SYSLOG},
	{"CAP_PERFMON", unix.CAP_PERFMON},
	{"CAP_BPF", unix.CAP_BPF},
}

// Numbers of some, in the order of [Set.Names]; an unknown name is an error.
func Numbers(names []string) ([]uintptr, error) {
	for _, name := range names {
		if !slices.ContainsFunc(all, func(c capability) bool { return c.name == name }) {
			return nil, fmt.Errorf("unknown capability %q", name)
		}
	}
	var numbers []uintptr
	for _, c := range all {
		if slices.Contains(names, c.name) {
			numbers = append(numbers, c.number)
		}
	}
	return numbers, nil
}

// Set is a set of capabilities, as the kernel has it: 32 in each word.
type Set [2]uint32

// SetOf some numbers.
func SetOf(numbers []uintptr) (s Set) {
	for _, n := range numbers {
		s[n/32] |= 1 << (n % 32)
	}
	return s
}

// Names of those in the set that may matter, from the one that gives most to the one that gives least.
func (s Set) Names() (names []string) {
	for _, c := range all {
		if s[c.number/32]&(1<<(c.number%32)) != 0 {
			names = append(names, c.name)
		}
	}
	return names
}

// Current are the calling thread's sets.
func Current() (effective, permitted Set, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return effective, permitted, fmt.Errorf("read the capabilities: %w", err)
	}
	for i, d := range data {
		effective[i], permitted[i] = d.Effective, d.Permitted
	}
	return effective, permitted, nil
}

// Needs is what a test says that it needs on top of what its probe does.
type Needs struct {
	// What needs them, as documentation calls it.
	What         string
	Capabilities []string
}

// NeedsAttribute is the attribute of a test by which it says so: see [testing.T.Attr].
const NeedsAttribute = "needs"

// String is the attribute's value.
func (n Needs) String() string { return strings.Join(n.Capabilities, " ") + ": " + n.What }

// ParseNeeds reads such a value.
func ParseNeeds(value string) Needs {
	names, what, _ := strings.Cut(strings.TrimSpace(value), ": ")
	return Needs{What: what, Capabilities: strings.Fields(names)}
}
