// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

import (
	"math"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestErrnoName(t *testing.T) {
	for errno, want := range map[int64]string{
		int64(syscall.ENOENT): "ENOENT", -int64(syscall.EACCES): "EACCES", int64(syscall.ECONNREFUSED): "ECONNREFUSED",
		int64(syscall.EAGAIN): "EAGAIN", -int64(syscall.ETIMEDOUT): "ETIMEDOUT", 1: "EPERM", -512: "ERESTARTSYS",
		-516: "ERESTART_RESTARTBLOCK", 524: "ENOTSUPP",
		0: "", 520: "", 4000: "", 1 << 32: "", -4096: "", math.MinInt64: "", math.MaxInt64: "",
	} {
		got, ok := ErrnoName(errno)
		assert.Equal(t, want, got)
		assert.Equal(t, want != "", ok)
	}
}

func BenchmarkErrnoName(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		ErrnoName(-2)
	}
}
