// SPDX-License-Identifier: Apache-2.0

// Package environment has tests of what the receiver does where something is missing, or the machine sleeps. Each is run by `make test-kernels` in a virtual
// machine of its own, and skipped elsewhere.
package environment
