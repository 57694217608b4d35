// SPDX-License-Identifier: Apache-2.0

// Package environment has tests of what the receiver does where something is missing. Each is run by `make test-kernels` in a virtual
// machine that lacks it, and skipped elsewhere.
package environment
