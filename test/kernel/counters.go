// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// ProcNet is a file of a host's, below /proc/net; empty where the kernel has none of that name.
func (n *Network) ProcNet(file string) (text string) {
	n.Do(func() {
		b, err := os.ReadFile("/proc/thread-self/net/" + file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			panic(err)
		}
		text = string(b)
	})
	return text
}

// Counters are the kernel's own of a host's protocols, by the names that `nstat -a` gives them.
func (n *Network) Counters() map[string]int {
	m := map[string]int{}
	for _, file := range []string{"snmp", "netstat"} {
		// A line of names, and one of numbers.
		lines := strings.Split(n.ProcNet(file), "\n")
		for i := 0; i+1 < len(lines); i += 2 {
			names, numbers := strings.Fields(lines[i]), strings.Fields(lines[i+1])
			for j := 1; j < len(names); j++ {
				m[strings.TrimSuffix(names[0], ":")+names[j]], _ = strconv.Atoi(numbers[j])
			}
		}
	}
	for line := range strings.Lines(n.ProcNet("snmp6")) {
		if f := strings.Fields(line); len(f) == 2 {
			m[f[0]], _ = strconv.Atoi(f[1])
		}
	}
	return m
}
