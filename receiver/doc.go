// SPDX-License-Identifier: Apache-2.0

// Package ebpfreceiver is the OpenTelemetry half of the receiver: what the Collector calls. It
// turns what package internal/probe and its companions read from the kernel into pdata.
package ebpfreceiver
