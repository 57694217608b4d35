// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// builder completes a column for a field, or says why it can not.
type builder func(c *Column, f Field, o Options) error

// decoders by the name that specs use.
var decoders = map[string]builder{
	"uint":         number(putUint),
	"int":          number(putInt),
	"bool":         number(func(dst Sink, name string, v uint64, _ int) { dst.PutBool(name, v != 0) }),
	"duration":     scaled(1e-9),
	"enum":         buildEnum,
	"errno":        exactNumber(putErrno),
	"signal":       exactNumber(putSignal),
	"port":         buildPort,
	"ip":           buildIP,
	"mac":          buildMAC,
	"hex":          buildHex,
	"bytes":        buildBytes,
	"string":       buildString,
	"string_array": buildStrings,
	"path":         buildPath,
	"process":      buildProcess,
	"container":    buildContainer,
	"cgroup":       named(func(n Names, v uint64) string { return n.CgroupPath(v) }),
	"device":       named(func(n Names, v uint64) string { return n.Device(uint32(v)) }),
	"ifindex":      named(func(n Names, v uint64) string { return n.Interface(uint32(v)) }),
	"ksym":         named(func(n Names, v uint64) string { return n.Symbol(v) }),
	"syscall":      named(func(n Names, v uint64) string { return n.Syscall(int64(v)) }),
	"user":         named(func(n Names, v uint64) string { return n.User(uint32(v)) }),
	"time":         buildTime,
}

var (
	errNotNumber = errors.New("the field is not a number of 1, 2, 4 or 8 bytes")
	errNoNames   = errors.New("needs the host's names")
)

func readUint(raw []byte) uint64 {
	switch len(raw) {
	case 1:
		return uint64(raw[0])
	case 2:
		return uint64(binary.NativeEndian.Uint16(raw))
	case 4:
		return uint64(binary.NativeEndian.Uint32(raw))
	case 8:
		return binary.NativeEndian.Uint64(raw)
	}
	return 0
}

// signed extends the sign of a number of size bytes.
func signed(v uint64, size int) int64 {
	shift := 64 - 8*uint(size)
	return int64(v<<shift) >> shift
}

func isNumber(f Field) error {
	switch f.Size {
	case 1, 2, 4, 8:
	default:
		return errNotNumber
	}
	switch btf.UnderlyingType(f.Type).(type) {
	case *btf.Int, *btf.Enum, *btf.Pointer:
		return nil
	}
	return errNotNumber
}

// number builds a decoder of a plain number, which Options.Scale may make a double.
func number(put func(dst Sink, name string, v uint64, size int)) builder {
	return func(c *Column, f Field, o Options) error {
		if o.Scale != 0 {
			return scaled(o.Scale)(c, f, o)
		}
		return exactNumber(put)(c, f, o)
	}
}

func exactNumber(put func(dst Sink, name string, v uint64, size int)) builder {
	return func(c *Column, f Field, _ Options) error {
		if err := isNumber(f); err != nil {
			return err
		}
		c.decode = func(dst Sink, name string, raw, _ []byte) { put(dst, name, readUint(raw), len(raw)) }
		return nil
	}
}

func scaled(scale float64) builder {
	return func(c *Column, f Field, _ Options) error {
		if err := isNumber(f); err != nil {
			return err
		}
		negative := false
		if i, ok := btf.UnderlyingType(f.Type).(*btf.Int); ok {
			negative = i.Encoding == btf.Signed
		}
		c.decode = func(dst Sink, name string, raw, _ []byte) {
			v := readUint(raw)
			if negative {
				dst.PutDouble(name, float64(signed(v, len(raw)))*scale)
				return
			}
			dst.PutDouble(name, float64(v)*scale)
		}
		return nil
	}
}

// named builds a decoder of a number that the host has a name for; without a name, the number stands for itself.
func named(name func(Names, uint64) string) builder {
	return func(c *Column, f Field, o Options) error {
		if err := isNumber(f); err != nil {
			return err
		}
		if o.Names == nil {
			return errNoNames
		}
		of := func(raw []byte) string {
			v := readUint(raw)
			if s := name(o.Names, v); s != "" {
				return s
			}
			return strconv.FormatUint(v, 10)
		}
		// A name outlives its number: a cgroup that was made again has another id, and the same path.
		c.identity = func(dst, raw []byte) []byte { return append(append(dst, of(raw)...), 0) }
		c.decode = func(dst Sink, key string, raw, _ []byte) { dst.PutStr(key, of(raw)) }
		return nil
	}
}

