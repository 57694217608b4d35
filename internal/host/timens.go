// SPDX-License-Identifier: Apache-2.0

//go:build linux

package host

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// namespaceShift is by how much this process's boot clock is ahead of the kernel's, in ns: that of its time namespace, which can not change
// while a process is in it. Kernels without such namespaces have none.
func namespaceShift() (int64, error) {
	f, err := os.Open("/proc/self/timens_offsets")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the time namespace: %w", err)
	}
	defer f.Close()
	shift, err := parseTimeOffsets(f)
	if err != nil {
		return 0, fmt.Errorf("reading the time namespace: %w", err)
	}
	return shift, nil
}

// parseTimeOffsets returns the boot clock's offset in ns. A line has the clock's name or number, seconds, and nanoseconds; see
// time_namespaces(7).
func parseTimeOffsets(r io.Reader) (int64, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 || fields[0] != "boottime" && fields[0] != "7" {
			continue
		}
		seconds, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return 0, err
		}
		if limit := int64(1<<63-1) / int64(time.Second); seconds >= limit || seconds <= -limit {
			return 0, fmt.Errorf("an offset of %d s is out of range", seconds)
		}
		// From 0 to 999,999,999, also with negative seconds.
		ns, err := strconv.ParseUint(fields[2], 10, 30)
		if err != nil {
			return 0, err
		}
		return seconds*int64(time.Second) + int64(ns), nil
	}
	return 0, lines.Err()
}
