// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// DefaultMaxDevices bounds how many block devices' names are remembered.
const DefaultMaxDevices = 4096

const (
	devicesTTL  = time.Minute // a number may be given to another device
	deviceRetry = 5 * time.Second
)

// Devices names block devices. It is safe for concurrent use.
type Devices struct {
	dir   string
	now   func() time.Time
	cache *cache[uint32, string]
}

// noDevice stands for all numbers that are no block device's.
var noDevice = new(string)

// NewDevices reads <root>/sys/dev/block. A nil clock takes time.Now.
func NewDevices(root string, now func() time.Time) *Devices {
	if now == nil {
		now = time.Now
	}
	return &Devices{
		dir:   under(root, "/sys/dev/block"),
		now:   now,
		cache: newCache[uint32, string](DefaultMaxDevices),
	}
}

// DeviceNumbers splits the kernel's own dev_t, as in super_block.s_dev and gendisk: 12 bits of major, 20 of minor
// number (MKDEV in include/linux/kdev_t.h). It is not the encoding that stat(2) uses.
func DeviceNumbers(dev uint32) (major, minor uint32) {
	return dev >> 20, dev & (1<<20 - 1)
}

// Resolve returns the kernel's name of the block device with a kernel dev_t ("sda1", "dm-0"), and whether there is
// one. File systems without a device (tmpfs, overlay) have numbers too, of major 0.
func (d *Devices) Resolve(dev uint32) (string, bool) {
	name, expires := d.cache.get(dev)
	if name == nil || d.now().UnixNano() >= expires {
		name = d.find(dev)
	}
	return *name, name != noDevice
}

func (d *Devices) find(dev uint32) *string {
	major, minor := DeviceNumbers(dev)
	name, r, ttl := noDevice, rankUnknown, deviceRetry
	if major != 0 {
		number := strconv.FormatUint(uint64(major), 10) + ":" + strconv.FormatUint(uint64(minor), 10)
		if found, err := readDevname(filepath.Join(d.dir, number, "uevent")); err == nil && found != "" {
			name, r, ttl = &found, rankLive, devicesTTL
		}
	}
	now := d.now()
	d.cache.put(dev, name, r, now.Add(ttl).UnixNano(), now.UnixNano())
	return name
}

func readDevname(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return parseUevent(io.LimitReader(f, 64<<10))
}

// parseUevent returns the DEVNAME of a uevent file, lines of KEY=VALUE; empty when it has none.
func parseUevent(r io.Reader) (string, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if name, ok := bytes.CutPrefix(lines.Bytes(), []byte("DEVNAME=")); ok {
			return string(name), nil
		}
	}
	return "", lines.Err()
}
