// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a kernel prints of itself ends a run, whatever it is. The lines are as kernels of 5.10 to 7.2 print them.
func TestComplaints(t *testing.T) {
	for _, line := range []string{
		`[   12.345678] WARNING: CPU: 1 PID: 1234 at kernel/bpf/verifier.c:4242 check_mem_access+0x1f/0x300`,
		`[   12.345678][ T1234] WARNING: CPU: 1 PID: 1234 at net/core/dev.c:5555 netif_napi_add+0x1f/0x300`,
		`[  112.345678] WARNING: kernel/trace/bpf_trace.c:42 at bpf_get_stack+0x12/0x40, CPU#0: bpf.test/812`,
		`[   12.345678] WARNING: possible circular locking dependency detected`,
		`[   12.345678] WARNING: inconsistent lock state`,
		`[   12.345678] WARNING: suspicious RCU usage`,
		`[   12.345678] [ BUG: Invalid wait context ]`,
		`[   12.345678] INFO: trying to register non-static key.`,
		`[   12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000008`,
		`[   12.345678] BUG: unable to handle page fault for address: ffffc90000a3f000`,
		`[   12.345678] BUG: sleeping function called from invalid context at kernel/locking/mutex.c:580`,
		`[   12.345678] BUG: scheduling while atomic: tcp.test/1234/0x00000002`,
		`[   12.345678] BUG: Bad page state in process bpf.test  pfn:12345`,
		`[   12.345678] BUG: KASAN: slab-use-after-free in bpf_prog_free_deferred+0x1c/0x60`,
		`[   12.345678] BUG kmalloc-64 (Not tainted): Redzone overwritten`,
		`[   12.345678] BUG: KFENCE: out-of-bounds read in test_out_of_bounds_read+0xa3/0x22b`,
		`[   12.345678] KASAN: null-ptr-deref in range [0x0000000000000008-0x000000000000000f]`,
		`[   12.345678] UBSAN: array-index-out-of-bounds in net/ipv4/tcp_input.c:123:12`,
		`[   12.345678] refcount_t: underflow; use-after-free.`,
		`[   12.345678] list_del corruption. prev->next should be ffff888100000000, but was ffff888100000010`,
		`[   12.345678] kernel BUG at mm/slub.c:4042!`,
		`[   12.345678] invalid opcode: 0000 [#1] PREEMPT SMP NOPTI`,
		`[   12.345678] int3: 0000 [#1] SMP NOPTI`,
		`[   12.345678] Oops: 0002 [#1] PREEMPT SMP NOPTI`,
		`[   12.345678] Oops: int3: 0000 [#1] SMP NOPTI`,
		`[   12.345678] general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#1] SMP`,
		`[   12.345678] Unable to handle kernel paging request at virtual address ffff800012345678`,
		`[   12.345678] Internal error: Oops: 0000000096000004 [#1] SMP`,
		`[   12.345678] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b`,
		`{"Test":{"Package":"bpf/cpu","Name":"TestKe[   12.345678] WARNING: CPU: 0 PID: 1 at kernel/cpu.c:1 f+0x1/0x2`,
	} {
		broken, stood := complaints("[    0.060000] tsc: Unable to calibrate against PIT\r\n" + line + "\r\n[   12.345680] Modules linked in: veth\r\n")
		require.Len(t, broken, 1, line)
		assert.Contains(t, broken[0], line)
		assert.Contains(t, broken[0], "Modules linked in")
		assert.NotContains(t, broken[0], "calibrate")
		assert.Empty(t, stood, line)
	}
}

