// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// Capability is a Linux capability's number, from include/uapi/linux/capability.h.
type Capability uint

// The capabilities that matter to eBPF; see capabilities(7).
const (
	CapDACReadSearch Capability = 2
	CapSysAdmin      Capability = 21
	CapSysResource   Capability = 24
	CapPerfmon       Capability = 38 // since Linux 5.8
	CapBPF           Capability = 39 // since Linux 5.8
)

func (c Capability) String() string {
	switch c {
	case CapDACReadSearch:
		return "CAP_DAC_READ_SEARCH"
	case CapSysAdmin:
		return "CAP_SYS_ADMIN"
	case CapSysResource:
		return "CAP_SYS_RESOURCE"
	case CapPerfmon:
		return "CAP_PERFMON"
	case CapBPF:
		return "CAP_BPF"
	}
	return fmt.Sprintf("capability %d", uint(c))
}

// Capabilities is a set of them, one bit each.
type Capabilities uint64

// Has tells whether c is in the set.
func (s Capabilities) Has(c Capability) bool { return c < 64 && s&(1<<c) != 0 }

// Capabilities are those in effect for this process.
func (k *Kernel) Capabilities() (Capabilities, error) {
	f, err := k.fs.Open("proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("read this process's capabilities: %w", err)
	}
	defer f.Close()
	return parseCapabilities(f)
}

// parseCapabilities reads the CapEff line of proc_pid_status(5).
func parseCapabilities(r io.Reader) (Capabilities, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		hex, ok := strings.CutPrefix(lines.Text(), "CapEff:")
		if !ok {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		if err != nil {
			return 0, fmt.Errorf("parse CapEff: %w", err)
		}
		return Capabilities(set), nil
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("read this process's status: %w", err)
	}
	return 0, errors.New("this process's status has no CapEff line")
}

// knows tells whether the kernel is new enough to have c; without the file, it is taken to be.
func (k *Kernel) knows(c Capability) bool {
	text, err := fs.ReadFile(k.fs, "proc/sys/kernel/cap_last_cap")
	if err != nil {
		return true
	}
	last, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 8)
	return err != nil || c <= Capability(last)
}

// inUserNamespace tells whether this process's root is not the host's: its capabilities then do not count for
// eBPF. The initial namespace maps all ids onto themselves; see user_namespaces(7).
func (k *Kernel) inUserNamespace() bool {
	text, err := fs.ReadFile(k.fs, "proc/self/uid_map")
	if err != nil {
		return false
	}
	fields := strings.Fields(string(text))
	return len(fields) != 3 || fields[0] != "0" || fields[1] != "0" || fields[2] != "4294967295"
}

// lacking names the capabilities that loading and attaching programs needs and this process has not.
func (k *Kernel) lacking(set Capabilities) []Capability {
	if set.Has(CapSysAdmin) {
		return nil
	}
	if !k.knows(CapBPF) {
		return []Capability{CapSysAdmin}
	}
	var lacks []Capability
	for _, c := range []Capability{CapBPF, CapPerfmon} {
		if !set.Has(c) {
			lacks = append(lacks, c)
		}
	}
	return lacks
}

// Grant says how to give capabilities, such as CAP_BPF, to a Collector. Kubernetes knows no ambient capabilities: what it adds is in
// effect for root only, and lost when another user's program begins; see capabilities(7) on execve.
func Grant(names ...string) string {
	short := make([]string, len(names))
	for i, name := range names {
		short[i] = strings.TrimPrefix(name, "CAP_")
	}
	return fmt.Sprintf("grant with systemd's AmbientCapabilities=%s, `setcap %s+ep` on the binary, "+
		"or Kubernetes' securityContext with runAsUser: 0 and capabilities.add: [%s]",
		strings.Join(names, " "), strings.ToLower(strings.Join(names, ",")), strings.Join(short, ", "))
}

func grant(lacks ...Capability) string { return Grant(names(lacks)...) }

func list(lacks []Capability) string { return strings.Join(names(lacks), " and ") }

func names(capabilities []Capability) []string {
	names := make([]string, len(capabilities))
	for i, c := range capabilities {
		names[i] = c.String()
	}
	return names
}
