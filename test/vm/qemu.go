// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebpfreceiver/ebpfreceiver/test/vm/outcome"
)

// machines are how each architecture is emulated. Emulation needs no rights, and gives the same everywhere. All of a machine's processors
// are one thread: with a thread each, qemu 7.2 has executed instructions that the other processor had replaced before, which ended kernels
// when tracing of system calls was switched on (7.2: "Oops: int3" in trace_syscall_exit; 5.10: a soft lockup). A kernel that counts the timer's
// interrupts in its first moments ends where the host gives qemu no time just then ("IO-APIC + timer doesn't work!"): it is not to.
var machines = map[string]struct {
	program    string
	args       []string
	parameters string
}{
	"amd64": {"qemu-system-x86_64", []string{"-machine", "q35", "-cpu", "max,la57=off"}, "console=ttyS0 no_timer_check"},
	"arm64": {"qemu-system-aarch64", []string{"-machine", "virt", "-cpu", "max,pauth-impdef=on"}, "console=ttyAMA0"},
}

// withoutCX16 are the kernels that have crashed in their allocator at a cmpxchg16b of qemu 7.2, and which do without it. 7.2 does not: its
// task storage then stays empty, and the cpu probe counts next to nothing.
const withoutCX16 = "^6.12 amd64$"

// bootTimeout is for all that one boot does.
const bootTimeout = 2 * time.Hour

// shown is the level of the console: messages more urgent than it, so warnings and what is worse, are on it.
const shown = 5

// boot runs one kernel with one initramfs to its end, and gives its lines to tell. What else is on the console goes to log.
func boot(ctx context.Context, p pin, vmlinuz, initrd, parameters string, processors int, log io.Writer, tell func(outcome.Line)) error {
	machine, ok := machines[p.Arch]
	if !ok {
		return fmt.Errorf("no machine for %s", p.Arch)
	}
	if matches(withoutCX16, p.String()) {
		machine.args = append(slices.Clone(machine.args), "-cpu", "max,la57=off,cx16=off")
	}
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	args := append([]string{"-n", "10", machine.program}, machine.args...)
	args = append(
		args, "-accel", "tcg,thread=single", "-smp", strconv.Itoa(processors), "-m", "3G", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-serial", "stdio", "-kernel", vmlinuz, "-initrd", initrd,
		"-append", strings.TrimSpace(machine.parameters+" panic=-1 mitigations=off loglevel="+strconv.Itoa(shown)+" random.trust_cpu=on "+parameters),
	)
	cmd := exec.CommandContext(ctx, "nice", args...)
	cmd.WaitDelay = 10 * time.Second
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", machine.program, err)
	}
	done, readErr := readConsole(stdout, log, tell)
	err = cmd.Wait()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("the virtual machine did not end in %s", bootTimeout)
	case err != nil:
		return fmt.Errorf("%s: %w: %s", machine.program, err, bytes.TrimSpace(complaint.Bytes()))
	case readErr != nil:
		return readErr
	case !done:
		return errors.New("the virtual machine ended before its work was done")
	}
	return nil
}

// readConsole takes the guest's lines out of the console's; done tells whether its last was there.
func readConsole(r io.Reader, log io.Writer, tell func(outcome.Line)) (done bool, err error) {
	lines := bufio.NewReader(r)
	for {
		text, err := lines.ReadString('\n')
		if text != "" {
			var line outcome.Line
			if strings.HasPrefix(text, "{") && json.Unmarshal([]byte(text), &line) == nil {
				done = done || line.Done != nil
				tell(line)
			} else if _, err := io.WriteString(log, text); err != nil {
				return done, err
			}
		}
		if errors.Is(err, io.EOF) {
			return done, nil
		}
		if err != nil {
			return done, err
		}
	}
}
