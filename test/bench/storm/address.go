// SPDX-License-Identifier: Apache-2.0

//go:build linux

package storm

import "unsafe"

func address(b *[16]byte) uintptr { return uintptr(unsafe.Pointer(b)) }
