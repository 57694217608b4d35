// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf/btf"
)

// Sink takes the attributes that a column makes.
type Sink interface {
	PutStr(key, value string)
	PutInt(key string, value int64)
	PutDouble(key string, value float64)
	PutBool(key string, value bool)
	PutBytes(key string, value []byte)
	// PutStrs may keep the strings, and not the slice.
	PutStrs(key string, values []string)
}

// Names turns the kernel's numbers into names. An empty string means that the name is not known.
type Names interface {
	// CgroupPath is the path of a cgroup in its hierarchy.
	CgroupPath(id uint64) string
	// Device is the name of a block device, from the kernel's dev_t.
	Device(dev uint32) string
	// Interface is the name of a network interface in the host's network namespace.
	Interface(index uint32) string
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

// Column is a field of a key or a record, with the way to decode it. It serves one goroutine at a time.
type Column struct {
	// Name is the attribute's.
	Name string
	// Offset and Size are where the field lies, in bytes.
	Offset, Size int
	Entity       Entity

	decode func(dst Sink, name string, raw, record []byte)
	// identity appends bytes that are the same for two fields just when their attributes are; nil: the field's own.
	identity func(dst, raw []byte) []byte
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
	Names  Names
}

// NewColumn makes the column of a field. The error names the decoders that exist, or why this one does not fit the
// field's type.
func NewColumn(name string, f Field, o Options) (Column, error) {
	c := Column{Name: name, Offset: f.Offset, Size: f.Size, omitZero: o.OmitZero}
	as := o.As
	if as == "" {
		as = defaultDecoder(f.Type)
	}
	build, ok := decoders[as]
	if !ok {
		return Column{}, fmt.Errorf("%s: unknown decoder %q; there are %s", name, as, strings.Join(Decoders(), ", "))
	}
	if err := build(&c, f, o); err != nil {
		return Column{}, fmt.Errorf("%s: decoder %q: %w", name, as, err)
	}
	if c.Entity == Attribute && c.decode == nil {
		return Column{}, fmt.Errorf("%s: decoder %q can not be used here", name, as)
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
	end := c.Offset + c.Size
	if end > len(record) {
		return fmt.Errorf("%s: field ends at byte %d, the record at %d", c.Name, end, len(record))
	}
	raw := record[c.Offset:end]
	if c.omitZero && isZero(raw) {
		return nil
	}
	c.decode(dst, c.Name, raw, record)
	return nil
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

// Uint reads the column as an unsigned number; shorter records give 0.
func (c *Column) Uint(record []byte) uint64 {
	if c.Offset+c.Size > len(record) {
		return 0
	}
	return readUint(record[c.Offset : c.Offset+c.Size])
}

func isZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// defaultDecoder is what a field becomes when the spec does not say.
func defaultDecoder(t btf.Type) string {
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Int:
		switch {
		case t.Encoding == btf.Bool:
			return "bool"
		case t.Encoding == btf.Signed:
			return "int"
		}
		return "uint"
	case *btf.Enum:
		return "enum"
	case *btf.Array:
		if i, ok := btf.UnderlyingType(t.Type).(*btf.Int); ok && i.Size == 1 && (i.Encoding == btf.Char || i.Encoding == btf.Signed) {
			return "string"
		}
		return "hex"
	case *btf.Struct:
		switch t.Name {
		case "process_key":
			return "process"
		case "blob":
			return "string"
		}
	}
	return "hex"
}
