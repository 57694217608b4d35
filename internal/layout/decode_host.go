// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

var errNoNames = errors.New("needs the host's names")

// named builds a decoder of a number that the host has a name for; without a name, the number stands for itself. A name
// outlives its number: a cgroup that was made again has another id, and the same path.
func named[N int64 | uint64 | uint32](name func(Names, N) string) builder {
	return func(c *Column, f Field, o Options) error {
		read, signed, err := number(f)
		if err != nil {
			return err
		}
		if o.Names == nil {
			return errNoNames
		}
		c.setText(func(raw []byte) string {
			v := read(raw)
			if s := name(o.Names, N(v)); s != "" {
				return s
			}
			return numeral(v, signed)
		})
		return nil
	}
}

// symbol decodes an address in the kernel as the function that it lies in. Without a name there is no attribute: the address tells where the kernel
// lies in memory, and is another one after each boot.
func symbol(c *Column, f Field, o Options) error {
	read, _, err := number(f)
	if err != nil {
		return err
	}
	if o.Names == nil {
		return errNoNames
	}
	name := func(raw []byte) string { return o.Names.Symbol(uint64(read(raw))) }
	c.setText(name)
	c.decode = func(dst Sink, attribute string, raw []byte) {
		if s := name(raw); s != "" {
			dst.PutStr(attribute, s)
		}
	}
	return nil
}

// The layout of struct process_key in bpf/include/task.h.
const (
	processKeySize = 32
	processKeyPID  = 8
	processKeyComm = 16
)

// buildProcess gives process.pid of a pid and, of a process_key, process.executable.name too. Two processes of one name that
// had the same pid one after the other are told apart by their start in the key, and are one series to whoever reads the
// attributes.
func buildProcess(c *Column, f Field, _ Options) error {
	putPID := func(dst Sink, raw []byte) { dst.PutInt("process.pid", int64(binary.NativeEndian.Uint32(raw))) }
	switch f.Size {
	case 4:
		c.decode = func(dst Sink, _ string, raw []byte) { putPID(dst, raw) }
		return nil
	case processKeySize:
		c.identity = func(dst, raw []byte) []byte {
			return appendText(append(dst, raw[processKeyPID:processKeyPID+4]...), raw[processKeyComm:])
		}
		c.decode = func(dst Sink, _ string, raw []byte) {
			putPID(dst, raw[processKeyPID:])
			dst.PutStr("process.executable.name", text(cut(raw[processKeyComm:])))
		}
		return nil
	}
	return fmt.Errorf("the field has %d bytes, a struct process_key has %d and a pid 4", f.Size, processKeySize)
}

func buildContainer(c *Column, f Field, _ Options) error {
	if f.Size != 8 {
		return errors.New("the field is not a cgroup id of 8 bytes")
	}
	c.Entity = Container
	c.cgroup = readUint
	return nil
}

// buildContainerAddress is for an address of the container's own network namespace.
func buildContainerAddress(c *Column, f Field, o Options) error {
	address, err := addressOf(f)
	if err != nil {
		return err
	}
	if o.Names == nil {
		return errNoNames
	}
	c.Entity = Container
	c.cgroup = func(raw []byte) uint64 { return o.Names.Owner(address(raw)) }
	return nil
}

// buildInterface is for an index in the host's network namespace, or a struct interface of bpf/include/packet.h.
func buildInterface(c *Column, f Field, o Options) error {
	if o.Names == nil {
		return errNoNames
	}
	if s, ok := btf.UnderlyingType(f.Type).(*btf.Struct); !ok || s.Size != 8 {
		return named(func(names Names, index uint32) string { return names.Interface(0, index) })(c, f, o)
	}
	c.setText(func(raw []byte) string {
		namespace, index := binary.NativeEndian.Uint32(raw), binary.NativeEndian.Uint32(raw[4:])
		if name := o.Names.Interface(namespace, index); name != "" {
			return name
		}
		return numeral(int64(index), false)
	})
	return nil
}

// buildTime gives the date of a CLOCK_BOOTTIME time in ns.
func buildTime(c *Column, f Field, o Options) error {
	if f.Size != 8 {
		return errors.New("the field is not a time of 8 bytes")
	}
	if o.Names == nil {
		return errNoNames
	}
	var formatter rfc3339
	c.decode = func(dst Sink, name string, raw []byte) {
		dst.PutStr(name, formatter.format(o.Names.Wall(binary.NativeEndian.Uint64(raw))))
	}
	return nil
}