func putUint(dst Sink, name string, v uint64, _ int) {
	// An attribute's integer is signed. What does not fit is written out, rather than as a negative number.
	if v > math.MaxInt64 {
		dst.PutStr(name, strconv.FormatUint(v, 10))
		return
	}
	dst.PutInt(name, int64(v))
}

func putInt(dst Sink, name string, v uint64, size int) {
	dst.PutInt(name, signed(v, size))
}

// putErrno writes the symbol of an error number, given as the kernel returns it or negated.
func putErrno(dst Sink, name string, v uint64, size int) {
	n := signed(v, size)
	if n < 0 {
		n = -n
	}
	if s := unix.ErrnoName(unix.Errno(n)); s != "" {
		dst.PutStr(name, s)
		return
	}
	dst.PutStr(name, strconv.FormatInt(n, 10))
}

func putSignal(dst Sink, name string, v uint64, _ int) {
	if s := unix.SignalName(unix.Signal(v)); s != "" {
		dst.PutStr(name, s)
		return
	}
	// Real-time signals have no fixed names: the C library keeps the first of them for itself.
	dst.PutStr(name, "SIG"+strconv.FormatUint(v, 10))
}

func buildEnum(c *Column, f Field, o Options) error {
	if err := isNumber(f); err != nil {
		return err
	}
	values := o.Values
	negative := true
	if e, ok := btf.UnderlyingType(f.Type).(*btf.Enum); ok {
		negative = e.Signed
		if values == nil {
			values = make(map[int64]string, len(e.Values))
			for _, v := range e.Values {
				values[int64(v.Value)] = v.Name
			}
		}
	}
	if len(values) == 0 {
		return errors.New("the field is not an enum, and there are no values")
	}
	name := func(raw []byte) string {
		v := int64(readUint(raw))
		if negative {
			v = signed(readUint(raw), len(raw))
		}
		if s, ok := values[v]; ok {
			return s
		}
		return strconv.FormatInt(v, 10)
	}
	// Two numbers may share a name.
	c.identity = func(dst, raw []byte) []byte { return append(append(dst, name(raw)...), 0) }
	c.decode = func(dst Sink, key string, raw, _ []byte) { dst.PutStr(key, name(raw)) }
	return nil
}

// buildPort is for a __be16, as ports stand in headers and sockets; one in host order is a uint.
func buildPort(c *Column, f Field, _ Options) error {
	if f.Size != 2 {
		return errors.New("the field has not 2 bytes")
	}
	c.decode = func(dst Sink, name string, raw, _ []byte) { dst.PutInt(name, int64(binary.BigEndian.Uint16(raw))) }
	return nil
}

func buildIP(c *Column, f Field, _ Options) error {
	if f.Size != 4 && f.Size != 16 {
		return errors.New("the field has neither 4 nor 16 bytes")
	}
	// An IPv4-mapped address is shown as the IPv4 address that it is, and no other bytes look like it.
	c.decode = func(dst Sink, name string, raw, _ []byte) {
		if len(raw) == 4 {
			dst.PutStr(name, netip.AddrFrom4([4]byte(raw)).String())
			return
		}
		dst.PutStr(name, netip.AddrFrom16([16]byte(raw)).Unmap().String())
	}
	return nil
}

func buildMAC(c *Column, f Field, _ Options) error {
	if f.Size != 6 && f.Size != 8 {
		return errors.New("the field has neither 6 nor 8 bytes")
	}
	c.decode = func(dst Sink, name string, raw, _ []byte) { dst.PutStr(name, net.HardwareAddr(raw).String()) }
	return nil
}

// contents is a field's own bytes or, for a blob, those that it points at inside the record.
func contents(f Field) func(raw, record []byte) []byte {
	if s, ok := btf.UnderlyingType(f.Type).(*btf.Struct); !ok || s.Name != "blob" || f.Size != 4 {
		return func(raw, _ []byte) []byte { return raw }
	}
	return func(raw, record []byte) []byte {
		offset := int(binary.NativeEndian.Uint16(raw))
		end := offset + int(binary.NativeEndian.Uint16(raw[2:]))
		if end > len(record) {
			return nil
		}
		return record[offset:end]
	}
}

func buildHex(c *Column, f Field, _ Options) error {
	get := contents(f)
	c.decode = func(dst Sink, name string, raw, record []byte) {
		dst.PutStr(name, hex.EncodeToString(get(raw, record)))
	}
	return nil
}

func buildBytes(c *Column, f Field, _ Options) error {
	get := contents(f)
	c.decode = func(dst Sink, name string, raw, record []byte) { dst.PutBytes(name, get(raw, record)) }
	return nil
}

