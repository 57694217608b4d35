// SPDX-License-Identifier: Apache-2.0

package host

//go:generate go run ./gensyscall

// SyscallName returns the name of a system call by its number on the running architecture, such as "openat". It reports
// false for numbers that have none, among them those of other ABIs: the x32 bit of amd64, 32-bit processes.
func SyscallName(nr int64) (string, bool) {
	if nr < 0 || nr >= int64(len(syscallNames)) {
		return "", false
	}
	name := syscallNames[nr]
	return name, name != ""
}
