// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf/btf"
)

// Sink takes the attributes that a column makes. What is in bytes and values is valid during the call only.
type Sink interface {
	PutStr(key, value string)
	PutInt(key string, value int64)
	PutDouble(key string, value float64)
	PutBool(key string, value bool)
	PutBytes(key string, value []byte)
	PutStrs(key string, values []string)
}

// Names turns the kernel's numbers into names. An empty string means that the name is not known.
type Names interface {
	// CgroupPath is the path of a cgroup in its hierarchy.
	CgroupPath(id uint64) string
	// Device is the name of a block device, from the kernel's dev_t.
	Device(dev uint32) string
	// Interface is the name of a network interface. The namespace is the inode number of its network namespace, 0 for the host's.
	Interface(namespace, index uint32) string
	// Owner is the cgroup of whom an address belongs to, by the network namespace that has it; 0 where that is not known, or
	// nobody's alone.
	Owner(address netip.Addr) uint64
	// Symbol is the kernel function that an address lies in.
	Symbol(address uint64) string
	// Syscall is the name of a system call of this architecture.
	Syscall(number int64) string
	// User is a user's name.
	User(uid uint32) string
	// Wall is the wall-clock time of a CLOCK_BOOTTIME time in ns.
	Wall(boot uint64) time.Time
}

// Entity says whose a column is: most are attributes, a container is a resource.
type Entity uint8

// The entities.
const (
	Attribute Entity = iota
	// Container columns hold a cgroup id, by which rows and records are grouped into resources.
	Container
)

// Column is a field of a key or a record, with the way to decode it. It is for one goroutine.
type Column struct {
	// Name is the attribute's.
	Name string
	// Offset and Size are where the field lies, in bytes.
	Offset, Size int
	Entity       Entity

	// decode puts the attributes of the field's bytes or, where the field is a blob, of those that it points at.
	decode func(dst Sink, name string, raw []byte)
	// cgroup finds the id of a container's cgroup in the field's bytes.
	cgroup func(raw []byte) uint64
	// identity appends bytes that are the same for two fields just when their attributes are; nil: the field's own.
	identity func(dst, raw []byte) []byte
	blob     bool
	omitZero bool
}

// Options refine a column.
type Options struct {
	// As is the decoder's name; empty takes the default of the field's type.
	As string
	// Values names numbers, for the enum decoder.
	Values map[int64]string
	// OmitZero leaves the attribute out when all bytes of the field are 0, or its blob is empty.
	OmitZero bool
	// Scale multiplies a number, which becomes a double. 0 means none.
	Scale float64
	// Redact replaces what matches in strings: the first group of an expression where it has one, else all of the match.
	Redact []*regexp.Regexp
	// Addresses are the names of ranges, by the address that stands for one.
	Addresses map[netip.Addr]string
	Names     Names
}

// NewColumn makes the column of a field. The error names the decoders that exist, or why this one does not fit the
// field's type.
func NewColumn(name string, f Field, o Options) (Column, error) {
	c := Column{Name: name, Offset: f.Offset, Size: f.Size, blob: isBlob(f.Type), omitZero: o.OmitZero}
	as := o.As
	if as == "" {
		as = defaultDecoder(f.Type)
	}
	build, ok := decoders[as]
	if !ok {
		return Column{}, fmt.Errorf("%s: unknown decoder %q; there are %s", name, as, strings.Join(Decoders(), ", "))
	}
	if c.blob && !blobDecoder(as) {
		return Column{}, fmt.Errorf("%s: decoder %q: %w", name, as, errBlob)
	}
	if err := build(&c, f, o); err != nil {
		return Column{}, fmt.Errorf("%s: decoder %q: %w", name, as, err)
	}
	return c, nil
}

// Decoders are the names that a spec's `as:` may have.
func Decoders() []string {
	return slices.Sorted(maps.Keys(decoders))
}

// Append decodes the column out of a key or record. A record that is too short for the column gives an
// error and no attribute.
func (c *Column) Append(dst Sink, record []byte) error {
	if end := c.Offset + c.Size; !c.blob && !c.omitZero && end <= len(record) {
		c.decode(dst, c.Name, record[c.Offset:end]) // nearly all
		return nil
	}
	raw, err := c.raw(record)
	if err != nil {
		return err
	}
	if c.omitZero && isZero(raw) && (!c.blob || len(raw) == 0) {
		return nil
	}
	c.decode(dst, c.Name, raw)
	return nil
}

// Check gives the error that Append would.
func (c *Column) Check(record []byte) error {
	_, err := c.raw(record)
	return err
}

// Blob tells whether the field only points at its bytes, which can lie beyond the end of a record that has room for the field.
func (c *Column) Blob() bool { return c.blob }

// raw are the bytes to decode.
func (c *Column) raw(record []byte) ([]byte, error) {
	end := c.Offset + c.Size
	if end > len(record) {
		return nil, fmt.Errorf("%s: field ends at byte %d, the record at %d", c.Name, end, len(record))
	}
	raw := record[c.Offset:end]
	if !c.blob {
		return raw, nil
	}
	// struct blob of bpf/include/event.h.
	offset := int(binary.NativeEndian.Uint16(raw))
	end = offset + int(binary.NativeEndian.Uint16(raw[2:]))
	if end > len(record) {
		return nil, fmt.Errorf("%s: blob ends at byte %d, the record at %d", c.Name, end, len(record))
	}
	return record[offset:end], nil
}

// Exact tells whether different bytes of the field always make different attributes, so that two rows with
// different keys can not turn out to be one series.
func (c *Column) Exact() bool {
	return c.Entity == Attribute && c.identity == nil
}

// AppendIdentity appends what distinguishes the column's attributes from those of other keys.
func (c *Column) AppendIdentity(dst, key []byte) []byte {
	raw := key[c.Offset : c.Offset+c.Size]
	if c.identity == nil {
		return append(dst, raw...)
	}
	return c.identity(dst, raw)
}

// Cgroup is the id of the cgroup that a container's column names; shorter records give 0.
func (c *Column) Cgroup(record []byte) uint64 {
	if c.Offset+c.Size > len(record) {
		return 0
	}
	return c.cgroup(record[c.Offset : c.Offset+c.Size])
}

func isZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

var errBlob = errors.New("does not decode a blob")

// isBlob tells whether the type is struct blob of bpf/include/event.h.
func isBlob(t btf.Type) bool {
	s, ok := btf.UnderlyingType(t).(*btf.Struct)
	return ok && s.Name == "blob" && s.Size == 4
}

// defaultDecoder is what a field becomes when the spec does not say.
func defaultDecoder(t btf.Type) string {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Int:
		switch t.Encoding {
		case btf.Bool:
			return "bool"
		case btf.Signed:
			return "int"
		}
		return "uint"
	case *btf.Enum:
		return "enum"
	case *btf.Array:
		if i, ok := btf.UnderlyingType(t.Type).(*btf.Int); ok && i.Size == 1 && (i.Encoding == btf.Char || i.Encoding == btf.Signed) {
			return "string"
		}
	case *btf.Struct:
		switch {
		case t.Name == "process_key":
			return "process"
		case t.Name == "interface":
			return "ifindex"
		case isBlob(t):
			return "string"
		}
	}
	return "hex"
}
