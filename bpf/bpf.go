// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the kernel half: one folder per probe, with its C source, its compiled
// object and the probe.yaml that says what the object's maps and records mean.
package bpf

import "embed"

// Probes is the folder of every built-in probe. Each first-level folder is one probe and
// holds a probe.yaml beside the object that it names.
//
//go:embed */probe.yaml */*.bpf.o
var Probes embed.FS

// Identity is what the receiver itself needs from the kernel to know whose an event is: folders like those of Probes,
// below "identity".
//
//go:embed identity/*/probe.yaml identity/*/*.bpf.o
var Identity embed.FS