// Processors that are emulated stand still, which is told and is no failure.
func TestComplaintsOfStalls(t *testing.T) {
	for _, line := range []string{
		`[   41.138774] hrtimer: interrupt took 12450215 ns`,
		`[   90.000001] rcu: INFO: rcu_sched self-detected stall on CPU`,
		`[   90.000001] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:`,
		`[   90.000001] rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-.... } 27 jiffies s: 145 root: 0x2/.`,
		`[   90.000001] rcu: rcu_sched kthread starved for 5250 jiffies! g2105 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x0 ->cpu=1`,
		`[   90.000001] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [tcp.test:1234]`,
		`[   90.000001] watchdog: Watchdog detected hard LOCKUP on cpu 1`,
		`[   90.000001] watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 1`,
		`[   90.000001] BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 33s!`,
		`[   90.000001] INFO: task kworker/0:1:12 blocked for more than 120 seconds.`,
		`[   90.000001] clocksource: timekeeping watchdog on CPU0: hpet wd-wd read-back delay of 125000ns`,
		`[   90.000001] clocksource: timekeeping watchdog on CPU1: Marking clocksource 'tsc' as unstable because the skew is too large:`,
		`[   90.000001] clocksource: Long readout interval, skipping watchdog check: cs_nsec: 1234567890 wd_nsec: 1234567800`,
		`[   90.000001] sched: RT throttling activated`,
	} {
		broken, stood := complaints(line + "\n[   90.000002] Call Trace:\n[   90.000003]  <TASK>\n")
		assert.Empty(t, broken, line)
		assert.Equal(t, []string{line}, stood)
	}
}

// harmless is of guests that passed all their tests, of which some make the kernel kill a process that uses too much memory.
const harmless = `[    0.000000] ..MP-BIOS bug: 8254 timer not connected to IO-APIC
[    0.060000] tsc: Unable to calibrate against PIT
[    1.480493] mtrr: your CPUs had inconsistent fixed MTRR settings
[    4.721209] amd_pstate: the _CPC object is not present in SBIOS or ACPI disabled
[   10.926610] Unstable clock detected, switching default tracing clock to "global"
[   11.000000] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible via Spectre v2 BHB attacks!
[   11.000000] clocksource: Switched to clocksource tsc-early
[  176.459270] process.test invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=123
[  176.459947] CPU: 1 UID: 0 PID: 1248 Comm: process.test Not tainted 6.12.107+deb13-cloud-amd64 #1  Debian 6.12.107-1
[  176.460158] Hardware name: QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1.16.2-debian-1.16.2-1 04/01/2014
[  176.460335] Call Trace:
[  176.460421]  <TASK>
[  176.460511]  dump_stack_lvl+0x5d/0x80
[  176.462769] RIP: 0033:0x966c8f
[  176.473631] Memory cgroup out of memory: Killed process 1248 (process.test) total-vm:1338272kB, anon-rss:69560kB
WARNING: this is what a program says
BUG: and this, too
[  176.547364] reboot: Power down
`

func TestComplaintsOfNothing(t *testing.T) {
	for _, console := range []string{"", harmless} {
		broken, stood := complaints(console)
		assert.Empty(t, broken)
		assert.Empty(t, stood)
	}
}

// A complaint is told once with what belongs to it, and what follows is looked at again.
func TestComplaintsOfMany(t *testing.T) {
	broken, stood := complaints(`[    1.000001] ------------[ cut here ]------------
[    1.000002] refcount_t: underflow; use-after-free.
[    1.000003] WARNING: CPU: 0 PID: 7 at lib/refcount.c:28 refcount_warn_saturate+0xba/0x110
[    1.000004] Call Trace:
[    1.000005] ---[ end trace 0000000000000000 ]---
[    1.000006] in between
[    1.000007] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [tcp.test:1234]
[    1.000008] BUG: scheduling while atomic: tcp.test/1234/0x00000002
`)
	require.Len(t, broken, 2)
	assert.Contains(t, broken[0], "refcount_t")
	assert.Contains(t, broken[0], "end trace")
	assert.NotContains(t, broken[0], "between")
	assert.Contains(t, broken[1], "scheduling")
	assert.Len(t, stood, 1)
}
