// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
)

// Symbols names the functions of the kernel and its modules. The zero value reads /proc/kallsyms when it is first
// asked, and never again: some megabytes that only those pay who ask for symbols.
type Symbols struct {
	once  sync.Once
	table []symbol
	names []byte
}

type symbol struct {
	address     uint64
	offset, end uint32 // of the name
}

// Resolve is the function that an address lies in, or "" when that is not known: without CAP_SYSLOG, or with
// kernel.kptr_restrict=2, the kernel shows no addresses.
func (s *Symbols) Resolve(address uint64) string {
	s.once.Do(func() {
		f, err := os.Open("/proc/kallsyms")
		if err != nil {
			return
		}
		defer f.Close()
		_ = s.read(f)
	})
	i, found := slices.BinarySearchFunc(s.table, address, func(e symbol, a uint64) int {
		switch {
		case e.address < a:
			return -1
		case e.address > a:
			return 1
		}
		return 0
	})
	if !found {
		i--
	}
	if i < 0 {
		return ""
	}
	return string(s.names[s.table[i].offset:s.table[i].end])
}

// read takes the text symbols of lines such as "ffffffff81000000 T _stext [module]".
func (s *Symbols) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := bytes.Fields(lines.Bytes())
		if len(fields) < 3 || len(fields[1]) != 1 || !bytes.ContainsAny(fields[1], "tTwW") {
			continue
		}
		address, err := strconv.ParseUint(string(fields[0]), 16, 64)
		if err != nil || address == 0 {
			continue // no address, or hidden from us
		}
		offset := len(s.names)
		s.names = append(s.names, fields[2]...)
		s.table = append(s.table, symbol{address: address, offset: uint32(offset), end: uint32(len(s.names))})
	}
	slices.SortStableFunc(s.table, func(a, b symbol) int {
		if a.address < b.address {
			return -1
		}
		if a.address > b.address {
			return 1
		}
		return 0
	})
	// Of several names of one address the first is taken, as the kernel itself does: get_symbol_pos in kernel/kallsyms.c.
	s.table = slices.CompactFunc(s.table, func(a, b symbol) bool { return a.address == b.address })
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading symbols: %w", err)
	}
	return nil
}
