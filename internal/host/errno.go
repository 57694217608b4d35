// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrnoName returns the symbolic name of an error number, such as "ENOENT", positive or negative as the kernel returns
// it. Numbers that only the kernel uses (include/linux/errno.h) have names too: they are seen where a
// system call is going to be restarted. It reports false for 0 and for numbers that have no name.
func ErrnoName(errno int64) (string, bool) {
	if errno < 0 {
		errno = -errno
	}
	if errno <= 0 || errno > 4095 { // MAX_ERRNO
		return "", false
	}
	name := unix.ErrnoName(syscall.Errno(errno))
	if name == "" {
		name = kernelErrno(errno)
	}
	return name, name != ""
}

func kernelErrno(errno int64) string {
	switch errno {
	case 512:
		return "ERESTARTSYS"
	case 513:
		return "ERESTARTNOINTR"
	case 514:
		return "ERESTARTNOHAND"
	case 515:
		return "ENOIOCTLCMD"
	case 516:
		return "ERESTART_RESTARTBLOCK"
	case 517:
		return "EPROBE_DEFER"
	case 518:
		return "EOPENSTALE"
	case 519:
		return "ENOPARAM"
	case 521:
		return "EBADHANDLE"
	case 522:
		return "ENOTSYNC"
	case 523:
		return "EBADCOOKIE"
	case 524:
		return "ENOTSUPP"
	case 525:
		return "ETOOSMALL"
	case 526:
		return "ESERVERFAULT"
	case 527:
		return "EBADTYPE"
	case 528:
		return "EJUKEBOX"
	case 529:
		return "EIOCBQUEUED"
	case 530:
		return "ERECALLCONFLICT"
	}
	return ""
}
