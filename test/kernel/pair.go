// SPDX-License-Identifier: Apache-2.0

package kernel

import "testing"

// Pair is two hosts with a cable between them, whose ends have these names: 10.1.0.1 and fd00::1 is here, 10.1.0.2 and fd00::2 there. Nothing
// is on the cable any more that they say of their own.
func Pair(t testing.TB, end, otherEnd string) (here, there *Network) {
	t.Helper()
	here, there = NewNetwork(t), NewNetwork(t)
	here.Connect(end, there, otherEnd)
	here.Up(end, "10.1.0.1/24", "fd00::1/64")
	there.Up(otherEnd, "10.1.0.2/24", "fd00::2/64")
	here.Settle(end)
	return here, there
}
