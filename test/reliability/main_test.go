// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package reliability_test holds the receiver to what docs/reliability.md promises, under more than it can take: storms, millions of
// keys, consumers that refuse, ends without a goodbye.
//
// The tests have three sizes: that of `go test -short`, for emulated processors; the usual one; and RELIABILITY=full, which is that of
// the figures in the document.
package reliability_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// childVariable makes this program something else than the tests: what is to run in a process of its own.
const childVariable = "RELIABILITY_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "":
		flag.Parse()
		burst = int64(size(8, 200, 200))
		os.Exit(m.Run())
	case "generate":
		end(generate(os.Args[1:]))
	case "receive":
		end(receive())
	}
	end(fmt.Errorf("no such child"))
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// size chooses how much a test does.
func size(short, usual, full int) int {
	switch {
	case os.Getenv("RELIABILITY") == "full":
		return full
	case testing.Short():
		return short
	}
	return usual
}
