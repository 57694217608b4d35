// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"strings"
)

// printed is what the kernel begins each of its lines with: the time, and with CONFIG_PRINTK_CALLER the task or processor. Nothing that a program writes is taken
// for the kernel's, and what the kernel writes in the middle of a program's line is found.
const printed = `\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? `

// faults are the beginnings of what the kernel prints when it finds itself broken: of WARN and BUG (kernel/panic.c, lib/bug.c), of exceptions
// (arch/*/mm/fault.c, traps.c), of SLUB, UBSAN, KASAN, and of lockdep, whose reports begin with "WARNING: " or "[ BUG: ".
var faults = regexp.MustCompile(printed + `(?:WARNING: |(?:\[ )?BUG[ :]|kernel BUG at |Oops: |Internal error: |general protection fault|invalid opcode: |` +
	`(?:double|int3|divide|stack) ?\w*: 0000|Unable to handle kernel |UBSAN: |KASAN: |KFENCE: |refcount_t: |list_(?:add|del) corruption|INFO: trying to register |Kernel panic)`)

// stalls are of processors that stood still, which emulated ones do.
var stalls = regexp.MustCompile(printed + `(?:rcu: .*(?:stall|starved)|watchdog: .*(?:soft lockup|hard LOCKUP)|BUG: workqueue lockup|INFO: task .* blocked for more than|` +
	`clocksource: .*(?:watchdog|unstable|skew)|sched: RT throttling|hrtimer: interrupt took)`)

// linesOfFault is how many lines are shown of each.
const linesOfFault = 40

// endOfFault ends many.
const endOfFault = "---[ end trace"

// complaints searches a guest's console. Broken is what its kernel says of itself that it must not, each with the lines that follow; stood is what it says
// because the machine is slow.
func complaints(console string) (broken, stood []string) {
	lines := strings.Split(strings.TrimRight(console, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		switch {
		case stalls.MatchString(lines[i]):
			stood = append(stood, strings.TrimSpace(lines[i]))
		case faults.MatchString(lines[i]):
			n := 1
			for n < linesOfFault && i+n < len(lines) && !strings.Contains(lines[i+n-1], endOfFault) {
				n++
			}
			broken = append(broken, strings.Join(lines[i:i+n], "\n"))
			i += n - 1
		}
	}
	return broken, stood
}