// text is bytes as a valid UTF-8 string, which protobuf insists on.
func text(b []byte) string {
	return valid(string(b))
}

// valid replaces what is no UTF-8. Nearly always there is nothing, which is found out much faster than it is replaced.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func cut(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

func buildString(c *Column, f Field, o Options) error {
	get := contents(f)
	// What stands after the end of a string is no part of it.
	c.identity = func(dst, raw []byte) []byte { return append(append(dst, cut(raw)...), 0) }
	c.decode = func(dst Sink, name string, raw, record []byte) {
		s := text(cut(get(raw, record)))
		if s == "" && c.omitZero {
			return
		}
		dst.PutStr(name, o.redact(s))
	}
	return nil
}

// buildStrings is for strings that end with a 0 each, as /proc/PID/cmdline has them.
func buildStrings(c *Column, f Field, o Options) error {
	get := contents(f)
	var list []string // kept from record to record
	c.decode = func(dst Sink, name string, raw, record []byte) {
		s := strings.TrimSuffix(text(get(raw, record)), "\x00")
		if s == "" && c.omitZero {
			return
		}
		list = list[:0]
		for more := true; more; {
			var v string
			v, s, more = strings.Cut(s, "\x00")
			list = append(list, o.redact(v))
		}
		dst.PutStrs(name, list)
		clear(list)
	}
	return nil
}

// buildPath is for path components that end with a 0 each, the leaf first, as a walk up the dentries finds them.
func buildPath(c *Column, f Field, o Options) error {
	get := contents(f)
	c.decode = func(dst Sink, name string, raw, record []byte) {
		b := get(raw, record)
		if len(b) == 0 {
			if !c.omitZero {
				dst.PutStr(name, "/")
			}
			return
		}
		dst.PutStr(name, o.redact(joinPath(b)))
	}
	return nil
}

func joinPath(b []byte) string {
	var out strings.Builder
	out.Grow(len(b) + 1)
	for end := len(b); end > 0; {
		if b[end-1] == 0 {
			end--
			if end == 0 {
				break
			}
		}
		start := bytes.LastIndexByte(b[:end], 0) + 1
		out.WriteByte('/')
		out.Write(b[start:end])
		end = start
	}
	return valid(out.String())
}

// processKey is the layout of struct process_key in bpf/include/task.h.
const (
	processKeySize = 32
	processKeyPID  = 8
	processKeyComm = 16
)

// buildProcess gives process.pid and process.executable.name. Two processes of one name that had the same pid one after
// the other are told apart by their start in the key, and are one series to whoever reads the attributes.
func buildProcess(c *Column, f Field, _ Options) error {
	if f.Size != processKeySize {
		return fmt.Errorf("the field has %d bytes, a struct process_key has %d", f.Size, processKeySize)
	}
	c.identity = func(dst, raw []byte) []byte {
		return append(append(append(dst, raw[processKeyPID:processKeyPID+4]...), cut(raw[processKeyComm:])...), 0)
	}
	c.decode = func(dst Sink, _ string, raw, _ []byte) {
		dst.PutInt("process.pid", int64(binary.NativeEndian.Uint32(raw[processKeyPID:])))
		dst.PutStr("process.executable.name", text(cut(raw[processKeyComm:])))
	}
	return nil
}

func buildContainer(c *Column, f Field, _ Options) error {
	if f.Size != 8 {
		return errors.New("the field is not a cgroup id of 8 bytes")
	}
	c.Entity = Container
	return nil
}

func buildTime(c *Column, f Field, o Options) error {
	if f.Size != 8 {
		return errors.New("the field is not a time of 8 bytes")
	}
	if o.Names == nil {
		return errNoNames
	}
	var formatter rfc3339
	c.decode = func(dst Sink, name string, raw, _ []byte) {
		dst.PutStr(name, formatter.format(o.Names.Wall(binary.NativeEndian.Uint64(raw))))
	}
	return nil
}

// redacted stands for what a redaction pattern matched.
const redacted = "[REDACTED]"

func (o *Options) redact(s string) string {
	for _, re := range o.Redact {
		if re.NumSubexp() == 0 {
			s = re.ReplaceAllLiteralString(s, redacted)
			continue
		}
		matches := re.FindAllStringSubmatchIndex(s, -1)
		for _, m := range slices.Backward(matches) {
			if m[2] >= 0 {
				s = s[:m[2]] + redacted + s[m[3]:]
			}
		}
	}
	return s
}
