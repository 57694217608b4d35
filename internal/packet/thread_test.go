// SPDX-License-Identifier: Apache-2.0

package packet

import "runtime"

func lockThread()   { runtime.LockOSThread() }
func unlockThread() { runtime.UnlockOSThread() }
