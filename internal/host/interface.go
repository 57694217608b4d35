// SPDX-License-Identifier: Apache-2.0

package host

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultMaxInterfaces bounds how many interfaces' names are remembered.
const DefaultMaxInterfaces = 16_384

const (
	interfacesTTL  = time.Minute // an interface may be renamed
	interfaceRetry = time.Second // how often unknown indices make the interfaces be listed again
)

// Interfaces names the network interfaces of one network namespace: with a root path, of the one that the sysfs
// there was mounted in, which is the host's; else this process's own. Indices of other namespaces mean other
// interfaces: the caller must not ask for them. It is safe for concurrent use.
type Interfaces struct {
	list func() (map[uint32]string, error)
	now  func() time.Time

	table atomic.Pointer[interfaceTable]
	mu    sync.Mutex // held while listing
}

type interfaceTable struct {
	names map[uint32]string
	at    int64 // when it was listed, ns
}

// NewInterfaces lists the interfaces when it is first asked. A nil clock takes time.Now.
func NewInterfaces(root string, now func() time.Time) *Interfaces {
	if now == nil {
		now = time.Now
	}
	i := &Interfaces{list: netlinkInterfaces, now: now}
	if root != "" {
		i.list = func() (map[uint32]string, error) { return sysfsInterfaces(under(root, "/sys/class/net")) }
	}
	return i
}

// Resolve returns the name of the interface with an index, and whether there is one.
func (i *Interfaces) Resolve(index uint32) (string, bool) {
	if index == 0 {
		return "", false
	}
	now := i.now().UnixNano()
	table := i.table.Load()
	if table != nil {
		name, ok := table.names[index]
		age := now - table.at
		if ok && age < int64(interfacesTTL) || !ok && age < int64(interfaceRetry) {
			return name, ok
		}
	}
	name, ok := i.refresh(table, now).names[index]
	return name, ok
}

// refresh lists the interfaces again, unless somebody else did since old. What was known serves on when that fails.
func (i *Interfaces) refresh(old *interfaceTable, now int64) *interfaceTable {
	i.mu.Lock()
	defer i.mu.Unlock()
	if current := i.table.Load(); current != old {
		return current
	}
	table := &interfaceTable{at: now}
	names, err := i.list()
	switch {
	case err == nil:
		table.names = names
	case old != nil:
		table.names = old.names
	}
	i.table.Store(table)
	return table
}

func netlinkInterfaces() (map[uint32]string, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	names := make(map[uint32]string, len(list))
	for _, entry := range list[:min(len(list), DefaultMaxInterfaces)] {
		names[uint32(entry.Index)] = entry.Name
	}
	return names, nil
}

func sysfsInterfaces(dir string) (map[uint32]string, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make(map[uint32]string, len(list))
	for _, entry := range list[:min(len(list), DefaultMaxInterfaces)] {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name(), "ifindex"))
		if err != nil {
			continue // removed since, or bonding_masters, which is a file
		}
		index, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 32)
		if err != nil {
			continue
		}
		names[uint32(index)] = entry.Name()
	}
	return names, nil
}
