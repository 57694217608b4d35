// SPDX-License-Identifier: Apache-2.0

// Package outcome is what the kernel matrix's guest and its driver tell each other, as JSON.
package outcome

import "github.com/ebpfreceiver/ebpfreceiver/test/capability"

// Modules is the guest's folder of kernel modules, which are loaded in the order of their names.
const Modules = "/modules"

// EnvironmentVariable has the name of the environment that the guest has made, for its tests.
const EnvironmentVariable = "EBPFRECEIVER_ENVIRONMENT"

// Plan is what one run does. The driver puts it into the guest's initramfs.
type Plan struct {
	// Environment the guest makes before it runs anything; see the guest's environments. "" is the whole one.
	Environment string
	// Report tells whether all probes are loaded and reported on.
	Report bool
	// Privileges tells whether the smallest sets of capabilities are searched, and the suites, which are the probes' own, run with those only.
	Privileges bool `json:",omitempty"`
	// Suites are the test binaries to run, in order.
	Suites []Suite
}

// Suite is a test binary.
type Suite struct {
	// Package is its path below the module, such as "bpf/cpu".
	Package string
	// Binary and Dir, where it runs, are paths in the guest.
	Binary, Dir string
	// Run and Skip select tests, as -test.run and -test.skip do; empty is no selection.
	Run, Skip string
	// Short makes the tests' loads smaller, as -test.short does.
	Short bool `json:",omitempty"`
}

// Line is one line from the guest. Exactly one of the pointers is set.
type Line struct {
	Kernel  *Kernel  `json:",omitempty"`
	Program *Program `json:",omitempty"`
	Missing *Missing `json:",omitempty"`
	// Privileges of one probe.
	Privileges *Privileges `json:",omitempty"`
	OnTop      *OnTop      `json:",omitempty"`
	Test       *Test       `json:",omitempty"`
	Done       *Done       `json:",omitempty"`
}

// Kernel is what runs.
type Kernel struct {
	// Release and Machine as uname has them.
	Release, Machine string
}

// Program is what became of one of a probe's programs.
type Program struct {
	Probe, Name, Hook string
	// Candidate is its place in its role, Role that of the candidate in the spec.
	Role      string
	Candidate int
	// Taken programs were loaded and attached.
	Taken bool
	// Instructions that the verifier processed; 0 where it is not taken.
	Instructions uint32 `json:",omitempty"`
	// Why it was not taken; empty where it was not needed.
	Why string `json:",omitempty"`
	// Unsupported tells that Why is something that the kernel lacks, and no failure.
	Unsupported bool `json:",omitempty"`
}

// Missing is a metric or event that the kernel can not give, or a probe (Name is empty).
type Missing struct {
	Probe, Name, Why string
	// Unsupported tells that Why is something that the kernel lacks, and no failure.
	Unsupported bool `json:",omitempty"`
}

// What of a probe runs.
const (
	Defaults   = "by default"
	Everything = "with everything"
)

// Privileges are what an unprivileged user needs for a probe.
type Privileges struct {
	// Probe and What of it: Defaults or Everything.
	Probe, What string
	// Capabilities are enough, and none of them can be left out.
	Capabilities []string
	// Without is what the receiver says when one of them is missing.
	Without map[string]string `json:",omitempty"`
	// Never is what the receiver says is missing with all capabilities, because the kernel lacks something.
	Never []string `json:",omitempty"`
	// Warned is what its log warns of with Capabilities, and does not with all.
	Warned []string `json:",omitempty"`
}

// OnTop is what a test needs besides what its probe does.
type OnTop struct {
	// What it is for, as the test says.
	What string
	// Package and Test that say so.
	Package, Test string
	// Capabilities without one of which the test fails.
	Capabilities []string
}

// What becomes of a test.
const (
	Passed  = "pass"
	Failed  = "fail"
	Skipped = "skip"
)

// Test is what became of a top-level test, or of a whole suite that broke off (Name is empty).
type Test struct {
	Package, Name, Result string
	// Seconds that it took.
	Seconds float64
	// Output of a test that did not pass.
	Output string `json:",omitempty"`
	// OnTop is what it said that it needs besides what its probe does.
	OnTop []capability.Needs `json:",omitempty"`
	// Again tells that it failed, with that output, and passed when it was run again.
	Again bool `json:",omitempty"`
	// Holds is what a test of a reduced environment found to hold there: the value of the attribute of that name.
	Holds string `json:",omitempty"`
}

// Holds is the attribute, as of testing.T.Attr, by which a test of a reduced environment tells what holds there.
const Holds = "holds"

// What holds in a reduced environment. Where some of it works, WorksBut is followed by the names of what does not.
const (
	Works    = "works"
	WorksBut = Works + " but for "
	Refuses  = "refuses"
)

// Done is the last line.
type Done struct {
	// Errors that kept the guest from its work.
	Errors []string `json:",omitempty"`
}
